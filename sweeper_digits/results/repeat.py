"""A run again: the commands that repeat it, and its recipe as an experiment."""

import os
import re
from pathlib import Path

from hydra.errors import HydraException

from sweeper_digits import command_line, program
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_text
from sweeper_digits.runs import recipe
from sweeper_digits.runs.record import Record
from sweeper_digits.text import printable


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
    again = f"from_run={override_text(os.path.relpath(best.run.folder))}"
    commands = recipe.command_of(best, recipe.composer(command_line.CONF)), program.command("train", again, "seed=1")
    return "\n".join(map(printable, commands))


def promote(best: Record, name: str, replace: bool) -> tuple[Path, list[str]]:
    """Write a run's recipe as an experiment; return its file and the flags with which Hydra finds it.

    It goes into conf/ of a checkout. An installed package stays as it is: conf/ in the current folder is used.

    Raises:
        UserError: No name of an option, a file that exists, or a run that today's conf/ cannot express.
    """
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise UserError(f"--promote {name}: it names an option; use letters, digits and '_'")
    experiment = recipe.experiment_of(best, recipe.composer(command_line.CONF))
    folder, flags = command_line.CONF, []
    if not program.is_checkout():
        folder, flags = Path("conf"), ["--config-dir", "conf"]
    file = folder / "experiment" / f"{name}.yaml"
    if file.exists() and not replace:
        raise UserError(f"--promote {name}: {file} exists; choose another name, or add --force")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(experiment, encoding="utf-8")
    return file, flags
