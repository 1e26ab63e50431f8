"""Bombs are refused by their size, before they are unpacked."""

import gzip
import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from sweeper_digits.data import contents
from sweeper_digits.data.file import load_file
from sweeper_digits.data.pictures import read_pictures
from sweeper_digits.errors import UserError

LARGE = 50 * 2**20


def bomb_zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "digits.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.csv", bytes(LARGE))
    return folder / "digits.zip"


def lying_zip(folder: Path) -> Path:
    """Its directory says 100 bytes."""
    path = bomb_zip(folder)
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", LARGE), struct.pack("<L", 100)))
    return path


def bomb_npz(folder: Path) -> Path:
    np.savez_compressed(folder / "digits.npz", images=np.zeros(LARGE, np.uint8), labels=np.zeros(1))
    return folder / "digits.npz"


def lying_npz(folder: Path) -> Path:
    """Its array's header says 400 GB."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header,
        {"descr": "<f8", "fortran_order": False, "shape": (10**5, 10**6)},
    )
    with zipfile.ZipFile(folder / "digits.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    return folder / "digits.npz"


def bomb_gz(folder: Path) -> Path:
    head = struct.pack(">4B3I", 0, 0, 8, 3, LARGE // 784, 28, 28)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + bytes(LARGE)))
    return folder


def bomb_mat(folder: Path) -> Path:
    scipy.io.savemat(folder / "digits.mat", {"images": np.zeros((LARGE // 784, 28, 28), np.uint8)}, do_compression=True)
    return folder / "digits.mat"


def bomb_h5(folder: Path) -> Path:
    with h5py.File(folder / "digits.h5", "w") as file:
        file.create_dataset("images", (LARGE // 784, 28, 28), np.uint8, compression="gzip")  # zeros
    return folder / "digits.h5"


def bomb_parquet(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet

    rows = pyarrow.table({"image": [bytes(LARGE)]})
    parquet.write_table(rows, folder / "digits.parquet", compression="gzip", use_dictionary=False)
    return folder / "digits.parquet"


def bomb_png(folder: Path) -> Path:
    """A PNG of 10,000 x 10,000 pixels, all black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    head = struct.pack(">LLBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000 * 1251))
    path = folder / "7.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def read_picture(path: str) -> None:
    for file, reason in read_pictures([Path(path)], (28, 28, 1), True)[1].items():
        raise UserError(f"{file}: {reason}")  # the table of predict puts the file beside the reason


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (bomb_zip, load_file),
        (lying_zip, load_file),
        (bomb_npz, load_file),
        (lying_npz, load_file),
        (bomb_gz, load_file),
        (bomb_mat, load_file),
        (bomb_h5, load_file),
        (bomb_parquet, load_file),
        (bomb_png, load_file),
        (bomb_png, read_picture),
    ],
)
def test_a_bomb_is_refused_in_one_line_without_its_memory(
    make: Callable[[Path], Path], read: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)
    monkeypatch.setattr(contents, "MOST_BYTES", 2**20)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"bytes when unpacked|not (a )?readable|more than 89,000,000 pixels") as caught:
        read(str(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    # The memory for what a header lies about is asked for, and never touched.
    assert peak < LARGE / 5 or make is lying_npz
