"""Pruning over folds, on the levels that the five folds of experiment=best reached (docs/results.md)."""

import warnings
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf

from sweeper_digits.sweep.choose_pruner import make_pruner, pruner_options
from sweeper_digits.sweep.pruning import FoldPruner
from sweeper_digits.training.reporting import RunningTrial

LEVELS = [0.0077, 0.0100, 0.0173, 0.0120, 0.0113]
ORDERS = {"easy fold first": LEVELS, "hard fold first": sorted(LEVELS, reverse=True)}
EPOCHS = 8
PRUNERS = {
    "median": {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 5, "n_warmup_steps": 3},
    "percentile": {"_target_": "optuna.pruners.PercentilePruner", "percentile": 25.0, "n_startup_trials": 4},
    "peers": {
        "_target_": "sweeper_digits.sweep.pruning.PeerPruner",
        "percentile": 35.0,
        "n_min_trials": 1,
        "first_fraction": 0.0,
        "grids": False,
    },
    "patient": {
        "_target_": "optuna.pruners.PatientPruner",
        "patience": 1,
        "wrapped_pruner": {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 4},
    },
}


def pruner(name: str) -> optuna.pruners.BasePruner:
    config = OmegaConf.create({"epochs": EPOCHS, "split": {"folds": len(LEVELS), "fold": None}})
    options = SimpleNamespace(pruner=PRUNERS[name])
    sweep: Any = SimpleNamespace(options=options, prunes=True, has_front=False, is_enumerated=False, config=config)
    return make_pruner(pruner_options(sweep))


def run(study: optuna.Study, levels: list[float], factors: list[float]) -> tuple[int, int] | None:
    """Train a trial whose folds fall to their levels times these factors; return the fold and epoch of its pruning."""
    trial = study.ask()
    running = RunningTrial(trial, by_fold=False, prunes=True)
    running.splits = len(levels)
    for fold, (level, factor) in enumerate(zip(levels, factors, strict=True)):
        for epoch in range(EPOCHS):
            value = factor * level * (1 + 8 * 0.4**epoch + 0.05 * max(0, epoch - 4))  # it overfits in the end
            if running.epoch(value, epoch, EPOCHS, last=epoch + 1 == EPOCHS):
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                return fold, epoch
        running.fold(value)
    study.tell(trial, sum(running.folds) / len(levels))
    return None


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", PRUNERS)
def test_a_trial_is_judged_in_every_fold(name: str, order: str) -> None:
    levels = ORDERS[order]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    for factor in (0.97, 1.0, 1.03, 1.06, 1.1):
        assert run(study, levels, [factor] * 5) is None
    study.pruner = pruner(name)
    worse = run(study, levels, [0.9, 3, 3, 3, 3])
    assert worse is not None and worse[0] == 1
    assert run(study, levels, [0.9] * 5) is None
    # Of the best half in its first folds, hopeless from the fourth on: the fourth is where that shows.
    late = run(study, levels, [0.9, 0.9, 0.9, 9, 9])
    assert late is not None and late[0] == 3


def test_no_trial_is_pruned_in_the_first_epochs_of_a_fold() -> None:
    always: Any = SimpleNamespace(prune=lambda study, trial: True)
    folds = FoldPruner(always, EPOCHS, n_warmup_steps=3)
    steps = [
        step
        for step in range(3 * EPOCHS)
        if folds.prune(
            None, optuna.trial.create_trial(value=1.0, intermediate_values=dict.fromkeys(range(step + 1), 1.0))
        )
    ]
    assert steps == [step for step in range(3 * EPOCHS) if step % EPOCHS >= 3]
