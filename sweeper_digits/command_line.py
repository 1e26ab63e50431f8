"""What surrounds Hydra on the command line: `resume=FOLDER`, `from_run=FOLDER`, and a folder for each run."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from sweeper_digits import screen
from sweeper_digits.errors import UserError
from sweeper_digits.runs.claim import check_free, claimed, locked
from sweeper_digits.runs.folder import RunFolder

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


class OwnFolder(Callback):
    """Give each run a folder of its own, before Hydra writes its configuration and the log there.

    A folder that is taken ends the program by SystemExit: of another exception, Hydra makes a warning.
    """

    def __init__(self) -> None:
        self.kept = contextlib.ExitStack()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the folder of a single run."""
        with _exit_on_user_error():
            self.kept.enter_context(claimed(config.hydra.run.dir, config.resume))

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Give the folder back."""
        self.kept.close()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the folder of a sweep by another sweeper than ours, which continues its sweeps."""
        if str(config.hydra.sweeper.get("_target_")).endswith("StudySweeper"):
            return
        folder = Path(config.hydra.sweep.dir).resolve()
        with _exit_on_user_error():
            self.kept.enter_context(locked(folder))
            for hydra in folder.rglob(".hydra"):
                check_free(RunFolder(hydra.parent), "choose another study or hydra.sweep.dir")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Give the folder back."""
        self.kept.close()


@contextlib.contextmanager
def _exit_on_user_error() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
