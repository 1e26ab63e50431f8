"""The same seed gives the same run, also after a kill, and never another run's numbers."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.training import callbacks, reporting
from tests.conftest import ROOT

Train = Callable[..., RunFolder]


START = """
import os, sys
sys.path.insert(0, {root!r})
from sweeper_digits import command_line
from sweeper_digits.training import callbacks, reporting
begin = callbacks.Checkpoint.on_epoch_begin
def then_wait(self, epoch, logs=None):
    begin(self, epoch, logs)
    if epoch == {epoch}:
        print("READY", flush=True)
        __import__("time").sleep(60)
callbacks.Checkpoint.on_epoch_begin = then_wait
command_line.main()
"""


LONG = ["epochs=5", "model.dropout=0.3"]


def stop_in_epoch(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings in this process end when History begins an epoch: before the checkpoint of this epoch."""
    original = callbacks.History.on_epoch_begin

    def begin(self: callbacks.History, now: int, logs: dict[str, float] | None = None) -> None:
        original(self, now, logs)
        if now == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.History, "on_epoch_begin", begin)


def check_resumed(train: Train, whole: RunFolder, killed: RunFolder, folder: str = "resumed") -> None:
    """Continue a killed run in a folder and compare its history and weights with those of a run never killed."""
    assert killed.checkpoint.exists() and not killed.metrics.exists()
    resumed = train("resume=killed", folder=folder, defaults=[])
    assert without_times(resumed) == without_times(whole)
    assert resumed.read_metrics()["val_loss"] == whole.read_metrics()["val_loss"]
    ours, theirs = (keras.saving.load_model(run.model).get_weights() for run in (resumed, whole))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not resumed.checkpoint.exists()


def without_times(run: RunFolder) -> list[dict[str, float]]:
    times = ("seconds", "images_per_second")
    return [{key: value for key, value in row.items() if key not in times} for row in run.read_history()]


def test_same_seed_same_history_other_seed_another(train: Train) -> None:
    first = train("model.dropout=0.3", folder="a")
    again = train("model.dropout=0.3", folder="b")
    other = train("model.dropout=0.3", "seed=1", folder="c")
    assert without_times(first) == without_times(again) != without_times(other)


def test_killed_run_continues_as_if_never_killed(train: Train, tiny: list[str], tmp_path: Path) -> None:
    whole = train(*LONG, folder="whole")
    code = START.format(root=str(ROOT), epoch=3)
    command = [sys.executable, "-c", code, "hydra.run.dir=killed", *tiny, *LONG]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        while not process.stdout.readline().startswith("READY"):
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    check_resumed(train, whole, RunFolder(tmp_path / "killed"))


@pytest.mark.parametrize(
    ("options", "folder"),
    [(["optimizer.use_ema=true", "optimizer=rmsprop"], "resumed"), (["precision=float16"], "killed")],
)
def test_all_state_of_an_optimizer_is_continued(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], folder: str
) -> None:
    whole = train(*LONG, *options, folder="whole")
    stop_in_epoch(3, monkeypatch)
    with pytest.raises(SystemExit):
        train(*LONG, *options, folder="killed")
    monkeypatch.undo()
    check_resumed(train, whole, RunFolder(tmp_path / "killed"), folder)


