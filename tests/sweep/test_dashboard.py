"""What is written for Optuna's dashboard: in a browser it is looked at in test_pages.py."""

import shlex
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta

from sweeper_digits.sweep import dashboard
from sweeper_digits.sweep.record import StudyRecord
from tests.sweep.conftest import MakeSweep, queue_of

OPEN = "model.dropout=interval(0,0.4)"


@pytest.fixture
def noted(make_sweep: MakeSweep, tmp_path: Path) -> tuple[list[str], str]:
    """The names of a trial's pictures and its note, after a run of two folds."""
    sweep, queue = queue_of(make_sweep, tmp_path, OPEN)
    trial = queue.ask(sweep)
    assert trial
    for name in ("fold_0/figures/mistakes.png", "fold_1/figures/mistakes.png", "fold_1/other.png"):
        (sweep.folder / "0" / name).parent.mkdir(parents=True, exist_ok=True)
        (sweep.folder / "0" / name).write_bytes(b"png")
    (sweep.folder / "0/.hydra").mkdir()
    dashboard.show(queue, trial, sweep)
    kept = StudyRecord(queue.study).attributes(shown=False)
    assert kept[f"dashboard:{trial._trial_id}:note_ver"] == 1
    stored = get_all_artifact_meta(study_or_trial=queue.read(0), storage=queue.storage)
    assert {(sweep.folder / "artifacts" / one.artifact_id).read_bytes() for one in stored} == {b"png"}
    return [one.filename for one in stored], kept[f"dashboard:{trial._trial_id}:note_str:0"]


def test_pictures_of_folds_have_the_fold_in_their_names(noted: tuple[list[str], str]) -> None:
    assert sorted(noted[0]) == ["fold_0 mistakes.png", "fold_1 mistakes.png"]


def test_a_note_is_the_command_and_nothing_in_it_is_more_than_text(noted: tuple[list[str], str]) -> None:
    said, empty, line = noted[1].split("\n")
    assert said == "This command repeats the trial:" and not empty and line.startswith("    ")
    assert shlex.split(line)[-1].startswith("from_run=") and shlex.split(line)[-1].endswith("/0")


def test_a_trial_that_was_not_composed_has_no_note(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep, queue = queue_of(make_sweep, tmp_path, OPEN)
    trial = queue.ask(sweep)
    dashboard.show(queue, trial, sweep)
    assert not [name for name in StudyRecord(queue.study).attributes(shown=False) if "note" in name]


def test_pictures_that_cannot_be_copied_cost_a_warning(
    make_sweep: MakeSweep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep, queue = queue_of(make_sweep, tmp_path, OPEN)
    trial = queue.ask(sweep)
    (sweep.folder / "0" / "figures").mkdir(parents=True)
    (sweep.folder / "0" / "figures" / "labels.png").touch()
    (sweep.folder / "artifacts").touch()
    dashboard.show(queue, trial, sweep)
    assert "dashboard  not whole: " in caplog.text
    assert "--artifact-dir" not in dashboard.command(sweep)
    queue.study.tell(trial, 0.5)
    assert queue.read(0).state == optuna.trial.TrialState.COMPLETE
