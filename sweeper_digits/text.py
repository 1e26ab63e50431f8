"""How times, numbers and names are written for people."""

import itertools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Texts that begin as a formula does in a spreadsheet, and those of them that are numbers.
FORMULA = re.compile(r"[=+\-@\t\r].", re.DOTALL)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-](inf|nan)", re.IGNORECASE)


def minutes(seconds: float) -> str:
    return "{}:{:02}".format(*divmod(round(seconds), 60))


def counted(number: int, noun: str, plural: str = "") -> str:
    """Write how many there are: `1 epoch`, `2,000 epochs`; the plural is the noun with an s unless it is given."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def brief(value: Any) -> str:
    """Write a setting in four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def interval_text(hint: Any) -> str:
    """Write the limits in an `Annotated` type, `[0, 1)`; empty if there are none."""
    nested = [getattr(one, "metadata", [one]) for one in getattr(hint, "__metadata__", ())]  # of Pydantic's Field
    found = {
        name: limit
        for one in itertools.chain(*nested)
        for name in ("gt", "ge", "lt", "le")
        if (limit := getattr(one, name, None)) is not None
    }
    if not found:
        return ""
    low, high = found.get("gt", found.get("ge", -math.inf)), found.get("lt", found.get("le", math.inf))
    return f"{'[' if 'ge' in found else '('}{_bound(low)}, {_bound(high)}{']' if 'le' in found else ')'}"


def _bound(value: float) -> str:
    """Write an integer with all its digits."""
    return str(value) if isinstance(value, int) else f"{value:g}"


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


def relative(path: Path) -> Path:
    """Write a path relative to the current folder if it lies below that folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def as_json(document: Any) -> str:
    """Return a document as JSON in lines: what is missing or no finite number is null, a path is text."""
    return json.dumps(_plain(document), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if hasattr(value, "tolist"):  # NumPy's
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)


def with_error(value: float, error: float | None, digits: int = 5) -> str:
    """Return `value ± error`, or the value alone if there is no error."""
    shown = f"{value:.{digits}g}"
    return shown if error is None or math.isnan(error) else f"{shown} ± {error:.2g}"
