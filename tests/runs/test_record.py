"""A run folder is read whole, or marked with what is wrong with it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper_digits.data import contents
from sweeper_digits.results.table import build_table
from sweeper_digits.runs import folder
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.record import Record, best_first, read_run
from tests.tables import unlike

Tool = Callable[..., str]


@pytest.fixture
def run(swept: Path, tmp_path: Path) -> RunFolder:
    """A whole run, to be damaged."""
    shutil.copytree(swept / "multirun" / "first" / "0", tmp_path / "0")
    assert read_run(tmp_path / "0").state == "finished"
    return RunFolder(tmp_path / "0")


def test_a_damaged_file_makes_a_run_unreadable(run: RunFolder) -> None:
    damages: list[tuple[str, Callable[[bytes], bytes]]] = [
        ("metrics.json", lambda whole: b"[]"),
        ("metrics.json", lambda whole: whole[:20]),
        ("metrics.json", lambda whole: b'{"state": 3}'),
        ("metrics.json", lambda whole: b'{"folds": [1, 2]}'),
        ("metrics.json", lambda whole: b"\xff" + whole),
        ("history.csv", lambda whole: whole.replace(b".", b"\0", 1)),
        ("history.csv", lambda whole: whole + whole.splitlines()[-1] + b",1\n"),
        ("history.csv", lambda whole: whole.replace(b"1,", b"one,", 1)),
        ("tests.csv", lambda whole: b"models,images\n1,60\n"),
        (".hydra/hydra.yaml", lambda whole: b"hydra: none"),
        (".hydra/overrides.yaml", lambda whole: b"1"),
        (".hydra/config.yaml", lambda whole: b"a: [1"),
    ]
    records = []
    for name, damage in damages:
        file = run.folder / name
        whole = file.read_bytes() if file.exists() else None
        file.write_bytes(damage(whole or b""))
        records.append(read_run(run.folder))
        file.unlink() if whole is None else file.write_bytes(whole)
    notes = [record.note for record in records]
    read = [damages[place][0] for place, record in enumerate(records) if record.state != "unreadable"]
    assert read == [] and all(note and "\n" not in note for note in notes)
    assert list(build_table(records)["note"]) == notes and read_run(run.folder).state == "finished"


def test_a_giant_file_makes_a_run_unreadable(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = ((folder, "/config.yaml: more than 100 bytes"), (contents, "/validation.npz: .*when unpacked"))
    for module, message in limits:
        with monkeypatch.context() as patched:
            patched.setattr(module, "MOST_BYTES", 100)
            record = read_run(run.folder)
        assert record.state == "unreadable" and re.search(message, record.note)


def test_a_row_that_was_cut_short_is_left_out(run: RunFolder) -> None:
    rows, whole = run.read_history(), run.history.read_bytes()
    for rest in (b"3,0.25", b"\0" * 100):  # of a kill, of a power cut
        run.history.write_bytes(whole + rest)
        assert read_run(run.folder).history == rows and run.epochs() == len(rows)


def test_only_numbered_folders_are_folds(run: RunFolder) -> None:
    for name in ("fold_10", "fold_9", "fold_old", "fold_1.bak", "fold_\N{SUPERSCRIPT TWO}"):
        (run.folder / name).mkdir()
    assert [fold.folder.name for fold in run.folds()] == ["fold_9", "fold_10"]
    assert read_run(run.folder).state == "finished"


def test_a_damaged_history_has_no_epochs(run: RunFolder) -> None:
    run.history.write_bytes(run.history.read_bytes().replace(b".", b"\0"))
    assert run.epochs() == 0


def test_damaged_validation_predictions_are_refused(run: RunFolder) -> None:
    damages: list[tuple[str, Any, str]] = [
        ("labels", np.full(36, 10), "a label that is not from 0 to 9"),
        ("log_probabilities", np.zeros((36, 9)), "a label that is not from 0 to 8"),
        ("log_probabilities", np.full((36, 10), np.nan), "a probability that is not a number"),
        ("worst", np.array([36]), "a mistake that is not one of the images"),
        ("more", np.zeros(3), "arrays of shapes .*'more'.*; expected"),
    ]
    with np.load(run.validation) as archive:
        arrays = dict(archive)
    assert len(arrays["labels"]) == 36

    def read(change: dict[str, Any]) -> None:
        changed = arrays | change | ({"pictures": arrays["pictures"][:1]} if "worst" in change else {})
        np.savez(run.validation, **changed)
        run.read_validation()

    cases = [({name: value}, f"no readable validation predictions .*{message}") for name, value, message in damages]
    assert unlike(cases, read) == []


def test_values_that_are_not_finite_are_not_ranked() -> None:
    def record(value: float) -> Record:
        return Record(RunFolder("nowhere"), "finished", metrics={"val_loss": value})

    worse, better = record(0.2), record(0.1)
    broken = [record(value) for value in (float("nan"), float("-inf"), float("inf"))]
    assert best_first([*broken, worse, better], "val_loss") == [better, worse]
    folds = Record(RunFolder("nowhere"), "finished", metrics={"folds": [{"val_loss": 0.1}, {"val_loss": float("nan")}]})
    assert list(folds.samples("val_loss").values()) == [0.1]


def test_compare_goes_on_over_damaged_runs(tool: Tool) -> None:
    sweep = Path("multirun/first")
    (sweep / "0" / "metrics.json").write_text("[]")
    history = sweep / "1" / "history.csv"
    history.write_bytes(history.read_bytes().replace(b".", b"\0"))
    best = json.loads(tool("compare", str(sweep), "--json"))[0]["folder"]
    validation = RunFolder(best).validation
    with np.load(validation) as archive:
        np.savez(validation, **(dict(archive) | {"labels": np.full(36, 200)}))
    out = tool("compare", str(sweep))
    assert (
        "3 unreadable" in Path(sweep, "report.html").read_text(encoding="utf-8") and "metrics.json: not readable" in out
    )
