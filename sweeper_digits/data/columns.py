"""Which columns of a table are pixels, which one is the label and which one names the rows."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sweeper_digits.errors import UserError, closest

LABELS = ("label", "labels", "class", "classes", "target", "targets", "digit", "y", "category", "letter", "character")
MANY = 30  # first cells that all differ are no labels: more than there are letters
IDS = {"id", "ids", "imageid", "image_id", "index", "idx", "key", "file", "filename", "file_name", "path", "image"}


@dataclass(frozen=True)
class Roles:
    """Places of columns.

    Attributes:
        pixels: In the order of the image.
        label: Or None where there is none, or where only the values can tell.
        id: What names the rows, or None.
        either: Whether the first or the last of `pixels` is the label, which the values decide.
        notes: What was guessed.
    """

    pixels: list[int]
    label: int | None
    id: int | None
    either: bool = False
    notes: tuple[str, ...] = ()


def is_image(number: int) -> bool:
    """Return whether so many values are a square image, grey or RGB, of at least 8x8 pixels."""
    return any(number % channels == 0 and _is_square(number // channels) for channels in (1, 3))


def _is_square(number: int) -> bool:
    return number >= 64 and math.isqrt(number) ** 2 == number


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row names the columns: by words, or by the numbers 0, 1, 2, ...

    One word among numbers is the label of a first row of data.
    """
    first = [cell for cell in rows[0] if cell.strip()]
    numbers = [cell for cell in first if _is_number(cell)]
    if len(numbers) < len(first) - 1:
        return True
    steps = Counter(int(b) - int(a) for a, b in itertools.pairwise(numbers) if _are_whole(a, b))
    return steps[1] > 0.9 * len(numbers) and len(set(numbers)) > 1


def find_roles(names: Sequence[str] | None, rows: Sequence[Sequence[str]], wished: str | None, where: str) -> Roles:
    """Say what each column is.

    Args:
        names: The header, or None without one.
        rows: The first rows.
        wished: The label's column as the user named it: a name, `first` or `last`.
        where: What is read, for messages.

    Raises:
        UserError: The columns that are left are no image; the message names those that look like no pixels.
    """
    count = max(map(len, rows), default=len(names or ()))
    names = None if names is None else [*names, *[""] * (count - len(names))]
    columns = [
        c for c in range(count) if (names and names[c].strip()) or any(c < len(r) and r[c].strip() for r in rows)
    ]
    if names is None:
        return _without_names(columns, rows, wished, where)
    plain = {c: names[c].strip().lower() for c in columns}
    label = label_by_name(plain, wished, where)
    if wished is not None:  # other columns of labels are left out
        columns = [c for c in columns if c == label or plain[c] not in LABELS]
    ids = [c for c in columns if c != label and (plain[c] in IDS or not plain[c] or plain[c].startswith("unnamed:"))]
    pixels = [c for c in columns if c != label and c not in ids]
    notes: tuple[str, ...] = ()
    if label is None and not is_image(len(pixels)):
        odd = _odd(plain, pixels)
        if len(odd) == 1 and is_image(len(pixels) - 1) and odd[0] in (pixels[0], pixels[-1]):
            label = odd[0]
            pixels.remove(label)
            notes = (f"column {names[label]!r} was taken for the label; data.label=NAME names another",)
    if not is_image(len(pixels)) or 0 < len(_odd(plain, pixels)) < len(pixels) / 10:
        raise UserError(f"{where}: {_refusal(names, plain, pixels, label)}")
    return Roles(_in_order(plain, pixels), label, ids[0] if ids else None, notes=notes)


