"""Kaggle's submission and files of probabilities."""

import csv
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sweeper_digits.data.dataset import Dataset
from sweeper_digits.predict.predict import data_overrides
from sweeper_digits.predict.submission import read_sample, write_predictions
from tests.conftest import option
from tests.refusals import not_refused

Tool = Callable[..., str]
SWEEP = "multirun/first"


@pytest.fixture
def kaggle(digits: Dataset, tmp_path: Path) -> Path:
    """Kaggle's zip with the 300 digits to label."""
    header = ",".join(f"pixel{i}" for i in range(784))
    rows = [",".join(map(str, image.ravel())) for image in digits.images]
    path = tmp_path / "digits.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test.csv", "\n".join([header, *rows]))
        archive.writestr("sample_submission.csv", "ImageId,Label\n" + "".join(f"{i + 1},0\n" for i in range(len(rows))))
    return path


def test_submission_and_probabilities(tool: Tool, kaggle: Path) -> None:
    out = tool(
        "predict", SWEEP, "--top", "3", "--weights", "greedy", "--data", str(kaggle), "--out", "probabilities.npz"
    )
    weights = [float(weight) for weight in re.findall(r"weight ([\d.]+)", out)]
    assert len(weights) == 3 and sum(weights) == pytest.approx(1, abs=2e-3)
    again = tool(
        "predict", SWEEP, "--top", "3", "--weights", "greedy", "--data", "kaggle", f"path={kaggle}", "part=test"
    )
    rows = list(csv.reader(io.StringIO(Path("submission.csv").read_text())))
    probabilities = np.load("probabilities.npz")["probabilities"]
    assert rows[0] == ["ImageId", "Label"] and [int(row[0]) for row in rows[1:]] == list(range(1, 301))
    assert [int(row[1]) for row in rows[1:]] == probabilities.argmax(axis=1).tolist()
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert "(all)" in out and "(its test part)" in again and "noted      60 of the images are locked" in out


def test_a_bare_csv_is_checked_against_the_sample_beside_it(tool: Tool, kaggle: Path) -> None:
    with zipfile.ZipFile(kaggle) as archive:
        archive.extractall("files")
    tool("predict", SWEEP, "--data", "files/test.csv")
    assert len(Path("submission.csv").read_text().splitlines()) == 301
    Path("files/sample_submission.csv").write_text("ImageId;Label\n1;0\n")
    with pytest.raises(SystemExit, match="its header is ImageId;Label; two columns"):
        tool("predict", SWEEP, "--data", "files/test.csv")
    Path("files/sample_submission.csv").unlink()
    tool("predict", SWEEP, "--data", "files/test.csv")


def test_wrong_sample_leaves_the_earlier_submission(tool: Tool, kaggle: Path) -> None:
    Path("submission.csv").write_text("mine")
    with zipfile.ZipFile(kaggle) as archive:
        table = archive.read("test.csv")
    with zipfile.ZipFile(kaggle, "w") as archive:
        archive.writestr("test.csv", table)
        archive.writestr("sample_submission.csv", "ImageId,Label\n1,0\n")
    with pytest.raises(SystemExit, match="has 1 row, the predictions 300"):
        tool("predict", SWEEP, "--data", str(kaggle))
    assert Path("submission.csv").read_text() == "mine"


CLASSES = ("cat", "dog", "eel")
SURE = np.eye(3)[[2, 0, 1]]  # eel, cat, dog


def submitted(folder: Path, ids: list[str] | None) -> list[str]:
    write_predictions(folder / "out.csv", SURE, read_sample(folder), CLASSES, ids)
    return (folder / "out.csv").read_text().splitlines()


def test_a_submission_has_the_samples_header_ids_and_order(tmp_path: Path) -> None:
    assert submitted(tmp_path, None) == ["ImageId,Label", "1,eel", "2,cat", "3,dog"]
    assert submitted(tmp_path, ["a.png", "b.png", "c.png"]) == ["id,label", "a.png,eel", "b.png,cat", "c.png,dog"]
    sample = tmp_path / "Sample_Submission.csv"
    sample.write_bytes(b"\xef\xbb\xbfid,class\r\nc,cat\r\na,cat\r\nb,cat\r\n")
    assert submitted(tmp_path, ["a.png", "b.png", "c.png"]) == ["id,class", "c,dog", "a,eel", "b,cat"]
    assert submitted(tmp_path, None) == ["id,class", "c,eel", "a,cat", "b,dog"]  # no ids: by place


def test_nothing_is_written_that_the_sample_does_not_ask_for(tmp_path: Path) -> None:
    def call(sample: str) -> None:
        (tmp_path / "sample_submission.csv").write_text(sample)
        submitted(tmp_path, ["a", "b", "c"])

    wrong = [
        ("id,label\na,0\nb,0\n", "has 2 rows, the predictions 3"),
        ("id,label\na,0\nb,0\nx,0\n", "asks for 'x'; the images are named 'a' to 'c'"),
        ("id,label\na,0\nb,0\nb,0\n", "asks for 'b' twice"),
        ("id,label,more\na,0,0\n", "its header is id,label,more; two columns"),
    ]
    assert not_refused(call, wrong) == [] and not (tmp_path / "out.csv").exists()


def test_a_path_alone_means_its_test_part_or_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = np.zeros((4, 28, 28), np.uint8), np.arange(4)
    np.savez("both (1).npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    np.savez("test.npz", images=images, labels=labels)
    assert data_overrides(["both (1).npz"], None) == ["data=file", "data.path='both (1).npz'", "data.part=test"]
    assert data_overrides(["test.npz"], None)[-1] == "data.part=all"
    given = ["both (1).npz", "data.part=train", "size=28"]
    assert data_overrides(given, None)[-2:] == ["data.part=train", "data.size=28"]
    sized, own = option("data", "file", path="own", size=32), option("data", "file", path="own.npz", member="b")
    said = ["data.path=own.npz", "data.member=b"]
    assert data_overrides(["test.npz"], sized)[2] == "data.size=32"
    for name in ("file", "kaggle"):  # the same function reads both
        assert data_overrides([name, "part=test"], own) == [f"data={name}", *said, "data.part=test"]
    assert data_overrides(["mnist", "part=test"], own) == ["data=mnist", "data.part=test"]


def test_a_table_without_a_header_loses_no_image_and_ids_are_kept(tool: Tool, digits: Dataset) -> None:
    rows = [",".join(map(str, image.ravel())) for image in digits.images[:20]]
    Path("test.csv").write_text("\n".join(rows))
    tool("predict", SWEEP, "--data", "test.csv")
    assert len(Path("submission.csv").read_text().splitlines()) == 21
    header = ",".join(["id", *(f"pixel{place}" for place in range(784))])
    Path("test.csv").write_text("\n".join([header, *(f"img{place},{row}" for place, row in enumerate(rows))]))
    tool("predict", SWEEP, "--data", "test.csv")
    assert Path("submission.csv").read_text().startswith("id,label\nimg0,")
