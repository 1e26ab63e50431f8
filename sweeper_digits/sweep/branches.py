"""The options that a sweep chooses from: whether they exist, and which parameters each has."""

from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from sweeper_digits.errors import UserError, closest
from sweeper_digits.sweep.finite import Owners

if TYPE_CHECKING:
    from sweeper_digits.sweep.space import Sweep


def owners_of(sweep: "Sweep") -> Owners:
    """Return which options have the parameters that not all options have.

    Raises:
        UserError: An option that does not exist, or a parameter that no option has.
    """
    for name, choices in sweep.choices.items():
        options = sweep.loader.get_group_options(name.lstrip("+"))
        for choice in choices:
            if choice not in options:
                raise UserError(
                    f"{name}={choice}: no such option{closest(str(choice), options)}; "
                    f"choose from {', '.join(sorted(options))}"
                )
    owners: Owners = {}
    found = sweep.parameters(sweep.first_choices)
    for group, choices in sweep.choices.items():
        having = {choice: sweep.parameters(sweep.first_choices | {group: choice}) for choice in choices}
        found = found.union(*having.values())
        for name in sweep.distributions:
            options = [choice for choice in choices if name in having[choice]]
            if 0 < len(options) < len(choices):
                owners.setdefault(name, {})[group] = options
    for name in sweep.distributions:
        if name not in found:
            known = [f"{key}.{sub}" for key in map(str, sweep.config) for sub in _keys(sweep.config[key])]
            raise UserError(f"{name}: no option of the search space has this key{closest(name, known)}")
    return owners


def has(config: DictConfig, name: str) -> bool:
    """Return whether a config has a key, be it one whose value is missing."""
    node: Any = config
    for part in name.lstrip("+").split("."):
        if not OmegaConf.is_dict(node) or part not in node.keys():  # noqa: SIM118 - `in` is False for a missing value
            return False
        node = None if OmegaConf.is_missing(node, part) else node[part]
    return True


def _keys(node: Any) -> list[str]:
    return [str(key) for key in node] if OmegaConf.is_dict(node) else []
