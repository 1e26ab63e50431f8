"""A run again: the commands that repeat it, and its recipe as an experiment."""

import os
import re
from pathlib import Path

from hydra.errors import HydraException

from sweeper_digits import command_line, program, screen
from sweeper_digits.errors import UserError
from sweeper_digits.runs import recipe
from sweeper_digits.runs.origin import Origin, origin_of
from sweeper_digits.runs.record import Record


def command_of(best: Record) -> str:
    """Return the commands that repeat a run, one a line, or why there are none."""
    try:
        return repeated(best)
    except (UserError, HydraException) as error:  # of a run that is older than today's conf/
        return f"not with today's conf/: {str(error).splitlines()[0]}"


def repeated(best: Record) -> str:
    """Return the commands that repeat a run, and that train it with another seed, one a line.

    Raises:
        UserError: A run that today's conf/ cannot express; also HydraException.
    """
    origin, compose = _composed_from(best)
    again = f"from_run={recipe.override_text(os.path.relpath(best.run.folder))}"
    return f"{recipe.command_of(best, compose, origin)}\n{program.command('train', again, 'seed=1')}"


def promote(best: Record, name: str, replace: bool) -> tuple[Path, list[str]]:
    """Write a run's recipe as an experiment; return its file and the flags with which Hydra finds it.

    It goes into the user's folder that the run was composed from, or into conf/ of a checkout. An installed package
    stays as it is: conf/ in the current folder is used.

    Raises:
        UserError: No name of an option, a file that exists, or a run that today's conf/ cannot express.
    """
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise UserError(f"--promote {name}: it names an option; use letters, digits and '_'")
    origin, compose = _composed_from(best)
    experiment = recipe.experiment_of(best, compose)
    if not origin.paths and not program.is_checkout():
        origin = Origin((str(Path("conf").resolve()), *origin.folders), origin.name)
    folder = origin.paths[0] if origin.paths else command_line.CONF
    file = folder / "experiment" / f"{name}.yaml"
    if file.exists() and not replace:
        raise UserError(f"--promote {name}: {file} exists; choose another name, or add --force")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(experiment, encoding="utf-8")
    return file, origin.flags()


def _composed_from(best: Record) -> tuple[Origin, recipe.Compose]:
    origin = origin_of(best.run.folder)
    return origin, recipe.composer(command_line.CONF, origin, screen.printable(str(best.run.folder)))
