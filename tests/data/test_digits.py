"""Loaders against bytes written here."""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper_digits.data import digits as data
from sweeper_digits.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9])


def csv(header: list[str], rows: list[list[Any]]) -> bytes:
    return ("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n").encode()


PIXEL_NAMES = [f"pixel{i}" for i in range(784)]


def train_csv(**cell: object) -> bytes:
    """A good train.csv, but for the given cells of its third line."""
    rows = [[label, *image.ravel()] for label, image in zip(LABELS, IMAGES, strict=True)]
    header = ["label", *PIXEL_NAMES]
    for name, value in cell.items():
        rows[1][header.index(name)] = value
    return csv(header, rows)


@pytest.fixture(params=["zip", "nested zip", "folder", "file"])
def kaggle(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "folder":
        (tmp_path / "train.csv").write_bytes(train_csv())
        return tmp_path
    if request.param == "file":
        (tmp_path / "digits.csv").write_bytes(train_csv())
        return tmp_path / "digits.csv"
    with zipfile.ZipFile(tmp_path / "digits.zip", "w") as archive:
        archive.writestr("digits/train.csv" if request.param == "nested zip" else "train.csv", train_csv())
    return tmp_path / "digits.zip"


def test_kaggle_is_read_from_zip_folder_and_file(kaggle: Path) -> None:
    digits = data.load_kaggle(str(kaggle))
    assert digits.images.dtype == np.uint8 and digits.images.shape == (6, 28, 28, 1)
    np.testing.assert_array_equal(digits.images[..., 0], IMAGES)
    np.testing.assert_array_equal(digits.labels, LABELS)


def test_kaggle_test_part_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_bytes(csv(PIXEL_NAMES, [list(image.ravel()) for image in IMAGES]))
    digits = data.load_kaggle(str(tmp_path), part="test")
    assert digits.labels is None
    np.testing.assert_array_equal(digits.images[..., 0], IMAGES)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dot", ["-", "."])
def test_idx_is_read_raw_and_gzipped(tmp_path: Path, suffix: str, dot: str) -> None:
    for stem, array in ((f"train-images{dot}idx3-ubyte", IMAGES), (f"train-labels{dot}idx1-ubyte", LABELS)):
        raw = idx(array)
        (tmp_path / f"{stem}{suffix}").write_bytes(gzip.compress(raw) if suffix else raw)
    digits = data.load_idx(str(tmp_path))
    np.testing.assert_array_equal(digits.images[..., 0], IMAGES)
    np.testing.assert_array_equal(digits.labels, LABELS)


def test_npz_is_read_from_floats_of_whole_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES.astype(float), labels=LABELS)
    digits = data.load_npz(str(tmp_path / "d.npz"))
    np.testing.assert_array_equal(digits.images[..., 0], IMAGES)


def test_mnist_5k_needs_no_download() -> None:
    digits = data.load_mnist_5k()
    assert digits.images.shape == (5000, 28, 28, 1)
    assert np.bincount(digits.labels).tolist() == [500] * 10
    assert 30 < digits.images.mean() < 36  # MNIST's mean pixel is 33.3


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (train_csv().replace(b"label", b"digit", 1), "no column 'label'"),
        (csv(["label", *PIXEL_NAMES[:783]], [[1] * 784]), "783 pixel columns"),
        (train_csv(pixel7="x"), "row 3, column 'pixel7': 'x'"),
        (train_csv(pixel7=""), "row 3, column 'pixel7': an empty cell"),
        (train_csv(pixel7=256), "row 3, column 'pixel7': '256'; expected a whole number from 0 to 255"),
        (train_csv(pixel7=-1), "row 3, column 'pixel7': '-1'"),
        (train_csv(pixel7=0.5), "row 3, column 'pixel7': '0.5'"),
        (train_csv(label=10), "label 10 at image 1"),
        (csv(["label", *PIXEL_NAMES], []), "no rows"),
        (csv(["label", *PIXEL_NAMES], [[7] * 785] * 3), "all 3 images have label 7"),
        (b"", "No columns to parse"),
        (train_csv() + b"1,2,3," * 400, "Expected 785 fields in line 8, saw 1201"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_csv_is_refused_with_its_place(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(train_csv())
    data.load_kaggle(str(tmp_path))
    path.write_bytes(raw)
    with pytest.raises(UserError, match=message) as caught:
        data.load_kaggle(str(tmp_path))
    assert str(path) in str(caught.value)


def test_missing_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.path=nowhere: no such file"):
        data.load_kaggle("nowhere")
    with pytest.raises(UserError, match=r"no train.csv in this folder"):
        data.load_kaggle(str(tmp_path))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("other.txt", "")
    with pytest.raises(UserError, match=r"no train.csv in this zip"):
        data.load_kaggle(str(tmp_path / "a.zip"))
    (tmp_path / "b.zip").write_bytes(b"not a zip")
    with pytest.raises(UserError, match="not a readable zip"):
        data.load_kaggle(str(tmp_path / "b.zip"))
    (tmp_path / "c.npz").write_bytes(b"not a npz")
    with pytest.raises(UserError, match=r"not a readable \.npz"):
        data.load_npz(str(tmp_path / "c.npz"))
    np.save(tmp_path / "e.npy", IMAGES)
    with pytest.raises(UserError, match=r"not a \.npz file with arrays"):
        data.load_npz(str(tmp_path / "e.npy"))
    np.savez(tmp_path / "d.npz", pictures=IMAGES)
    with pytest.raises(UserError, match="no array 'images'; it has pictures"):
        data.load_npz(str(tmp_path / "d.npz"))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((6, 28, 27), np.uint8), r"images of shape \(28, 27, 1\)"),
        (np.full((6, 28, 28), 256), "0 to 255"),
        (np.full((6, 28, 28), 0.5), "0 to 255"),
        (np.full((6, 28, 28), "7"), "pixels of type <U1"),
        (IMAGES[:5], "5 images but labels of shape"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, images: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "d.npz", images=images, labels=LABELS)
    with pytest.raises(UserError, match=message):
        data.load_npz(str(tmp_path / "d.npz"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: gzip.compress(raw)[:-20], "is the file whole"),
        (lambda raw: gzip.compress(raw[:-5]), "cut short: 4699 bytes"),
        (lambda raw: gzip.compress(b"\0\0\x0d" + raw[3:]), "not an IDX file of unsigned bytes"),
        (lambda raw: gzip.compress(raw[:6]), "cut short"),
    ],
)
def test_bad_idx_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], message: str) -> None:
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(change(idx(IMAGES)))
    with pytest.raises(UserError, match=message):
        data.load_idx(str(tmp_path))


def test_download_without_network_names_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import keras

    def no_network(path: str) -> None:
        raise Exception(f"URL fetch failure on {path}: None -- unreachable")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: no_network("mnist.npz"))
    with pytest.raises(UserError, match="use data=mnist_5k"):
        data.load_keras("mnist")


def test_truncated_zip_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.csv", train_csv())
    (tmp_path / "a.zip").write_bytes(whole.getvalue()[:-100])
    with pytest.raises(UserError, match="not a readable zip"):
        data.load_kaggle(str(tmp_path / "a.zip"))
