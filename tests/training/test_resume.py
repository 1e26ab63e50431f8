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
from tests.conftest import ROOT, WHOLE

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


LONG = [*WHOLE, "epochs=4", "model.dropout=0.3", "objective=[val_loss,seconds]"]
FOLDS = ["split=kfold", "split.folds=2", "epochs=1"]


def stop_in_epoch(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings in this process end when History begins an epoch: before the checkpoint of this epoch."""
    original = callbacks.History.on_epoch_begin

    def begin(self: callbacks.History, now: int, logs: dict[str, float] | None = None) -> None:
        original(self, now, logs)
        if now == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.History, "on_epoch_begin", begin)


def stopped(train: Train, epoch: int, *overrides: str, folder: str = "killed", **given: list[str]) -> RunFolder:
    """Train until an epoch begins: the checkpoint is of the end of the epoch before the last one."""
    with pytest.MonkeyPatch.context() as patched:
        stop_in_epoch(epoch, patched)
        with pytest.raises(SystemExit) as ended:
            train(*overrides, folder=folder, **given)
    assert ended.value.code == 130
    return RunFolder(Path(folder).resolve())


@pytest.fixture(scope="module")
def whole(once: Train) -> RunFolder:
    """A run of four epochs."""
    return once(*LONG, folder="whole")


@pytest.fixture(scope="module")
def third_epoch_cut(once: Train, whole: RunFolder) -> Path:
    """The same run, stopped when its fourth epoch began: three epochs in its history, two in its checkpoint."""
    stopped(once, 3, *LONG)
    return whole.folder.parent / "killed"


@pytest.fixture
def killed(third_epoch_cut: Path, tmp_path: Path) -> RunFolder:
    """A copy of it, for resume=killed."""
    shutil.copytree(third_epoch_cut, tmp_path / "killed")
    return RunFolder(tmp_path / "killed")


def check_resumed(train: Train, whole: RunFolder, killed: RunFolder, folder: str = "resumed") -> RunFolder:
    """Continue a killed run in a folder and compare its history and weights with those of a run never killed."""
    assert killed.checkpoint.exists() and not killed.metrics.exists()
    before = "\n".join(killed.history.read_text().splitlines()[:3])  # the two epochs of the checkpoint
    resumed = train("resume=killed", folder=folder, defaults=[])
    assert resumed.history.read_text().startswith(before)
    assert without_times(resumed) == without_times(whole)
    assert resumed.read_metrics()["val_loss"] == whole.read_metrics()["val_loss"]
    ours, theirs = (keras.saving.load_model(run.model).get_weights() for run in (resumed, whole))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not resumed.checkpoint.exists()
    return resumed


def without_times(run: RunFolder) -> list[dict[str, float]]:
    times = ("seconds", "images_per_second")
    return [{key: value for key, value in row.items() if key not in times} for row in run.read_history()]


def train_log(run: RunFolder) -> str:
    """What a run has logged."""
    return (run.folder / "train.log").read_text()


def a_trial(monkeypatch: pytest.MonkeyPatch, reported: dict[int, float]) -> None:
    """Let the next training be that of a trial; keep what it reports."""
    trial = SimpleNamespace(report=lambda value, step: reported.update({step: value}), should_prune=lambda: False)
    monkeypatch.setattr(reporting, "_running", reporting.RunningTrial(trial, by_fold=False, prunes=True))


def test_another_seed_is_another_run(train: Train, whole: RunFolder) -> None:
    assert without_times(train(*LONG, "seed=1")) != without_times(whole)


def test_killed_run_continues_as_if_never_killed(
    train: Train, whole: RunFolder, tiny: list[str], tmp_path: Path
) -> None:
    code = START.format(root=str(ROOT), epoch=2)
    command = [sys.executable, "-c", code, "hydra.run.dir=killed", *tiny, *LONG]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        while not process.stdout.readline().startswith("READY"):
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    check_resumed(train, whole, RunFolder(tmp_path / "killed"))


def test_all_state_of_an_optimizer_is_continued_in_the_same_folder(train: Train, tmp_path: Path) -> None:
    """Its slots, the averages of the weights, and the scale of a loss in float16."""
    options = [*LONG, "optimizer=rmsprop", "optimizer.use_ema=true", "precision=float16"]
    whole = train(*options, folder="whole")
    stopped(train, 3, *options)
    check_resumed(train, whole, RunFolder(tmp_path / "killed"), folder="killed")


def test_a_run_resumed_twice_has_the_epochs_and_the_time_of_all_its_parts(
    train: Train, whole: RunFolder, killed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = killed.read_checkpoint()
    assert state["seconds"] > killed.read_history()[0]["seconds"]
    killed.write_checkpoint(state | {"seconds": state["seconds"] + 1000})
    first = stopped(train, 3, "resume=killed", folder="first", defaults=[])  # its own checkpoint is of its begin
    assert first.folder == tmp_path / "first"
    reported: dict[int, float] = {}
    a_trial(monkeypatch, reported)
    resumed = train("resume=first", folder="second", defaults=[])
    assert without_times(resumed) == without_times(whole)
    assert list(reported.values()) == [row["val_loss"] for row in resumed.read_history()] and len(reported) == 4
    metrics = resumed.read_metrics()
    loss, seconds = metrics["objective"]
    assert loss == min(reported.values()) and 1000 < seconds < metrics["run_seconds"] < 1100
    assert f"seconds       {metrics['run_seconds']:.1f}" in train_log(resumed)


def test_a_stopped_run_of_folds_says_how_it_goes_on(train: Train) -> None:
    for epoch, said in ((2, "this command continues:"), (1, "nothing is there to continue")):
        log = train_log(stopped(train, epoch, *FOLDS, "epochs=3", folder=f"killed{epoch}"))
        assert said in log and bool(re.search(r"train(\.py)? resume=killed", log)) == (epoch == 2)


def test_a_trial_whose_checkpoint_is_damaged_starts_over(
    train: Train, whole: RunFolder, killed: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = killed.history.read_bytes()
    for damaged, said in (("history.csv", "history.csv"), ("checkpoint.npz", "its checkpoint")):
        killed.history.write_bytes(history)
        (killed.folder / damaged).write_bytes(b"damaged")
        a_trial(monkeypatch, {})
        again = train("resume=killed", folder=f"again-{damaged}", defaults=[])
        assert without_times(again) == without_times(whole)
        assert f"starts over: resume=killed: {said}" in train_log(again)


def test_a_trial_trains_a_damaged_fold_again(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(*FOLDS, folder="whole")
    for name in ("metrics.json", "history.csv"):
        shutil.rmtree(tmp_path / "killed", ignore_errors=True)
        shutil.copytree(whole.folder, tmp_path / "killed")
        (tmp_path / "killed" / "metrics.json").unlink()
        (tmp_path / "killed" / "fold_0" / name).write_bytes(b"epoch\n\xff")
        with pytest.raises(SystemExit, match=f"^error: .*killed/fold_0/{name}: not readable"):
            train("resume=killed", folder=f"refused-{name}", defaults=[])
        with monkeypatch.context() as patched:
            a_trial(patched, {})
            again = train("resume=killed", folder=f"again-{name}", defaults=[])
        assert re.search(rf"starts over: .*killed/fold_0/{name}", train_log(again))
        assert "already finished" in train_log(again)
        assert again.read_metrics()["val_loss"] == whole.read_metrics()["val_loss"]


def test_what_cannot_be_continued_is_said_in_one_line(
    train: Train, whole: RunFolder, killed: RunFolder, tmp_path: Path
) -> None:
    shutil.copytree(whole.folder, tmp_path / "done")
    rows, archive, state = killed.read_history(), killed.checkpoint.read_bytes(), killed.read_checkpoint()

    def refused(message: str, run: str = "killed") -> None:
        with pytest.raises(SystemExit, match=f"^error: resume={run}: {message}"):
            train(f"resume={run}", folder="resumed", defaults=[])

    refused("this run has finished", "done")
    refused("no run folder there", "nowhere")
    (tmp_path / "done" / "metrics.json").unlink()
    refused("no checkpoint there", "done")
    killed.write_history(rows[:1])  # as a power cut leaves it: the best epoch would be another row
    refused("history.csv has not each epoch up to 2; train it again")
    killed.write_history(rows)
    killed.write_checkpoint({name: array for name, array in state.items() if name != "best_0"})
    refused("its checkpoint is of another model")
    for damaged in (b"", b"no archive", archive[: len(archive) // 2]):
        killed.checkpoint.write_bytes(damaged)
        refused(r"its checkpoint is not readable \(")
    assert not (tmp_path / "resumed" / "history.csv").exists()
