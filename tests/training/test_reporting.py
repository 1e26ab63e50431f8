"""What a trial reports, and when its pruner ends it."""

from collections.abc import Callable

import optuna
import pytest
from optuna.pruners import BasePruner, MedianPruner, PatientPruner, SuccessiveHalvingPruner

from sweeper_digits.training.reporting import RunningTrial

EPOCHS = 8
OTHERS = [0.50, 0.40, 0.30, 0.25, 0.20, 0.18, 0.17, 0.16]
LUCKY = [0.10, 0.40, 0.38, 0.36, 0.35, 0.34, 0.33, 0.32]  # its first epoch alone is the best of all
HOPELESS = [0.90, 0.80, 0.75, 0.70, 0.70, 0.70, 0.70, 0.70]
LATE = [0.45, 0.35, 0.25, 0.22, 0.21, 0.30, 0.31, 0.32]


def train(study: optuna.Study, values: list[float], restored: int = 0) -> list[int]:
    """Report a trial's epochs, of which it has `restored` from before a kill; return the epochs that asked to stop."""
    running = RunningTrial(study.ask(), by_fold=False, prunes=True)
    running.restore(values[:restored], EPOCHS)
    assert not running.pruned
    return [e for e in range(restored, EPOCHS) if running.epoch(values[e], e, EPOCHS, last=e + 1 == EPOCHS)]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("curve", [LUCKY, HOPELESS, LATE])
@pytest.mark.parametrize(
    "build",
    [
        lambda: MedianPruner(n_startup_trials=3),
        lambda: PatientPruner(MedianPruner(n_startup_trials=3), patience=2),
        lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    ],
)
def test_a_resumed_trial_is_pruned_where_the_uninterrupted_one_is(
    curve: list[float], build: Callable[[], BasePruner]
) -> None:
    def stops(restored: int) -> list[int]:
        study = optuna.create_study(pruner=build())
        for shift in (0.0, 0.01, 0.02, 0.03):
            trial = study.ask()
            for epoch, value in enumerate(OTHERS):
                trial.report(value + shift, epoch)
                trial.should_prune()
            study.tell(trial, min(OTHERS) + shift)
        return train(study, curve, restored)

    for restored in (1, 5):
        assert stops(restored) == [epoch for epoch in stops(0) if epoch >= restored]


def test_a_resumed_trials_curve_is_whole() -> None:
    study = optuna.create_study(pruner=MedianPruner())
    train(study, LATE, restored=5)
    assert study.trials[0].intermediate_values == dict(enumerate(LATE))


@pytest.mark.parametrize(
    ("values", "stops_chance", "stops"),
    [
        ([2.4, 2.3, 2.3, 2.3, 2.3, 2.3, 2.3, 2.3], True, [1, 2, 3, 4, 5, 6]),
        ([2.4, 2.2, 2.3, 2.3, 2.3, 2.3, 2.3, 2.3], True, []),
        ([2.4, 2.3, 2.3, 2.3, 2.3, 2.3, 2.3, 2.3], False, []),
    ],
)
def test_a_trial_that_is_no_better_than_guessing_ends_after_its_first_epochs(
    values: list[float], stops_chance: bool, stops: list[int]
) -> None:
    trial = optuna.create_study(pruner=optuna.pruners.NopPruner()).ask()
    running = RunningTrial(trial, by_fold=False, prunes=True, stops_chance=stops_chance)
    running.no_better_than_guessing = lambda value: value >= 2.3
    assert [e for e in range(EPOCHS) if running.epoch(values[e], e, EPOCHS, last=e + 1 == EPOCHS)] == stops
