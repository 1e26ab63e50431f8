"""Recorded curves under Optuna's pruners."""

import numpy as np
import optuna
import pytest

from sweeper_digits.replay.pruning import PrunedSearch
from sweeper_digits.replay.workers import Curve, of_epochs, replay

EPOCHS = 8


def curves(levels: list[float]) -> list[Curve]:
    """Curves that fall in parallel and never cross."""
    fall = np.linspace(1.0, 0.0, EPOCHS)
    return [Curve(level + fall, np.ones(EPOCHS), level + fall) for level in levels]


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Leave out Optuna's line for each trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_without_pruning_every_curve_is_trained_whole() -> None:
    search = PrunedSearch(curves([3.0, 1.0, 2.0]), optuna.pruners.NopPruner(), "none")
    trace = replay(search, 1000, of_epochs)
    assert trace.spent[-1] == 3 * EPOCHS
    assert trace.worth[-1] == 1.0
    assert not search.pruned


def test_the_pruner_stops_what_is_worse_and_keeps_the_best() -> None:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0)
    search = PrunedSearch(curves([2.0, 3.0, 1.0, 4.0]), pruner, "median")
    trace = replay(search, 1000, of_epochs)
    assert search.pruned == [1, 3]
    assert trace.spent[-1] == 2 * EPOCHS + 2
    assert trace.worth[-1] == 1.0


def test_a_diverged_trial_ends_and_fails() -> None:
    values = np.array([1.0, np.nan, np.nan])
    search = PrunedSearch([Curve(values, np.ones(3), values)], optuna.pruners.NopPruner(), "diverged")
    trace = replay(search, 1000, of_epochs)
    assert trace.spent == [1.0, 2.0]
    assert [trial.state.name for trial in search.study.trials] == ["FAIL"]
