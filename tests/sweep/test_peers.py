"""The default pruner compares a trial with all others at its epoch."""

import math

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from sweeper_digits.sweep.choose_pruner import make_pruner, pruner_options
from sweeper_digits.sweep.pruning import PeerPruner
from tests.sweep.conftest import MakeSweep

EPOCHS = 8


def pruner(n_min_trials: int = 2, first_fraction: float = 0.0) -> PeerPruner:
    return PeerPruner(percentile=35, n_min_trials=n_min_trials, first_fraction=first_fraction, epochs=EPOCHS)


def study_of(*curves: tuple[TrialState, list[float]], maximize: bool = False) -> optuna.Study:
    """A study whose trials have reported these values."""
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    for state, values in curves:
        study.add_trial(
            create_trial(
                state=state,
                value=values[-1] if state == TrialState.COMPLETE else None,
                intermediate_values=dict(enumerate(values)),
            )
        )
    return study


def prunes(study: optuna.Study, values: list[float], by: PeerPruner, first: int = 0) -> bool:
    """Whether a trial is pruned after these values."""
    study.add_trial(create_trial(state=TrialState.RUNNING, intermediate_values=dict(enumerate(values, first))))
    return by.prune(study, study.trials[-1])


def test_trials_in_each_state_are_peers() -> None:
    for state in (TrialState.RUNNING, TrialState.PRUNED, TrialState.COMPLETE):
        assert prunes(study_of((state, [0.2]), (state, [0.3])), [0.25], pruner()), state
        assert not prunes(study_of((state, [0.2]), (state, [0.3])), [0.19], pruner()), state


def test_a_trial_that_failed_is_no_peer() -> None:
    assert not prunes(study_of((TrialState.FAIL, [0.2]), (TrialState.FAIL, [0.3])), [0.9], pruner())


def test_the_best_third_goes_on() -> None:
    peers = [(TrialState.PRUNED, [0.1 * n]) for n in range(1, 10)]
    assert not prunes(study_of(*peers), [0.37], pruner())
    assert prunes(study_of(*peers), [0.39], pruner())


def test_trials_are_compared_at_the_same_epoch_by_their_best_so_far() -> None:
    peers = (TrialState.COMPLETE, [0.5, 0.2, 0.3]), (TrialState.COMPLETE, [0.5, 0.2, 0.1])
    assert not prunes(study_of(*peers), [0.5], pruner())
    assert prunes(study_of(*peers), [0.5, 0.21], pruner())
    assert not prunes(study_of(*peers), [0.5, 0.05, 0.9], pruner())


def test_a_value_is_maximized_where_the_study_says_so() -> None:
    peers = (TrialState.COMPLETE, [0.8]), (TrialState.COMPLETE, [0.9])
    assert prunes(study_of(*peers, maximize=True), [0.85], pruner())
    assert not prunes(study_of(*peers, maximize=True), [0.95], pruner())


def test_nothing_is_pruned_without_peers() -> None:
    peer = (TrialState.COMPLETE, [0.1] * EPOCHS)
    assert not prunes(study_of(peer), [0.9], pruner())
    assert prunes(study_of(peer), [0.9], pruner(n_min_trials=1))


@pytest.mark.parametrize(("first_fraction", "judged"), [(0.0, [1, 2, 4, 8]), (0.25, [2, 4, 8]), (0.4, [3, 6])])
def test_a_trial_is_judged_each_time_that_its_epochs_have_doubled(first_fraction: float, judged: list[int]) -> None:
    peer = (TrialState.COMPLETE, [0.1] * EPOCHS)
    by = pruner(n_min_trials=1, first_fraction=first_fraction)
    assert [n for n in range(1, EPOCHS + 1) if prunes(study_of(peer), [0.9] * n, by)] == judged


def test_a_loss_that_is_always_nan_is_pruned_and_is_worse_than_any() -> None:
    assert prunes(study_of(), [math.nan], pruner())
    assert not prunes(study_of((TrialState.PRUNED, [math.nan]), (TrialState.PRUNED, [math.nan])), [0.9], pruner())


def test_of_folds_only_the_shown_steps_count() -> None:
    easy_then_hard = [0.1] * EPOCHS + [0.5]
    peers = (TrialState.COMPLETE, easy_then_hard), (TrialState.COMPLETE, easy_then_hard)
    assert not prunes(study_of(*peers), [0.4], pruner(), first=EPOCHS)
    assert prunes(study_of(*peers), [0.6], pruner(), first=EPOCHS)


@pytest.mark.parametrize("bad", [{"percentile": 101}, {"n_min_trials": 0}, {"first_fraction": -0.1}])
def test_values_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}={next(iter(bad.values()))}"):
        PeerPruner(**({"percentile": 35, "n_min_trials": 2, "first_fraction": 0, "epochs": 8} | bad))  # type: ignore[arg-type]


PRUNERS = [
    (["optimizer=adam,sgd"], "NopPruner"),
    (["optimizer=adam,sgd", "hydra.sweeper.pruner.grids=true"], "PeerPruner"),
    (["optimizer=adam,sgd", "hydra/sweeper/pruner=median"], "MedianPruner"),
    (["model.dropout=interval(0,0.4)", "epochs=6"], "PeerPruner"),
    (["model.dropout=interval(0,0.4)", "objective=[val_loss,params]"], "FrontPruner"),
    (["model.dropout=interval(0,0.4)", "objective=[val_loss,params]", "hydra/sweeper/pruner=none"], "NopPruner"),
    (["model.dropout=interval(0,0.4)", "objective=[val_loss,milliseconds_per_image]"], "NopPruner"),
    (["model.dropout=interval(0,0.4)", "objective=[val_loss,params]", "split=kfold"], "NopPruner"),
    (["optimizer=adam,sgd", "objective=[val_loss,params]"], "NopPruner"),
]


def test_a_grid_is_pruned_only_where_it_is_said(make_sweep: MakeSweep) -> None:
    for arguments, expected in PRUNERS:
        made = make_pruner(pruner_options(make_sweep(*arguments)))
        assert type(made).__name__ == expected, arguments
        if isinstance(made, PeerPruner):
            assert made.epochs == (6 if "epochs=6" in arguments else 8)
