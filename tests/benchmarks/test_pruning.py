"""Recorded curves under Optuna's pruners."""

from collections.abc import Callable

import numpy as np
import optuna
import pytest

from benchmarks.replay.pruning import PrunedSearch
from benchmarks.replay.workers import Curve, of_epochs, replay
from sweeper_digits.sweep.pruning import PeerPruner

pytestmark = pytest.mark.slow

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
    assert search.pruned == {1, 3}
    assert trace.spent[-1] == 2 * EPOCHS + 2
    assert trace.worth[-1] == 1.0


def test_a_diverged_trial_ends_as_pruned() -> None:
    values = np.array([1.0, np.nan, np.nan])
    search = PrunedSearch([Curve(values, np.ones(3), values)], optuna.pruners.NopPruner(), "diverged")
    trace = replay(search, 1000, of_epochs)
    assert trace.spent == [1.0, 2.0]
    assert [trial.state.name for trial in search.study.trials] == ["PRUNED"]


@pytest.mark.parametrize(
    "build",
    [
        lambda: optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1),
        lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
        lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=EPOCHS, reduction_factor=3),
        lambda: PeerPruner(percentile=35, n_min_trials=1, first_fraction=0.0, epochs=EPOCHS),
    ],
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_pruner_decides_as_in_a_study_of_optuna(build: Callable[[], optuna.pruners.BasePruner]) -> None:
    values = np.random.default_rng(0).uniform(0, 1, (30, EPOCHS))
    recorded = [Curve(one, np.ones(EPOCHS), one) for one in values]
    search = PrunedSearch(recorded, build(), "same")
    replay(search, 1000, of_epochs)
    study = optuna.create_study(pruner=build(), study_name="same")
    for curve in recorded:
        trial = study.ask()
        for epoch, value in enumerate(curve.values):
            trial.report(float(value), epoch)
            if trial.should_prune() and epoch + 1 < EPOCHS:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, float(curve.values.min()))
    assert [trial.state for trial in search.study.trials] == [trial.state for trial in study.trials]
    assert len({trial.state for trial in study.trials}) == 2
