"""IDX, the format of MNIST's own files: MNIST, EMNIST, QMNIST, KMNIST, Fashion-MNIST."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from sweeper_digits.data.contents import Member
from sweeper_digits.data.pieces import Found, Piece, Wish, is_emnist, name_and_part
from sweeper_digits.errors import UserError

# The third byte, and the type of the numbers: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


@dataclass(frozen=True)
class _Half:
    """A file with the images, or the labels, of a part."""

    name: str
    part: str
    folder: str
    member: Member
    images: bool


def find_idx(members: Sequence[Member]) -> list[Piece]:
    """Return a piece for each file of images; its labels are in the file of the same data set, part and folder."""
    halves = [_half(member) for member in members if member.kind == "idx"]
    images, labels = ([half for half in halves if half.images is wanted] for wanted in (True, False))
    pieces: dict[tuple[str, str, bytes], Piece] = {}
    for one in images:
        own = [half for half in labels if (half.name, half.part, half.folder) == (one.name, one.part, one.folder)]
        if not own and len(images) == len(labels) == 1:
            own = labels
        files = tuple(half.member.name for half in (one, *own[:1]))
        read = partial(_read, one.member, own[0].member if own else None)
        # Some archives hold the same file a second time, in a folder with the name of the file.
        key = (one.name, one.part, one.member.head)
        pieces.setdefault(key, Piece(one.name, one.part, files, one.member.where, read, is_emnist(one.member.name)))
    return list(pieces.values())


def read_idx(raw: bytes, where: str) -> np.ndarray:
    """Return the array of an IDX file.

    Raises:
        UserError: Another type, or cut short.
    """
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in TYPES or not 1 <= raw[3] <= 4:
        raise UserError(f"{where}: not an IDX file of numbers with 1 to 4 dimensions")
    kind, dimensions = np.dtype(TYPES[raw[2]]), raw[3]
    header = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, header, 4))
    if len(raw) - header != math.prod(shape) * kind.itemsize:
        raise UserError(f"{where}: cut short: {max(len(raw) - header, 0)} bytes of data, the header says {shape}")
    return np.frombuffer(raw, kind, offset=header).reshape(shape).astype(kind.newbyteorder("="), copy=False)


def read_mapping(text: str) -> list[str]:
    """Return what EMNIST's labels 0, 1, 2, ... mean, of lines such as `10 65`: the label, and an ASCII code."""
    codes = {int(label): int(code) for label, code, *_ in (line.split() for line in text.splitlines() if line.strip())}
    return [chr(codes[label]) if label in codes else str(label) for label in range(max(codes) + 1)]


def _half(member: Member) -> _Half:
    path = PurePosixPath(member.name)
    if path.stem == path.parent.name or path.name == path.parent.name:  # unpacked by a tool into a folder of its name
        path = path.parent
    name, part = name_and_part(str(path))
    return _Half(name, part, str(path.parent), member, images=member.head[3] >= 3)


def _read(images: Member, labels: Member | None, wish: Wish) -> Found:
    pixels = read_idx(images.read(), images.where)
    if labels is None:
        return Found(pixels, None)
    numbers = read_idx(labels.read(), labels.where)
    if numbers.ndim == 2:  # QMNIST: the label, and seven columns of where the digit comes from
        numbers = numbers[:, 0]
    return Found(pixels, numbers)
