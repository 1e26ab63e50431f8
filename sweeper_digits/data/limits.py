"""How much a file may hold once it is unpacked: a bomb is refused by its size, before memory is filled."""

import gzip
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from sweeper_digits.errors import UserError

# MNIST's 60,000 images take 47 MB as bytes, 188 MB as CSV and 376 MB as float64: five times the largest.
MOST_BYTES = 2 * 2**30
CHUNK = 2**20


def check_archive(path: Path) -> None:
    """Raise a UserError if a zip, or a .npz, says that its members are too large.

    A file that is no zip passes: whoever reads it says so.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:
        return
    check_size(total, str(path))


def check_size(total: int, where: str) -> None:
    """Raise a UserError if so many bytes are too many."""
    if total > MOST_BYTES:
        raise UserError(f"{where}: {total:,} bytes when unpacked; at most {MOST_BYTES:,} are read")


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and the type of an array in a stream of NumPy's format (.npy); its values are not read."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def read_bounded(stream: IO[bytes] | gzip.GzipFile, name: str) -> bytes:
    """Read a stream to its end.

    Raises:
        UserError: It has more than `MOST_BYTES`.
    """
    parts, total = [], 0
    while chunk := stream.read(CHUNK):
        parts.append(chunk)
        total += len(chunk)
        if total > MOST_BYTES:
            raise UserError(f"{name}: more than {MOST_BYTES:,} bytes when unpacked; no more are read")
    return b"".join(parts)
