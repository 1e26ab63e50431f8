"""Pruning with several objectives: a trial is stopped where another beats it in all of them."""

from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from sweeper_digits.sweep.choose_pruner import why_unpruned
from sweeper_digits.sweep.job import FrontReports, running_trial
from sweeper_digits.sweep.pruning import FrontPruner
from tests.sweep.conftest import MakeSweep


def study_of(*curves: list[list[float]], state: TrialState = TrialState.PRUNED) -> optuna.Study:
    """A study of val_loss and params whose trials had these objectives after their epochs."""
    study = optuna.create_study(directions=["minimize", "minimize"], pruner=FrontPruner())
    for curve in curves:
        values = curve[-1] if state == TrialState.COMPLETE else None
        study.add_trial(
            optuna.trial.create_trial(state=state, values=values, system_attrs={"objectives_by_epoch": curve})
        )
    return study


def queue_of(study: optuna.Study) -> Any:
    """What a trial needs of a queue."""
    return SimpleNamespace(study=study, read=lambda number: study.trials[number], write=lambda *_, **__: None)


PEER = [[0.9, 100.0], [0.5, 100.0], [0.2, 100.0]]


CURVES = [
    ([[0.9, 200.0], [0.6, 200.0]], True),
    ([[0.9, 200.0], [0.4, 200.0]], False),  # better, and dearer
    ([[0.9, 50.0], [0.6, 50.0]], False),  # worse, and cheaper
    ([[1.9, 200.0]], False),  # the first epoch tells too little
    ([[0.9, 100.0], [0.5, 100.0]], False),  # the same
    ([[0.9, 50.0], [0.6, 50.0], [0.4, 50.0], [0.4, 50.0]], False),  # the other did not come so far
]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.RUNNING, TrialState.COMPLETE])
def test_a_dominated_trial_is_stopped(state: TrialState) -> None:
    for curve, stops in CURVES:
        study = study_of(PEER, state=state)
        study.set_metric_names(["val_loss", "params"])
        reports = FrontReports(queue_of(study), study.ask())
        answers = [reports.report({"val_loss": loss, "params": params, "epoch": 1.0}) for loss, params in curve]
        assert answers == [*[False] * (len(curve) - 1), stops], curve
        assert study.trials[1].system_attrs["objectives_by_epoch"] == curve


def test_a_maximized_objective_counts_upwards() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], pruner=FrontPruner())
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.PRUNED, system_attrs={"objectives_by_epoch": [[0.8, 10.0], [0.9, 10.0]]}
        )
    )
    for accuracy, stops in ((0.85, True), (0.95, False)):
        curve = [[0.1, 10.0], [accuracy, 10.0]]
        trial = optuna.trial.create_trial(state=TrialState.RUNNING, system_attrs={"objectives_by_epoch": curve})
        assert FrontPruner().prune(study, trial) is stops


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_trial_is_not_stopped_after_its_last_epoch() -> None:
    study = study_of(PEER)
    study.set_metric_names(["val_loss", "params"])
    running = running_trial(queue_of(study), study.ask(), "here")
    worse = {"val_loss": 5.0, "params": 500.0}
    assert not running.epoch_of_several(worse, last=False)
    assert running.epoch_of_several(worse, last=False)
    assert not running.epoch_of_several(worse, last=True)


REASONS: list[tuple[list[str], str | None]] = [
    (["objective=[val_loss,seconds]"], None),
    (["objective=[val_loss,seconds]", "hydra/sweeper/pruner=none"], None),
    (["hydra/sweeper/pruner=median"], None),
    (
        ["objective=[val_loss,seconds]", "hydra/sweeper/pruner=median"],
        "MedianPruner compares one objective; hydra/sweeper/pruner=peers compares several",
    ),
    (
        ["objective=[val_loss,seconds]", "split=kfold"],
        "with several objectives, a trial that trains all folds is not pruned",
    ),
    (["objective=seconds"], "an objective is known at the end of a training alone"),
]


def test_a_sweep_that_cannot_prune_says_why(make_sweep: MakeSweep) -> None:
    fixed = ("optimizer.learning_rate=interval(0.001,0.1)", "hydra.sweeper.n_trials=4")
    assert [(arguments, why_unpruned(make_sweep(*fixed, *arguments))) for arguments, _ in REASONS] == REASONS
