"""What a command line composes, in this process: what the program prints with `--cfg job` and `--cfg all`."""

from typing import Any

from omegaconf import OmegaConf

from sweeper_digits import command_line
from sweeper_digits.runs import recipe


def everything(*arguments: str) -> Any:
    """The config that a command line composes, in the current folder, with Hydra's own part."""
    taken = command_line.as_hydra_takes(list(arguments))
    return command_line.composed(taken, command_line.what_to_compose_from(taken))


def job(*arguments: str) -> dict[str, Any]:
    """The config of the run."""
    composed: Any = OmegaConf.to_container(recipe.without_hydra(everything(*arguments)))
    return composed
