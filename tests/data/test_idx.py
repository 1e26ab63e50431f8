"""MNIST's own format against bytes written here."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sweeper_digits.data.file import load_file
from tests.tables import unlike

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9])


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize(("suffix", "dot"), [("", "."), (".gz", "-")])
def test_idx_is_read_raw_and_gzipped(tmp_path: Path, suffix: str, dot: str) -> None:
    for stem, array in ((f"train-images{dot}idx3-ubyte", IMAGES), (f"train-labels{dot}idx1-ubyte", LABELS)):
        raw = idx(array)
        (tmp_path / f"{stem}{suffix}").write_bytes(gzip.compress(raw) if suffix else raw)
    digits = load_file(str(tmp_path))
    np.testing.assert_array_equal(digits.images[..., 0], IMAGES)
    assert [digits.classes[label] for label in digits.labels] == list("314159")


def test_bad_idx_is_refused(tmp_path: Path) -> None:
    cases: list[tuple[Callable[[bytes], bytes], str]] = [
        (lambda raw: gzip.compress(raw)[:-20], "is the file whole"),
        (lambda raw: gzip.compress(raw[:-5]), "cut short: 4699 bytes"),
        (lambda raw: gzip.compress(b"\0\0\x0c" + raw[3:]), "cut short: 4704 bytes"),
        (lambda raw: gzip.compress(raw[:6]), "cut short"),
    ]
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))

    def load(change: Callable[[bytes], bytes]) -> None:
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(change(idx(IMAGES)))
        load_file(str(tmp_path))

    assert unlike(cases, load) == []
