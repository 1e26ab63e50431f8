"""Kaggle's CSV tables against bytes written here."""

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper_digits.data.file import load_file
from sweeper_digits.errors import UserError
from tests.tables import unlike

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
    digits = load_file(str(kaggle))
    assert digits.images.dtype == np.uint8 and digits.images.shape == (6, 28, 28, 1)
    np.testing.assert_array_equal(digits.images[..., 0], IMAGES)
    assert [digits.classes[label] for label in digits.labels] == list("314159")


def test_kaggle_test_part_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_bytes(csv(PIXEL_NAMES, [list(image.ravel()) for image in IMAGES]))
    digits = load_file(str(tmp_path), part="test")
    with pytest.raises(UserError, match=r"no train part; it has test; add data\.part=test"):
        load_file(str(tmp_path))
    assert digits.labels is None
    np.testing.assert_array_equal(digits.images[..., 0], IMAGES)


def test_bad_csv_is_refused_with_its_place(tmp_path: Path) -> None:
    cases = [
        (train_csv().replace(b"label", b"pixel784", 1), "785 pixel columns; expected a square number"),
        (csv(["label", *PIXEL_NAMES[:783]], [[1] * 784]), "783 pixel columns"),
        (train_csv(pixel7="x"), "row 3, column 'pixel7': 'x'"),
        (train_csv(pixel7=""), "row 3, column 'pixel7': an empty cell"),
        (train_csv(pixel7=256), "row 3, column 'pixel7': '256'; expected a whole number from 0 to 255"),
        (train_csv(pixel7=-1), "row 3, column 'pixel7': '-1'"),
        (train_csv(pixel7=0.5), "row 3, column 'pixel7': '0.5'"),
        (train_csv(label=""), "row 3, column 'label': an empty cell; a label is expected"),
        (csv(["label", *PIXEL_NAMES], []), "no rows"),
        (b"", "an empty file"),
        (train_csv() + b"1,2,3," * 400, "row 8 has 1201 cells; 785 are expected"),
    ]
    path = tmp_path / "train.csv"

    def load(raw: bytes) -> None:
        path.write_bytes(raw)
        load_file(str(tmp_path))

    load(train_csv())
    assert unlike([(raw, f"{re.escape(str(path))}.*{message}") for raw, message in cases], load) == []


def test_missing_and_broken_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("other.txt", "words")
        archive.writestr("more.txt", "words")
    (tmp_path / "b.zip").write_bytes(b"not a zip")
    (tmp_path / "train.csv").write_bytes(train_csv())
    cases = [
        ("nowhere", r"data.path=.*nowhere: no such file"),
        ("empty", "empty: no file in it; expected are CSV"),
        ("a.zip", r"a\.zip: nothing in it is read as images: more\.txt, other\.txt; expected are CSV"),
        ("b.zip", r"b\.zip: text that begins 'not a zip'; expected are CSV"),
    ]
    assert unlike(cases, lambda name: load_file(str(tmp_path / name))) == []


def test_truncated_zip_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.csv", train_csv())
    (tmp_path / "a.zip").write_bytes(whole.getvalue()[:-100])
    with pytest.raises(UserError, match="is the file whole"):
        load_file(str(tmp_path / "a.zip"))
