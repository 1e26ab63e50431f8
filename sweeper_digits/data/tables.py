"""CSV tables: which columns are pixels, which one is the label and which one names the rows."""

import csv
import io
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from sweeper_digits.data.checks import MOST_CLASSES, as_pixels
from sweeper_digits.data.contents import Member
from sweeper_digits.data.kinds import REFUSED, kind_of, refusal
from sweeper_digits.data.pieces import DataPiece, Piece, Requested, is_emnist, name_and_part
from sweeper_digits.errors import UserError, closest

LABEL_NAMES = (
    "label",
    "labels",
    "class",
    "classes",
    "target",
    "targets",
    "digit",
    "y",
    "category",
    "letter",
    "character",
)
MANY = 30  # first cells that all differ are no labels: more than there are letters
IDS = {"id", "ids", "imageid", "image_id", "index", "idx", "key", "file", "filename", "file_name", "path", "image"}


@dataclass(frozen=True)
class Roles:
    """Places of columns.

    Attributes:
        pixels: In the order of the image.
        label: Or None where there is none, or where only the values can tell.
        id: What names the rows, or None.
        group: What names the groups, or None.
        either: Whether the first or the last of `pixels` is the label, which the values decide.
        notes: What was guessed.
    """

    pixels: list[int]
    label: int | None
    id: int | None
    group: int | None = None
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


def find_roles(
    names: Sequence[str] | None,
    rows: Sequence[Sequence[str]],
    wished: str | None,
    where: str,
    wished_group: str | None = None,
) -> Roles:
    """Say what each column is.

    Args:
        names: The header, or None without one.
        rows: The first rows.
        wished: The label's column as the user named it: a name, `first` or `last`.
        where: What is read, for messages.
        wished_group: The column of the groups as the user named it.

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
    group = column_named(plain, wished_group)
    columns = [c for c in columns if c != group]
    plain = {c: plain[c] for c in columns}
    label = label_by_name(plain, wished, where)
    if wished is not None:  # other columns of labels are left out
        columns = [c for c in columns if c == label or plain[c] not in LABEL_NAMES]
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
        if wished_group is not None and group is None:
            raise UserError(f"{where}: data.group={wished_group}: {no_column(wished_group, plain.values())}")
        raise UserError(f"{where}: {_refusal(names, plain, pixels, label)}")
    return Roles(_in_order(plain, pixels), label, ids[0] if ids else None, group, notes=notes)


def column_named(plain: Mapping[int, str], wished: str | None) -> int | None:
    """Return the place of a column; None if no column has this name.

    Args:
        plain: Place -> name, stripped and in lower case.
        wished: The name as the user wrote it.
    """
    return next((c for c, name in plain.items() if wished is not None and name == wished.strip().lower()), None)


def no_column(wished: str, plain: Iterable[str]) -> str:
    """Say that there is no such column, and which there are."""
    names = [name for name in plain if name]
    shown = ", ".join([*names[:6], *(["..."] if len(names) > 6 else [])])
    return f"no such column{closest(wished, names)}; it has {shown or 'no names'}"


def label_by_name(
    plain: dict[int, str], wished: str | None, where: str, labels: Sequence[str] = LABEL_NAMES
) -> int | None:
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
        if (place := column_named(plain, wished)) is None:
            raise UserError(f"{where}: data.label={wished}: {no_column(wished, plain.values())}")
        return place
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
    return _are_whole(*texts) and all(int(b) - int(a) == 1 for a, b in itertools.pairwise(texts))


SEPARATORS = (",", ";", "\t")
PEEK = 50  # rows that tell what a column is


def find_tables(members: Sequence[Member]) -> list[Piece]:
    """Return a piece for each table that has columns enough for images."""
    pieces = []
    for member in members:
        if member.kind == "table":
            name, part = name_and_part(member.name)
            read = partial(_read_member, member)
            pieces.append(Piece(name, part, (member.name,), member.where, read, is_emnist(member.name)))
    return pieces


def _read_member(member: Member, wish: Requested) -> DataPiece:
    return read_table(member.read(), member.where, wish)


def read_table(raw: bytes, where: str, wish: Requested) -> DataPiece:
    """Read a CSV file.

    The separator is a comma, a semicolon, a tab or blanks. A first row of words is the header.

    Raises:
        UserError: No such table; the message names the row and column of the first bad cell.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if (kind := kind_of(raw[:1000])) in REFUSED:
        raise UserError(refusal(kind, where))
    rows, separator = _first_rows(raw)
    ((count, _),) = Counter(map(len, rows)).most_common(1)
    rows = [row[:count] for row in rows]
    named = has_header(rows)
    if len(rows) == named:
        raise UserError(f"{where}: no rows below the header")
    roles = find_roles(rows[0] if named else None, rows[named:], wish.label, where, wish.group)
    header = rows[0] if named else None
    table = _Table(raw, separator, header, count)
    text = [place for place in (roles.label, roles.id, roles.group) if place is not None]
    frame = _read_numbers(table, roles, text, where, wish.white)
    images, labels, notes = frame[roles.pixels].to_numpy(), None, roles.notes
    if roles.either:
        labels, images, notes = _by_position(images, where)
    if roles.label is not None:
        labels = _labels(frame[roles.label].to_numpy(str))
        if (labels == "").any():
            row = int(np.argmax(labels == "")) + 1 + named
            raise UserError(f"{where}: row {row}, column {table.name(roles.label)}: an empty cell; a label is expected")
    ids = None if roles.id is None else tuple(frame[roles.id].str.strip())
    groups = None if roles.group is None else frame[roles.group].to_numpy(str)
    return DataPiece(images, labels, ids, notes=notes, groups=groups, lacks=no_column(wish.group or "", header or ()))