def test_resumed_run_killed_in_its_first_epoch_can_be_continued(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train("epochs=4", folder="whole")
    stop_in_epoch(3, monkeypatch)
    for source, folder in (([], "first"), (["resume=first"], "second")):
        with pytest.raises(SystemExit):
            train("epochs=4", *source, folder=folder)
    monkeypatch.undo()
    resumed = train("resume=second", folder="third", defaults=[])
    assert without_times(resumed) == without_times(whole)


def test_a_resumed_run_has_the_epochs_and_the_time_of_all_its_parts(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_in_epoch(2, monkeypatch)
    with pytest.raises(SystemExit):
        train("epochs=3", "objective=[val_loss,seconds]", folder="killed")
    monkeypatch.undo()
    killed = RunFolder(tmp_path / "killed")
    state = killed.read_checkpoint()
    assert state["seconds"] > killed.read_history()[0]["seconds"]
    killed.write_checkpoint(state | {"seconds": state["seconds"] + 1000})
    reported: dict[int, float] = {}
    trial = SimpleNamespace(report=lambda value, step: reported.update({step: value}), should_prune=lambda: False)
    monkeypatch.setattr(reporting, "_running", reporting.RunningTrial(trial, by_fold=False, prunes=True))
    resumed = train("resume=killed", folder="resumed", defaults=[])
    assert list(reported.values()) == [row["val_loss"] for row in resumed.read_history()] and len(reported) == 3
    metrics = resumed.read_metrics()
    loss, seconds = metrics["objective"]
    assert loss == min(reported.values()) and 1000 < seconds < metrics["run_seconds"] < 1100
    assert f"seconds       {metrics['run_seconds']:.1f}" in train_log(resumed)


@pytest.mark.parametrize(("epoch", "said"), [(2, "this command continues:"), (1, "nothing is there to continue")])
def test_a_stopped_run_of_folds_says_how_it_goes_on(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, said: str
) -> None:
    stop_in_epoch(epoch, monkeypatch)
    with pytest.raises(SystemExit):
        train("epochs=3", "split=kfold", "split.folds=2", folder="killed")
    log = train_log(RunFolder(tmp_path / "killed"))
    assert said in log and ("train resume=killed" in log or "train.py resume=killed" in log) == (epoch == 2)


def test_the_history_of_a_continued_run_is_written_as_that_of_a_whole_one(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_in_epoch(2, monkeypatch)
    with pytest.raises(SystemExit):
        train("epochs=3", folder="killed")
    monkeypatch.undo()
    before = "\n".join((tmp_path / "killed" / "history.csv").read_text().splitlines()[:2])
    after = train("resume=killed", folder="resumed", defaults=[]).history.read_text()
    assert after.startswith(before) and [line.split(",")[0] for line in after.splitlines()] == ["epoch", "1", "2", "3"]


def a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next training be that of a trial."""
    trial = SimpleNamespace(report=lambda value, step: None, should_prune=lambda: False)
    monkeypatch.setattr(reporting, "_running", reporting.RunningTrial(trial, by_fold=False, prunes=True))


@pytest.mark.parametrize("damaged", ["checkpoint.npz", "history.csv"])
def test_a_trial_whose_checkpoint_is_damaged_starts_over(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    whole = train("epochs=3", folder="whole")
    stop_in_epoch(2, monkeypatch)
    with pytest.raises(SystemExit):
        train("epochs=3", folder="killed")
    monkeypatch.undo()
    (tmp_path / "killed" / damaged).write_bytes(b"damaged")
    a_trial(monkeypatch)
    again = train("resume=killed", folder="again", defaults=[])
    assert without_times(again) == without_times(whole)
    assert f"starts over: resume=killed: {'its checkpoint' if 'npz' in damaged else damaged}" in train_log(again)


@pytest.mark.parametrize("name", ["metrics.json", "history.csv"])
def test_a_trial_trains_a_damaged_fold_again(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    whole = train("split=kfold", "split.folds=2", "epochs=1", folder="whole")
    shutil.copytree(whole.folder, tmp_path / "killed")
    (tmp_path / "killed" / "metrics.json").unlink()
    (tmp_path / "killed" / "fold_0" / name).write_bytes(b"epoch\n\xff")
    with pytest.raises(SystemExit, match=f"^error: .*killed/fold_0/{name}: not readable"):
        train("resume=killed", folder="refused", defaults=[])
    a_trial(monkeypatch)
    again = train("resume=killed", folder="again", defaults=[])
    assert re.search(rf"starts over: .*killed/fold_0/{name}", train_log(again))
    assert "already finished" in train_log(again)
    assert again.read_metrics()["val_loss"] == whole.read_metrics()["val_loss"]


def train_log(run: RunFolder) -> str:
    """What a run has logged."""
    return (run.folder / "train.log").read_text()


def test_resume_says_what_cannot_be_continued(train: Train, tmp_path: Path) -> None:
    train("epochs=1", folder="done")
    with pytest.raises(SystemExit, match="this run has finished"):
        train("resume=done", folder="again", defaults=[])
    with pytest.raises(SystemExit, match="no run folder there"):
        train("resume=nowhere", folder="again", defaults=[])
    (tmp_path / "done" / "metrics.json").unlink()
    with pytest.raises(SystemExit, match="no checkpoint there"):
        train("resume=done", folder="again", defaults=[])


def test_a_damaged_checkpoint_or_history_is_one_line(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_in_epoch(3, monkeypatch)  # the checkpoint is of the end of the second epoch
    with pytest.raises(SystemExit):
        train("epochs=4", folder="killed")
    monkeypatch.undo()
    killed = RunFolder(tmp_path / "killed")
    rows, whole = killed.read_history(), killed.checkpoint.read_bytes()
    state = killed.read_checkpoint()

    def refused(message: str) -> None:
        with pytest.raises(SystemExit, match=f"^error: resume=killed: {message}"):
            train("resume=killed", folder="resumed", defaults=[])

    killed.write_history(rows[:1])  # as a power cut leaves it: the best epoch would be another row
    refused("history.csv has not each epoch up to 2; train it again")
    killed.write_history(rows)
    killed.write_checkpoint({name: array for name, array in state.items() if name != "best_0"})
    refused("its checkpoint is of another model")
    for damaged in (b"", b"no archive", whole[: len(whole) // 2]):
        killed.checkpoint.write_bytes(damaged)
        refused(r"its checkpoint is not readable \(")
    killed.checkpoint.write_bytes(whole)
    assert len(train("resume=killed", folder="resumed", defaults=[]).read_history()) == 4
