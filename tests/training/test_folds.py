"""Runs of several folds, and of no validation part."""

import shutil
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.training import reporting

Train = Callable[..., RunFolder]


def test_kfold_reports_mean_and_deviation_of_its_folds(train: Train) -> None:
    # Trained enough that no two classes are equally probable in the file, which has float16.
    options = ("split=kfold", "split.folds=3", "epochs=2", "augmentation=none", "optimizer.learning_rate=0.02")
    run = train(*options)
    metrics = run.read_metrics()
    losses = [run.fold(number).read_metrics()["val_loss"] for number in range(3)]
    assert metrics["objective"] == metrics["val_loss"] == pytest.approx(np.mean(losses))
    assert metrics["val_loss_std"] == pytest.approx(np.std(losses, ddof=1))
    errors = run.read_validation().standard_errors()  # over the 300 images of all folds
    for name in ("val_loss_se", "val_accuracy_se"):
        assert metrics[name] == pytest.approx(errors[name], rel=2e-3)
        assert all(fold[name] > 1.3 * metrics[name] for fold in metrics["folds"])  # of a third of the images
    values = f"{metrics['val_loss']:.4f} ± {metrics['val_loss_se']:.4f} over 300 images"
    shown = f"{values}; folds differ by {metrics['val_loss_std']:.4f}"
    assert shown in (run.folder / "train.log").read_text(encoding="utf-8")
    single = train(*options, "split.fold=2", folder="single")
    assert single.read_metrics()["val_loss"] == losses[2]


def test_resumed_folds_bring_their_files_along(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    folds = ("split=kfold", "split.folds=2", "epochs=2")
    whole = train(*folds, folder="whole")
    killed = RunFolder(whole.folder.parent / "killed")
    shutil.copytree(whole.folder, killed.folder)
    killed.metrics.unlink()
    for file in (killed.fold(1).metrics, killed.fold(1).model):
        file.unlink()
    first_fold = killed.fold(0).read_metrics()
    killed.fold(0).write_metrics(first_fold | {"seconds": first_fold["seconds"] + 1000})
    reported: dict[int, float] = {}
    trial = SimpleNamespace(report=lambda value, step: reported.update({step: value}), should_prune=lambda: False)
    monkeypatch.setattr(reporting, "_running", reporting.RunningTrial(trial, by_fold=False, prunes=True))
    resumed = train("resume=killed", folder="resumed", defaults=[])
    assert "already finished" in (resumed.folder / "train.log").read_text()
    first, second = (min(row["val_loss"] for row in fold.read_history()) for fold in resumed.folds())
    assert sorted(reported) == [0, 1, 2, 3]  # the finished fold's epochs too
    assert min(reported[2], reported[3]) == pytest.approx((first + second) / 2)
    assert len(resumed.models()) == 2 and len(resumed.read_validation().labels) == 300
    assert [len(fold.read_history()) for fold in resumed.folds()] == [2, 2]
    metrics = resumed.read_metrics()
    assert metrics["val_loss"] == whole.read_metrics()["val_loss"]
    assert 1000 < metrics["seconds"] < metrics["run_seconds"] < 1200
    with pytest.raises(SystemExit, match="this run has finished"):
        train("resume=whole", folder="again", defaults=[])


def test_all_trains_every_epoch_without_validation(train: Train) -> None:
    run = train("split=all", "split.test_size=0.2")
    metrics = run.read_metrics()
    assert metrics["train_images"] == 240 and metrics["validation_images"] == 0
    assert metrics["objective"] is None and metrics["best_epoch"] == 2 and "val_loss" not in metrics