def _first_rows(raw: bytes) -> tuple[list[list[str]], str]:
    """Return the first rows as text, and what separates the cells."""
    text = raw[: _end_of_peek(raw)].decode("utf-8", errors="replace")
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    counts = {separator: lines[0].count(separator) for separator in SEPARATORS}
    separator = max(counts, key=lambda mark: counts[mark])
    if not counts[separator]:
        return [line.split() for line in lines], r"\s+"
    rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    if separator == ";":  # beside which decimals can have a comma
        rows = [[cell.replace(",", ".") for cell in row] for row in rows]
    return rows, separator


def _end_of_peek(raw: bytes) -> int:
    ends = [found.end() for found in itertools.islice(re.finditer(rb"[\r\n]+", raw), PEEK)]
    return ends[-1] if len(ends) == PEEK else len(raw)


class _Table:
    """The bytes of a table, from which columns are read by their places."""

    def __init__(self, raw: bytes, separator: str, header: list[str] | None, count: int) -> None:
        self.raw, self.separator, self.header, self.count = raw, separator, header, count
        self.encoding = "utf-8"
        try:
            raw.isascii() or raw.decode("utf-8")
        except UnicodeDecodeError:
            self.encoding = "latin-1"

    def name(self, place: int) -> str:
        named = self.header is not None and place < len(self.header)
        return repr(self.header[place]) if self.header is not None and named else f"{place + 1}"

    def read(self, types: dict[int, type], **options: object) -> pd.DataFrame:
        """Return columns, by their places."""
        return pd.read_csv(
            io.BytesIO(self.raw),
            sep=self.separator,
            header=None if self.header is None else 0,
            names=list(range(self.count)),
            usecols=list(types) if len(types) < self.count else None,  # with it, longer rows would pass
            dtype=types,
            index_col=False,
            keep_default_na=False,
            skipinitialspace=True,
            decimal="," if self.separator == ";" else ".",
            encoding=self.encoding,
            **options,
        )


