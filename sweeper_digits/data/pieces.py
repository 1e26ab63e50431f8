"""The data sets found in a path, in pieces: a training part, a test part or all of one; and the choice among them."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from sweeper_digits.errors import UserError, closest

PARTS = {
    **dict.fromkeys(("train", "training", "tr", "tra"), "train"),
    **dict.fromkeys(("test", "testing", "te", "tes", "t10k"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}
# Words of a file's name that do not name the data set.
FILLERS = re.compile(
    r"images?|imgs?|labels?|set|idx\d?|ubyte|int|csv|tsv|txt|gz|zip|np[yz]|parquet|mat|h5|hdf5|of|\d{5}"
)
MOST_LISTED = 8


@dataclass(frozen=True)
class DataPiece:
    """Arrays as a file has them.

    Attributes:
        images: In a form that `checks.as_pixels` takes.
        labels: In a form that `checks.as_labels` takes, or None.
        ids: What names each image, or None.
        names: What to call the labels 0, 1, 2, ..., or None.
        notes: What was changed or guessed, a line each.
        white: What became 255 in pictures of more than 8 bits, or None.
        groups: What names the group of each image, or None.
        lacks: Why there are no groups where the user named some.
    """

    images: np.ndarray
    labels: np.ndarray | None
    ids: Sequence[str] | None = None
    names: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    white: float | None = None
    groups: np.ndarray | None = None
    lacks: str = "no groups: they are a column of a table, an array, or a level of folders"


@dataclass(frozen=True)
class Requested:
    """The user's wishes: the column of the labels, the side of the images, the value that is white, the groups."""

    label: str | None = None
    size: int | None = None
    white: float | None = None
    group: str | None = None


@dataclass(frozen=True)
class Piece:
    """A data set, or a part of one, that has not been read yet.

    Attributes:
        name: The name of the data set; its parts share it; empty for the only one.
        part: `train`, `test`, `validation`, or empty for one that is not divided.
        files: Their names, below the path.
        where: Its path, for messages.
        read: Reads it.
        transposed: Whether rows and columns of its images are exchanged.
    """

    name: str
    part: str
    files: tuple[str, ...]
    where: str
    read: Callable[[Requested], DataPiece]
    transposed: bool = False

    def answers(self, member: str) -> bool:
        """Return whether `data.member` means this piece."""
        return any(name == member or name.endswith(f"/{member}") for name in (self.name, *self.files))


def words_of(name: str) -> list[str]:
    """Return the words of a name, in lower case: of `trainImages_2` train, images, 2."""
    return re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def is_emnist(name: str) -> bool:
    """Return whether a file's name says EMNIST, whose IDX, CSV and .mat files hold images transposed."""
    return "emnist" in words_of(name)


def name_and_part(path: str) -> tuple[str, str]:
    """Return the name of the data set that a file belongs to, and which part of it the file is.

    The part is said by the file's name, or by the nearest folder that says one.
    """
    rest, part = [], ""
    for component in reversed(PurePosixPath(path).parts):
        words = words_of(component)
        parts = {PARTS[word] for word in words if word in PARTS}
        if not part and len(parts) == 1:
            (part,) = parts
        kept = [word for word in words if word not in PARTS and not FILLERS.fullmatch(word)]
        rest.append("-".join(kept))
    return "/".join(name for name in reversed(rest) if name), part


def choose(pieces: Sequence[Piece], path: str, part: str, member: str | None, alone: bool) -> list[Piece]:
    """Return the pieces that are meant: one, or all parts of one data set.

    Args:
        pieces: What was found.
        path: Where, as the user typed it.
        part: `train`, `test` or `all`.
        member: The data set, or the file, that the user named.
        alone: Whether the path is one file: it is read as its training part, whatever its name says.

    Raises:
        UserError: None is meant, or more than one data set can be.
    """
    meant = [piece for piece in pieces if member is None or piece.answers(member)]
    names = list(dict.fromkeys(piece.name for piece in meant))
    if not meant:
        every = _listed(pieces)
        raise UserError(f"data.member={member}: not in {path}{closest(member or '', every)}; it has {_short(every)}")
    if len(names) > 1:
        every = _listed(meant)
        raise UserError(f"{path}: {len(names)} data sets: {_short(every)}; choose one: data.member={_first(every)}")
    if len(meant) == 1 and (meant[0].part == "" or alone) and part != "test":
        return meant
    chosen = [piece for piece in meant if part in ("all", piece.part) or (part == "train" and not piece.part)]
    if not chosen:
        raise UserError(f"{path}: no {part} part; {_advice(meant)}")
    for piece in chosen:
        if len(same := [other for other in chosen if other.part == piece.part]) > 1:
            every = [other.files[0] for other in same]
            raise UserError(f"{path}: {len(same)} can be meant: {_short(every)}; choose: data.member={_first(every)}")
    return chosen


def _advice(meant: Sequence[Piece]) -> str:
    parts = sorted({piece.part for piece in meant})
    if parts == [""]:
        return "it is not divided; leave data.part out to read it all"
    takes = next((part for part in ("train", "test") if part in parts), "all")
    return f"it has {', '.join(part or 'one without a name' for part in parts)}; add data.part={takes}"


def _listed(pieces: Iterable[Piece]) -> list[str]:
    return list(dict.fromkeys(piece.name or piece.files[0] for piece in pieces))


def _short(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_LISTED]) + (
        f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    )


def _first(names: Sequence[str]) -> str:
    return names[0] if re.fullmatch(r"[A-Za-z_][\w./-]*", names[0], re.ASCII) else f"'\"{names[0]}\"'"
