"""Arrays by their names: .npz and .npy here, .mat and .h5 from their modules; which are images, which their labels."""

import io
import itertools
import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import IO

import numpy as np

from sweeper_digits.data.checks import SIDES
from sweeper_digits.data.contents import Member, check_size, read_header
from sweeper_digits.data.pieces import PARTS, DataPiece, Piece, Requested, is_emnist, name_and_part, words_of
from sweeper_digits.errors import UserError

IMAGES = {
    *("x", "images", "image", "imgs", "img", "data", "features", "pixels", "pictures", "inputs", "input", "digits")
}
LABELS = {*("y", "labels", "label", "lbls", "target", "targets", "class", "classes")}
KINDS = {"b": "bool", "u": "integer", "i": "integer", "f": "float", "U": "text", "S": "text", "c": "complex"}
NUMBERED = re.compile(r"arr_\d+")  # what np.savez calls arrays without names
JOINED = re.compile(r"(x|y)(train|test|val|tr|te)|(train|test|val)(x|y)")
UNREADABLE = (
    TypeError,
    ValueError,
    OSError,
    EOFError,
    MemoryError,
    RuntimeError,
    KeyError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Named:
    """An array in a file, not read yet.

    Attributes:
        name: With the file's name before it where the file has only this one.
        file: Its file, below the path.
        where: Its file, for messages.
        shape: The shape of the array.
        kind: `dtype.kind` of the array.
        read: Reads it.
        note: What was changed in it.
    """

    name: str
    file: str
    where: str
    shape: tuple[int, ...]
    kind: str
    read: Callable[[], np.ndarray]
    note: str = ""

    @property
    def words(self) -> list[str]:
        """Return the words of the name: of `x_train` and of `xtrain` x and train."""
        return [part for word in words_of(self.name) for part in _apart(word)]

    @property
    def part(self) -> str:
        """Return which part the array is of, by its own name or the name of its file."""
        own = {PARTS[word] for word in self.words if word in PARTS}
        return own.pop() if len(own) == 1 else name_and_part(self.file)[1]

    @property
    def key(self) -> tuple[str, ...]:
        """Return the words that images and labels have in common."""
        return tuple(word for word in self.words if word not in PARTS and word not in IMAGES and word not in LABELS)

    @property
    def is_images(self) -> bool:
        """Return whether it has the shape of images: sides of at least 8, or the name of images."""
        if self.kind not in "buif":
            return False
        if len(self.shape) == 2:
            return self.shape[1] >= 64 and not LABELS & set(self.words)
        large = sum(side >= SIDES[0] for side in self.shape[1:]) >= 2
        return len(self.shape) > 2 and (large or bool(IMAGES & set(self.words)))

    @property
    def is_labels(self) -> bool:
        return len(self.shape) == 1 or (len(self.shape) == 2 and not self.is_images)


def find_arrays(arrays: Sequence[Named]) -> list[Piece]:
    """Return a piece for each array of images.

    Labels are in the same file; where each file has one array, they are in another file of the same folder.
    """
    counts = Counter(array.file for array in arrays)
    groups: dict[str, list[Named]] = {}
    for array in arrays:
        alone = counts[array.file] == 1
        groups.setdefault(str(PurePosixPath(array.file).parent) if alone else array.file, []).append(array)
    return [piece for group in groups.values() for piece in _pieces(group)]


def list_npz(member: Member) -> list[Named]:
    """Return the arrays of a .npz or .npy file; of arrays that only a pickle can hold, nothing is read.

    Raises:
        UserError: Not readable, or too large.
    """
    raw = member.read()
    stem = member.name.removesuffix(".gz").removesuffix(".npy").removesuffix(".npz")
    try:
        if member.kind == "npy":
            return [_named(stem, member, partial(io.BytesIO, raw))]
        archive = zipfile.ZipFile(io.BytesIO(raw))
        names = archive.namelist()
        check_size(sum(info.file_size for info in archive.infolist()), member.where)
        if len(names) == 1 and names[0].startswith("arr_0"):
            return [_named(stem, member, partial(archive.open, names[0]))]
        return [_named(name.removesuffix(".npy"), member, partial(archive.open, name)) for name in names]
    except UNREADABLE as error:
        raise UserError(f"{member.where}: not a readable .npz or .npy file ({error})") from error


def _named(name: str, member: Member, opens: Callable[[], IO[bytes]]) -> Named:
    with opens() as stream:
        shape, dtype = read_header(stream)
    if dtype.hasobject:
        raise UserError(
            f"{member.where}: array {name!r} is a pickle, which is never loaded; save it as numbers or text"
        )
    check_size(math.prod(shape) * dtype.itemsize, f"{member.where}: array {name!r}")

    def load() -> np.ndarray:
        try:
            with opens() as again:
                return np.lib.format.read_array(again, allow_pickle=False)
        except UNREADABLE as error:
            raise UserError(f"{member.where}: not a readable .npz or .npy file ({error})") from error

    return Named(name, member.name, member.where, shape, dtype.kind, load)


def describe(arrays: Sequence[Named]) -> str:
    """Return the names, shapes and types of arrays, for messages."""
    return ", ".join(f"{array.name} {array.shape} {KINDS.get(array.kind, 'other')}" for array in arrays[:8]) or "none"


def _pieces(arrays: Sequence[Named]) -> list[Piece]:
    """Return a piece for each array of images among these; others with the same number of pixels are copies."""
    if all(NUMBERED.fullmatch(array.name) for array in arrays):
        return _numbered_pieces(arrays)
    images: dict[tuple[tuple[str, ...], str], Named] = {}
    for array in sorted(arrays, key=lambda array: len(array.shape)):
        if array.is_images:
            images[array.key, array.part] = array
    others = [array for array in arrays if array.is_labels and array not in images.values()]
    return [_piece(one, _labels_of(one, others), part, one.key, others) for (_, part), one in images.items()]


def _numbered_pieces(arrays: Sequence[Named]) -> list[Piece]:
    """Return the pieces of arr_0, arr_1, ...: each images with the next labels; of two, the second is the test part."""
    images = [array for array in arrays if array.is_images]
    labels = [array for array in arrays if array.is_labels]
    parts = {2: ("train", "test"), 3: ("train", "validation", "test")}.get(
        len(images), (name_and_part(arrays[0].file)[1],)
    )
    pairs = itertools.zip_longest(images, labels[: len(images)], parts[: len(images)], fillvalue=None)
    return [_piece(one, own, part or "", (), labels) for one, own, part in pairs if one is not None]


def _piece(images: Named, labels: Named | None, part: str, key: tuple[str, ...], others: Sequence[Named]) -> Piece:
    folder, _ = name_and_part(images.file)
    name = "/".join(part for part in (folder, "-".join(key)) if part)
    files = tuple(dict.fromkeys(array.file for array in (images, labels) if array is not None))
    transposed = is_emnist(images.file) and images.file.lower().endswith(".mat")
    return Piece(name, part, files, images.where, partial(_read, images, labels, others), transposed)


def _labels_of(images: Named, labels: Sequence[Named]) -> Named | None:
    """Return the labels of some images: of the same part and as many, with the same words in the name if need be."""
    parted = [array for array in labels if array.part == images.part]
    fitting = [array for array in parted if array.shape[0] == images.shape[0]]
    same = [array for array in fitting if array.key == images.key] or fitting
    if not same:  # others, if that is what they are called: to be refused for their number
        same = [array for array in parted if array.key == images.key and LABELS & set(array.words)]
    return next((array for array in same if LABELS & set(array.words)), same[0] if same else None)


def _groups_of(images: Named, others: Sequence[Named], wished: str) -> Named | None:
    """Return the array that the user named: by its name, or by its last words but those for the part."""
    last = tuple(word for word in words_of(wished) if word not in PARTS)
    words = {one: tuple(word for word in one.words if word not in PARTS) for one in others}
    found = [one for one in others if one.name == wished or (last and words[one][-len(last) :] == last)]
    same = [one for one in found if one.part == images.part] or found
    return next((one for one in same if images.shape[0] in one.shape), same[0] if same else None)


def _read(images: Named, labels: Named | None, others: Sequence[Named], wish: Requested) -> DataPiece:
    groups = None if wish.group is None else _groups_of(images, others, wish.group)
    if groups is not None and groups is labels:
        labels = _labels_of(images, [one for one in others if one is not groups])
    lacks = f"no such array; it has {describe([images, *others])}"
    notes = tuple(array.note for array in (images, labels) if array is not None and array.note)
    own, named = (None if array is None else array.read() for array in (labels, groups))
    return DataPiece(images.read(), own, notes=notes, groups=named, lacks=lacks)


def _apart(word: str) -> list[str]:
    found = JOINED.fullmatch(word)
    return [part for part in found.groups() if part] if found else [word]