def _read_numbers(table: _Table, roles: Roles, text: Sequence[int], where: str, white: float | None) -> pd.DataFrame:
    """Return the columns, those of text as they are, pixels as uint8, or as float32 where they are to be scaled."""
    kinds = (np.float32,) if white else (np.uint8, np.float32)  # the latter raises where a cell is no integer in 0-255
    for kind in kinds:
        try:
            frame = table.read({**dict.fromkeys(roles.pixels, kind), **dict.fromkeys(text, str)})
            if kind is np.float32 and not roles.either:
                as_pixels(frame[roles.pixels].to_numpy(), where, white=white)
            return frame
        except pd.errors.ParserError as error:
            raise UserError(f"{where}: {_plain(error)}") from error
        except (ValueError, OverflowError, UserError) as error:
            reason: Exception = error
    bad = _first_bad_cell(table, roles.pixels)
    raise UserError(f"{where}: {bad}" if bad else str(reason)) from reason


def _by_position(table: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return labels, pixels and notes of a table without a header: the first column is the label, if it can be."""
    fits = {name: _can_be_label(table[:, place]) for name, place in (("first", 0), ("last", -1))}
    name = "last" if fits["last"] and not fits["first"] else "first"
    if not any(fits.values()):
        raise UserError(
            f"{where}: neither the first nor the last of {table.shape[1]} columns can be the label; "
            "data.label=first or last says it"
        )
    other = "last" if name == "first" else "first"
    sure = not fits[other]
    notes = () if sure else (f"the {name} column was taken for the label; data.label={other} takes the {other}",)
    place, pixels = (0, table[:, 1:]) if name == "first" else (-1, table[:, :-1])
    return table[:, place].astype(np.int64), pixels, notes


def _can_be_label(column: np.ndarray) -> bool:
    """Return whether there are at least two whole numbers, each often enough for a class."""
    if not (column == np.round(column)).all():
        return False
    return 2 <= len(np.unique(column)) <= min(MOST_CLASSES, max(2, len(column) - 1))


def _labels(cells: np.ndarray) -> np.ndarray:
    """Return labels as they are written; decimals such as 6.0 are the whole numbers that they are."""
    cells = np.char.strip(cells)
    if np.char.isdecimal(cells).all():
        return cells
    missing = np.isin(np.char.lower(cells), ("nan", "null", "none", "na", "n/a", "?"))
    if missing.any() and not missing.all() and np.char.isdecimal(cells[~missing]).all():
        cells = np.where(missing, "", cells)
    numbers = pd.to_numeric(pd.Series(cells), errors="coerce").to_numpy()
    whole = np.isfinite(numbers) & (numbers == np.round(numbers))
    return numbers.astype(np.int64) if whole.all() else cells


def _first_bad_cell(table: _Table, places: list[int]) -> str:
    """Say which cell of the pixel columns is no pixel, or return an empty string.

    Where most are decimals from 0 to 1, a pixel is a number from 0 to 1, else a whole number from 0 to 255.
    """
    expected = "a whole number from 0 to 255"
    try:
        for cells in table.read(dict.fromkeys(places, str), chunksize=2000):
            every = cells[places].apply(pd.to_numeric, errors="coerce").to_numpy()
            if cells.index[0] == 0 and (every % 1 > 0).sum() > (every > 1).sum():
                expected = "a number from 0 to 1"
            for place in places:
                numbers = pd.to_numeric(cells[place], errors="coerce")
                good = numbers.between(0, 1) if "0 to 1" in expected else numbers.between(0, 255) & (numbers % 1 == 0)
                if not good.all():
                    row = int(np.argmin(good.to_numpy()))
                    value = cells[place].iloc[row]
                    found = f"{value!r}" if value else "an empty cell"
                    number = cells.index[row] + 1 + (table.header is not None)
                    return f"row {number}, column {table.name(place)}: {found}; expected {expected}"
    except ValueError as error:  # includes pandas' ParserError: rows of different lengths
        return _plain(error)
    return ""


def _plain(error: ValueError) -> str:
    """Return what pandas says of a table, in the words of the other messages."""
    text = " ".join(str(error).split())
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", text):
        return f"row {found[2]} has {found[3]} cells; {found[1]} are expected, as the rows before have"
    return text
