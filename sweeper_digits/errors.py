"""The one error type that a user is meant to read."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from hydra.errors import CompactHydraException


class UserError(CompactHydraException):
    """Bad input: a line that says what is wrong, where, and what to do; of a config, a line for each fault.

    Derives from Hydra's compact exception so that it stays one line inside a sweeper too.

    Attributes:
        lines: The lines.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows of it: in a notebook too, nothing but the line."""
        return [f"error: {self}"]


class OtherData(UserError):
    """The data of a study changed since the study began: none of its trials can run."""


class Diverged(UserError):
    """The loss became NaN or infinite."""

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch  # counted from 0


def closest(name: str, options: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for a misspelt option, or an empty string."""
    close = difflib.get_close_matches(name, list(options), n=2)
    return f" (did you mean {' or '.join(repr(option) for option in close)}?)" if close else ""


def place_of(file: str, line: int) -> str:
    """Write a place in a file of code, relative to the current folder if it lies below that folder."""
    path = Path(file)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{line}"
