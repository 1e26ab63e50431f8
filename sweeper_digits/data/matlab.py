"""MATLAB's .mat files: SVHN, EMNIST, USPS. Version 7.3 is HDF5, and read by `hdf5`."""

import io
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from scipy import io as scipy_io

from sweeper_digits.data.arrays import UNREADABLE, Named
from sweeper_digits.data.contents import Member
from sweeper_digits.data.limits import check_size
from sweeper_digits.errors import UserError

HEADER = 128  # bytes, before the first element: "MAT-File Format", MathWorks
COMPRESSED = 15  # type of an element that is deflated


def list_mat(member: Member) -> list[Named]:
    """Return the arrays of a .mat file; of a structure, its fields, as `dataset.train.images`.

    MATLAB writes the images last: (height, width, channels, n) becomes (n, height, width, channels).

    Raises:
        UserError: Not readable, or too large.
    """
    raw = member.read()
    _check_size(raw, member.where)
    try:
        content = scipy_io.loadmat(io.BytesIO(raw), simplify_cells=True)
    except UNREADABLE as error:
        raise UserError(f"{member.where}: not a readable .mat file ({error})") from error
    arrays = dict(_arrays(content))
    number = max((max(array.shape) for array in arrays.values() if array.ndim == 1), default=0)
    named = []
    for name, array in arrays.items():
        note = ""
        if name == "y" and set(arrays) == {"X", "y"} and np.array_equal(np.unique(array), range(1, 11)):
            array, note = np.where(array == 10, 0, array), "SVHN's label 10 is the digit 0, and was read as 0"
        if array.ndim > 1 and array.shape[-1] == number and array.shape[0] != number:
            array = np.moveaxis(array, -1, 0)
        read = partial(np.asarray, array)
        named.append(Named(name, member.name, member.where, array.shape, array.dtype.kind, read, note))
    return named


def _arrays(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in content.items():
        if name.startswith("__"):
            continue
        if isinstance(value, dict):
            yield from _arrays(value, f"{prefix}{name}.")
        elif isinstance(value, np.ndarray) and value.ndim > 0 and value.dtype.kind in "buifUS":
            yield f"{prefix}{name}", value


def _check_size(raw: bytes, where: str) -> None:
    """Refuse a file whose elements are too large when they are inflated."""
    order = "little" if raw[126:128] == b"IM" else "big"
    place, total = HEADER, 0
    while place + 8 <= len(raw):
        kind, size = (int.from_bytes(raw[start : start + 4], order) for start in (place, place + 4))  # type: ignore[arg-type]
        if kind == COMPRESSED:
            inflate, packed = zlib.decompressobj(), raw[place + 8 : place + 8 + size]
            while packed and not inflate.eof:
                try:
                    total += len(inflate.decompress(packed, 2**20))
                except zlib.error:
                    return  # scipy says that it is not readable
                packed = inflate.unconsumed_tail
                check_size(total, where)
        place += 8 + size