def label_by_name(plain: dict[int, str], wished: str | None, where: str, labels: Sequence[str] = LABELS) -> int | None:
    """Return the place of the column with the labels; None if no name tells.

    Args:
        plain: Place -> name, stripped and in lower case.
        wished: data.label.
        where: What errors begin with.
        labels: Names that columns of labels have.

    Raises:
        UserError: There is no such column, or several may be meant.
    """
    if wished in ("first", "last"):
        return min(plain) if wished == "first" else max(plain)
    if wished is not None:
        found = [c for c, name in plain.items() if name == wished.strip().lower()]
        if not found:
            names = [name for name in plain.values() if name]
            shown = ", ".join([*names[:6], *(["..."] if len(names) > 6 else [])])
            raise UserError(
                f"{where}: data.label={wished}: no such column{closest(wished, names)}; it has {shown or 'no names'}"
            )
        return found[0]
    found = [c for c, name in plain.items() if name in labels]
    if len(found) > 1:
        every = [plain[c] for c in found]
        raise UserError(f"{where}: the label can be column {' or '.join(every)}; choose: data.label={every[0]}")
    return found[0] if found else None


def _without_names(columns: list[int], rows: Sequence[Sequence[str]], wished: str | None, where: str) -> Roles:
    id_column = None
    if len(columns) > 1 and not is_image(len(columns)) and not is_image(len(columns) - 1):
        first = [row[columns[0]] for row in rows]
        if is_image(len(columns) - 2) and len(rows) > 1 and _are_counted(first):
            id_column, columns = columns[0], columns[1:]
    if wished not in (None, "first", "last"):
        raise UserError(f"{where}: data.label={wished}: the columns have no names; data.label=first or last")
    if is_image(len(columns)) and wished is None:
        return Roles(columns, None, id_column)
    if not is_image(len(columns) - 1):
        raise UserError(
            f"{where}: {len(columns)} columns without names; expected a square number of pixels, and a label"
        )
    if wished is None and _are_ids([row[columns[0]] for row in rows]):
        return Roles(columns[1:], None, columns[0])
    text = [c for c in (columns[0], columns[-1]) if any(not _is_number(row[c]) for row in rows if c < len(row))]
    if wished or len(text) == 1:
        label = {"first": columns[0], "last": columns[-1], None: text[0] if text else 0}[wished]
        return Roles([c for c in columns if c != label], label, id_column)
    return Roles(columns, None, id_column, either=True)


def _odd(plain: dict[int, str], pixels: list[int]) -> list[int]:
    """Return the columns that are not named as most are, but for the numbers."""
    stems = {c: re.sub(r"\d+", "#", plain[c]) for c in pixels}
    if not stems:
        return []
    ((usual, _),) = Counter(stems.values()).most_common(1)
    return [c for c in pixels if stems[c] != usual]


def _refusal(names: Sequence[str], plain: dict[int, str], pixels: list[int], label: int | None) -> str:
    odd = [names[c] for c in _odd(plain, pixels)]
    found = f"{len(pixels)} pixel columns" + (f" beside the label {names[label]!r}" if label is not None else "")
    if odd and len(odd) < len(pixels) / 2:
        shown = ", ".join(repr(name) for name in odd[:5]) + (" ..." if len(odd) > 5 else "")
        found = f"{len(pixels) - len(odd)} pixel columns, and {shown}"
    return f"{found}; expected a square number of pixels, and a label that data.label=NAME can name"


def _in_order(plain: dict[int, str], pixels: list[int]) -> list[int]:
    """Return the pixel columns in the order of the numbers in their names, where all have them."""
    numbers = {c: tuple(map(int, re.findall(r"\d+", plain[c]))) for c in pixels}
    lengths = set(map(len, numbers.values()))
    if len(lengths) != 1 or lengths == {0} or len(set(numbers.values())) < len(pixels):
        return pixels
    return sorted(pixels, key=lambda c: numbers[c])


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _are_whole(*texts: str) -> bool:
    return all(text.strip().isdecimal() for text in texts)


def _are_ids(texts: Sequence[str]) -> bool:
    """Return whether the first cells name the rows: all of many differ, and are text or numbers that count up."""
    different = len(texts) >= MANY and len(set(texts)) == len(texts)
    return different and (_are_counted(texts) or not any(map(_is_number, texts)))


def _are_counted(texts: Sequence[str]) -> bool:
    """Return whether the texts are n, n+1, n+2, ..."""
    return _are_whole(*texts) and all(int(b) - int(a) == 1 for a, b in itertools.pairwise(texts))
