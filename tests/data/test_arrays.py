"""NumPy archives, whole and broken."""

from pathlib import Path

import numpy as np
import pytest

from sweeper_digits.data.file import load_file
from sweeper_digits.errors import UserError
from tests.tables import unlike

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9])


def test_npz_is_read_from_floats_of_whole_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES.astype(float), labels=LABELS)
    digits = load_file(str(tmp_path / "d.npz"))
    np.testing.assert_array_equal(digits.images[..., 0], IMAGES)


def test_broken_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.npz").write_bytes(b"not a npz")
    with pytest.raises(UserError, match=r"c\.npz: text that begins 'not a npz'; expected are CSV"):
        load_file(str(tmp_path / "c.npz"))
    np.savez(tmp_path / "d.npz", numbers=LABELS)
    with pytest.raises(UserError, match=r"no array of images, .*: numbers \(6,\) integer"):
        load_file(str(tmp_path / "d.npz"))
    np.savez(tmp_path / "d.npz", images=IMAGES)
    (tmp_path / "d.npz").write_bytes((tmp_path / "d.npz").read_bytes()[:2000])
    with pytest.raises(UserError, match=r"d\.npz: not a readable \.npz"):
        load_file(str(tmp_path / "d.npz"))


def test_bad_arrays_are_refused(tmp_path: Path) -> None:
    cases = [
        (np.zeros((6, 28, 5), np.uint8), "images of 28x5 pixels; sides of 8 to 128"),
        (np.full((6, 28, 28), 256), "0 to 255"),
        (np.full((6, 28, 28), 1.5), "not whole"),
        (np.full((6, 28, 28), "7"), r"no array of images, .*: images \(6, 28, 28\) text, labels \(6,\) integer"),
        (IMAGES[:5], "5 images but labels of shape"),
    ]

    def load(images: np.ndarray) -> None:
        np.savez(tmp_path / "d.npz", images=images, labels=LABELS)
        load_file(str(tmp_path / "d.npz"))

    assert unlike(cases, load) == []
