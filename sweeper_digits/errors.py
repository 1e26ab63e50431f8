"""The one error type that a user is meant to read, and the checks that raise it."""

import dataclasses
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException
from omegaconf import MISSING

INFINITY = float("inf")


class UserError(CompactHydraException):
    """Bad input: one line that says what is wrong, where, and what to do.

    Derives from Hydra's compact exception so that it stays one line inside a sweeper too.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows of it: in a notebook too, nothing but the line."""
        return [f"error: {self}"]


@dataclass(frozen=True)
class Range:
    """The values that a key may have: `Annotated[float, Range(0, 1)]`.

    Attributes:
        low: Least value allowed, or the excluded bound if `open_low`.
        high: Greatest value allowed, or the excluded bound if `open_high`.
        open_low: Whether low itself is excluded.
        open_high: Whether high itself is excluded.
    """

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __str__(self) -> str:
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"{left}{_written(self.low)}, {_written(self.high)}{right}"


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


def ranged(low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> Any:
    """Return a field of a dataclass without default, whose values have a range; see `Range` and `check_ranges`."""
    return dataclasses.field(default=MISSING, metadata={"range": Range(low, high, open_low, open_high)})


def check_ranges(prefix: str, instance: Any) -> None:
    """Raise a UserError unless each value of a dataclass is in the range of its field.

    Args:
        prefix: What stands before the name of a field on the command line, for example `split.`.
        instance: Of the dataclass; a field has a range by `ranged`, or as `metadata["range"]`.
    """
    for one in dataclasses.fields(instance):
        if allowed := one.metadata.get("range"):
            check_range(f"{prefix}{one.name}", getattr(instance, one.name), **dataclasses.asdict(allowed))


def check_range(
    key: str, value: float | None, low: float, high: float, *, open_low: bool = False, open_high: bool = False
) -> None:
    """Raise a UserError unless value is in the interval from low to high; None passes.

    Args:
        key: As a user types it on the command line.
        value: What was given.
        low: Least value allowed, or the excluded bound if `open_low`.
        high: Greatest value allowed, or the excluded bound if `open_high`.
        open_low: Whether low itself is excluded.
        open_high: Whether high itself is excluded.
    """
    if value is None:
        return
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    if not (above and below):  # also refuses NaN
        raise UserError(f"{key}={_written(value)}: must be in {Range(low, high, open_low, open_high)}")


def _written(value: float) -> str:
    """Write an integer with all its digits."""
    return str(value) if isinstance(value, int) else f"{value:g}"
