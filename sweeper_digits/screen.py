"""What a person sees: one-line errors, and how times, numbers and paths are written."""

import atexit
import contextlib
import gc
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from sweeper_digits.errors import UserError, closest
from sweeper_digits.registry import options_of, unset_hint
from sweeper_digits.signature import KINDS

# Read once: `command_line.launch` sets the variable for Hydra's sake.
SHOW_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")

# Groups to which a user can add options.
OPEN_GROUPS = {kind.group for kind in KINDS.values()}

# Objects that are made between two searches for garbage; Python's own 700 search the imports of Keras for a second.
OBJECTS_BETWEEN_COLLECTIONS = 50_000

# Texts that begin as a formula does in a spreadsheet, and those of them that are numbers.
FORMULA = re.compile(r"[=+\-@\t\r].", re.DOTALL)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-](inf|nan)", re.IGNORECASE)

# Lines of Hydra's and OmegaConf's messages that repeat other lines or mislead.
HYDRA_NOISE = ("full_key:", "reference_type=", "object_type=", "To append to your config use")


def exit_in_one_line(do: Callable[[], object]) -> None:
    """Call `do`; on bad input print one line and exit with status 1, on Ctrl-C exit with status 130."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    atexit.register(gc.freeze)  # a process that ends would search all its modules for garbage, for another second
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal cannot show, for example ± in ASCII
    # Of a reader that is gone, `train.py | head -1`, logging would print a traceback for each line.
    logging.raiseExceptions = SHOW_TRACEBACK
    logging.setLogRecordFactory(Message)
    try:
        do()
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `compare | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        sys.exit(1)
    except Exception as error:
        if (line := bad_input(error)) is None:
            raise
        sys.exit(f"error: {line}")


def bad_input(error: Exception) -> str | None:
    """Return the line for a user who gave bad input; None for a defect, or if HYDRA_FULL_ERROR is set."""
    if SHOW_TRACEBACK:
        return None
    if isinstance(error, HydraException | OmegaConfBaseException | OSError | yaml.YAMLError):
        return one_line(error)
    if isinstance(error, ValueError) and isinstance(error.__cause__, OSError):
        return one_line(error.__cause__)  # logging's, of a log that cannot be written
    return None


@contextlib.contextmanager
def job_errors() -> Iterator[None]:
    """End a single run at once on bad input; let a sweep see the exception instead.

    Hydra prints a line of its own for an exception that leaves a job, so a single run
    leaves by SystemExit, which Hydra does not catch.
    """
    logging.setLogRecordFactory(Message)  # a launcher may have started this process
    try:
        yield
    except (HydraException, OmegaConfBaseException, OSError) as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN or SHOW_TRACEBACK:
            raise
        sys.exit(f"error: {one_line(error)}")


def minutes(seconds: float) -> str:
    """Write a duration as minutes:seconds."""
    return "{}:{:02}".format(*divmod(round(seconds), 60))


def counted(number: int, noun: str, plural: str = "") -> str:
    """Write how many there are: `1 epoch`, `2,000 epochs`; the plural is the noun with an s unless it is given."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def brief(value: Any) -> str:
    """Write a setting in four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def printable(text: str, kept: str = "") -> str:
    """Replace what would control a terminal, and bytes of a name that are no text.

    Args:
        text: The text.
        kept: Characters that stay though they control it, for example those that end a line.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in kept else "\N{REPLACEMENT CHARACTER}" for one in text)


def no_formula(value: Any) -> Any:
    """Return a cell of a CSV file, a text that a spreadsheet would take for a formula behind an apostrophe.

    A number stays one, also in a text, and so does a sign that stands alone, which may be the name of a class.
    """
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value) else value


class Message(logging.LogRecord):
    """What is logged, so that it controls no terminal, neither now nor when its file is looked at."""

    def getMessage(self) -> str:
        """Return the text."""
        return printable(super().getMessage(), "\n\t")


class Printed:
    """A stream that shows what would control a terminal as a sign, for programs that print what strangers wrote.

    Args:
        beneath: The stream that is written to.
    """

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)

    def write(self, text: str) -> int:
        """Write a text."""
        return self.beneath.write(printable(text, "\n\t"))


def beneath(stream: TextIO) -> TextIO:
    """Return the stream itself, for who colours its own words or moves the cursor."""
    return stream.beneath if isinstance(stream, Printed) else stream


@contextlib.contextmanager
def printed() -> Iterator[None]:
    """Let nothing that is printed control the terminal."""
    out, error = (cast(TextIO, Printed(stream)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        yield


def relative(path: Path) -> Path:
    """Write a path relative to the current folder if it lies below that folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def one_line(error: Exception) -> str:
    """Write what a user is to read of an error, in a line that controls no terminal."""
    return printable(_said(error))


def _said(error: Exception) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        if known := sorted(error.options or options_of(group)):  # of a list of options Hydra does not say it
            own = unset_hint() if group in OPEN_GROUPS else ""
            return f"{group}={name}: no such option{closest(name, known)}; choose from {', '.join(known)}{own}"
    if isinstance(error, FileExistsError) and error.filename:
        return f"{error.filename}: a file is where a folder is needed; move it away"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OverrideParseException):
        return _unparsed(str(error.override))
    lines = [str(error)] + ([str(error.__cause__)] if error.__cause__ and not isinstance(error, UserError) else [])
    if found := re.search(r"'(\w+)\.(\w+)'.*Key '\2' (?:is )?not in '(\w+)'", " ".join(lines), re.DOTALL):
        group, key, kind = found.groups()
        if near := closest(key, options_of(group)[kind].keys) if kind in options_of(group) else "":
            return f"{group}.{key}: {kind}, the chosen {group}, has no such key{near}"
        if having := [name for name, part in options_of(group).items() if key in part.keys]:
            return f"{group}.{key}: {kind}, the chosen {group}, has no such key; choose {group}={'|'.join(having)}"
    if found := re.search(r"'callbacks\.(\w+)\..*Key '\1' is not in struct", " ".join(lines), re.DOTALL):
        return f"callbacks.{found[1]}: not chosen; add callbacks=[{found[1]}]"
    parts = [part.strip().rstrip(".") for line in lines for part in line.splitlines() if part.strip()]
    return "; ".join(dict.fromkeys(part for part in parts if not part.startswith(HYDRA_NOISE)))


def _unparsed(override: str) -> str:
    """Write that an override is not in Hydra's grammar, and what to type instead."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: an override has the form KEY=VALUE, for example epochs=10"
    if value.startswith("choice("):
        return f"{override}: not in Hydra's grammar; list the values instead, for example {key}={value[7:-1] or '1,2'}"
    return f"{override}: not in Hydra's grammar; a text of other characters is quoted twice: '{key}=\"{value}\"'"
