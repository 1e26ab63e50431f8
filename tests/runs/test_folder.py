"""The files of a run are whole after a kill."""

import csv
import errno
import json
from pathlib import Path

import pytest

from sweeper_digits.runs.folder import RunFolder, replacing


def test_history_is_written_as_it_goes_and_survives_a_cut_row(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_history({"epoch": 1, "loss": 0.5})
    run.append_history({"epoch": 2, "loss": 0.25})
    with run.history.open("a") as stream:
        stream.write("3")
    assert run.read_history() == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    with run.history.open(newline="") as stream:
        assert next(csv.reader(stream)) == ["epoch", "loss"]


def test_files_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"old": 1}))
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught, replacing(path) as temporary:
        temporary.write_text("whole")
    assert caught.value.filename == str(path)  # not the temporary file's, which is gone


def test_a_read_only_disk_is_said_of_the_file_that_was_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *options: object, **more: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only") as caught, replacing(tmp_path / "report.html") as temporary:
        temporary.write_text("whole")
    assert caught.value.filename == str(tmp_path / "report.html")


def test_a_history_that_cannot_be_read_counts_no_epoch(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_history({"epoch": 1, "loss": 0.5})
    assert run.epochs() == 1
    run.history.write_text("epoch,loss\n1,half\n")
    assert run.epochs() == 0
    run.history.unlink()
    run.history.mkdir()
    assert run.epochs() == 0
