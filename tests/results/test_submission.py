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
    tool("predict", SWEEP, "--top", "3", "--weights", "greedy", "--data", "kaggle", f"path={kaggle}", "part=test")
    rows = list(csv.reader(io.StringIO(Path("submission.csv").read_text())))
    probabilities = np.load("probabilities.npz")["probabilities"]
    assert rows[0] == ["ImageId", "Label"] and [int(row[0]) for row in rows[1:]] == list(range(1, 301))
    assert [int(row[1]) for row in rows[1:]] == probabilities.argmax(axis=1).tolist()
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert "(all)" in out and not Path(SWEEP, "0", "tests.csv").exists()


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
