"""What a path holds: one file, the files below a folder, or the members of a zip."""

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
from typing import IO

from sweeper_digits.data.kinds import HEAD, PICTURE_SUFFIXES, kind_of, refusal
from sweeper_digits.data.limits import check_archive, read_bounded
from sweeper_digits.errors import UserError

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
    """

    name: str
    where: str
    opens: Callable[[], IO[bytes]]

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
    whole = Member(path.name, str(path), partial(_open, path))
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
            yield Member(path.relative_to(folder).as_posix(), str(path), partial(_open, path))
            if (count := count + 1) > MOST_FILES:
                raise UserError(f"{folder}: more than {MOST_FILES:,} files; name the folder of one data set")


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _hidden(name: str) -> bool:
    return any((part.startswith(".") and part.strip(".")) or part == "__MACOSX" for part in name.split("/"))
