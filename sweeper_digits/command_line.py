"""What surrounds Hydra on the command line: `resume=FOLDER` and `from_run=FOLDER`."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import OmegaConf

from sweeper_digits import screen
from sweeper_digits.errors import UserError

# Beside the package, as in a checkout.
CONF = Path(__file__).resolve().parents[1] / "conf"


def start(main: Callable[[], object]) -> None:
    """Run a Hydra main function; on bad input, print one line and exit with status 1.

    A traceback appears only for a defect, or with HYDRA_FULL_ERROR=1. Hydra itself would print errors in several
    lines, so it is told to raise them.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"

    def run() -> None:
        sys.argv[1:] = _with_past_run(sys.argv[1:])
        main()

    screen.exit_in_one_line(run)


def _with_past_run(arguments: list[str]) -> list[str]:
    """Put the overrides of the run that `resume=FOLDER` or `from_run=FOLDER` names in front of the arguments."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "resume" and value not in ("", "null"):
            saved = Path(value) / ".hydra" / "overrides.yaml"
            if not saved.is_file():
                raise UserError(f"resume={value}: no run folder there ({saved} is missing)")
            overrides = [str(override) for override in OmegaConf.load(saved)]
            return [o for o in overrides if not o.startswith("resume=")] + arguments
        if key == "from_run" and value not in ("", "null"):
            from sweeper_digits.runs import recipe

            # A worker composes from the sweep's own copy.
            given = "--config-path" in arguments
            conf = arguments[arguments.index("--config-path") + 1] if given else CONF
            folder = value.strip("'\"")
            return recipe.as_overrides(recipe.recipe_of_folder(folder, recipe.composer(conf)), arguments)
    return arguments
