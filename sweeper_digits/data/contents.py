"""The files of a folder, a zip or a tar, and how much they may hold once they are unpacked."""

import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from sweeper_digits.data.kinds import HEAD, PICTURE_SUFFIXES, kind_of, refusal
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


GZIP = b"\x1f\x8b"
MOST_FILES = 1_000_000
DEFLATE64 = 9  # a way to pack the members of a zip
UNPACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@dataclass(frozen=True)
class Member:
    """One file of what a path holds.

    Attributes:
        name: Its path below the folder, or in the zip, with "/"; of a single file its name.
        where: Its path, for messages.
        opens: Opens it.
        group: The folder that was taken out of the name, for it names a group; empty if none was.
    """

    name: str
    where: str
    opens: Callable[[], IO[bytes]]
    group: str = ""

    @cached_property
    def head(self) -> bytes:
        """Return the first bytes, unpacked."""
        with self.reading() as stream:
            head = stream.read(HEAD)
            return zlib.decompressobj(31).decompress(head, HEAD) if head.startswith(GZIP) else head

    def read(self) -> bytes:
        """Return all bytes, unpacked where they are gzip.

        Raises:
            UserError: Not readable, or too large.
        """
        with self.reading() as stream:
            packed = read_bounded(stream, self.where)
            if not packed.startswith(GZIP):
                return packed
            with gzip.GzipFile(fileobj=io.BytesIO(packed)) as unpacked:
                return read_bounded(unpacked, self.where)

    @cached_property
    def kind(self) -> str:
        """Return what it is: a key of `kinds.MAGIC` or `kinds.REFUSED`, `npz`, `table`, `text` or `unknown`.

        A name that ends as pictures' names do is believed: a folder of 60,000 pictures is not opened for it.
        """
        suffix = PurePosixPath(self.name).suffix.lower()
        if suffix in PICTURE_SUFFIXES:
            return "picture"
        kind = kind_of(self.head)
        if kind == "zip" and self._holds_arrays():
            return "npz"
        pickled = suffix in (".pkl", ".pickle", ".pt", ".pth") and kind in ("zip", "text", "unknown")
        return "pickle" if pickled else kind

    def _holds_arrays(self) -> bool:
        with self.reading() as stream:
            try:
                names = zipfile.ZipFile(stream).namelist()
            except zipfile.BadZipFile:
                return self.name.endswith(".npz")  # to be refused as a broken one
        return bool(names) and all(name.endswith(".npy") for name in names)

    @contextmanager
    def reading(self) -> Iterator[IO[bytes]]:
        """Open it.

        Raises:
            UserError: It cannot be read, also later, inside the block.
        """
        try:
            with self.opens() as stream:
                yield stream
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
            raise UserError(f"{self.where}: not readable ({error}); is the file whole?") from error


def list_members(path: Path) -> list[Member]:
    """Return the files of a folder or a zip, or the one file, in the order of their names; no hidden ones.

    Raises:
        UserError: Not readable, encrypted or packed in a way that Python does not know, too large, or too many.
    """
    if path.is_dir():
        return sorted(_walk(path), key=lambda member: member.name)
    whole = file_member(path)
    if whole.kind != "zip":
        return [whole]
    check_archive(path)
    try:
        archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))  # no file stays open while members are read later
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path}: not a readable zip ({error}); is the file whole?") from error
    infos = [info for info in archive.infolist() if not info.is_dir() and not _hidden(info.filename)]
    for info in infos:
        if info.flag_bits & 1:
            raise UserError(refusal("encrypted", str(path)))
        if (method := info.compress_type) not in UNPACKED:
            raise UserError(refusal("Deflate64" if method == DEFLATE64 else "packed", str(path)))
        if info.filename == "[Content_Types].xml":
            raise UserError(refusal("office", str(path)))
    names = sorted(info.filename for info in infos)
    return [Member(name, f"{path}/{name}", partial(archive.open, name)) for name in names]


def _walk(folder: Path) -> Iterator[Member]:
    count = 0
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        for name in files:
            path = Path(root, name)
            if _hidden(name) or not path.is_file():  # a pipe would be waited for
                continue
            yield file_member(path, path.relative_to(folder).as_posix())
            if (count := count + 1) > MOST_FILES:
                raise UserError(f"{folder}: more than {MOST_FILES:,} files; name the folder of one data set")


def file_member(path: Path, name: str = "") -> Member:
    """Return a file as a member of what a path holds; without a name, it is all that the path holds."""
    return Member(name or path.name, str(path), lambda: path.open("rb"))


def _hidden(name: str) -> bool:
    return any((part.startswith(".") and part.strip(".")) or part == "__MACOSX" for part in name.split("/"))
