"""How the user starts this program: the commands that it prints are typed in the same way."""

import os
import shlex
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
SCRIPT = "sweeper-digits"  # of an installed package

# Whether a notebook, or another program, has called: its own command line is none of this program's.
is_called = False
# Whether this process runs a script again for what it defines, and is not to do what the script is for.
is_run_again = False


def command(verb: str, *arguments: str) -> str:
    """Return a command of this program as this user would type it.

    A user's own script that trains, `python mine.py`, stays the way to train. So does train.py, or it becomes that
    where it stands in the current folder.

    Args:
        verb: `train` or one of `python -m sweeper_digits --help`.
        arguments: What follows; they are quoted for the shell where they need it.
    """
    started = Path(_started())
    words = [*name(), verb]
    if verb == "train":
        if started.suffix == ".py" and started.name != "__main__.py":
            words = ["python", _started()]
        elif _is_own(Path("train.py")):
            words = ["python", "train.py"]
    return shlex.join([*words, *arguments])


def name() -> list[str]:
    """Return the words that stand before a verb."""
    return [SCRIPT] if Path(_started()).name == SCRIPT else ["python", "-m", "sweeper_digits"]


def same_command(arguments: list[str]) -> str:
    """Return the command line of this process as its user typed it, from what Python was given: `sys.orig_argv[1:]`."""
    if arguments and Path(arguments[0]).name == SCRIPT:
        return shlex.join([SCRIPT, *arguments[1:]])
    return shlex.join(["python", *arguments])


def importable(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment in which `python -m sweeper_digits` finds a checkout too, wherever it is started."""
    if not is_checkout():
        return environment
    others = environment.get("PYTHONPATH")
    return environment | {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *([others] if others else [])])}


def is_checkout() -> bool:
    """Return whether the package stands in a checkout, with conf/ beside it and not in it."""
    return not (PACKAGE / "conf").is_dir()


def _started() -> str:
    return str(PACKAGE / "__main__.py") if is_called else sys.argv[0]


def _is_own(script: Path) -> bool:
    own = PACKAGE.parent / "train.py"
    return is_checkout() and script.exists() and own.exists() and script.samefile(own)
