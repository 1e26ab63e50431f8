"""Draws near the best point so far: where they lie, how often they come, and what the best is."""

import math
import statistics
from pathlib import Path
from typing import Literal

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeper_digits.config import parse
from sweeper_digits.errors import UserError
from sweeper_digits.runs.recipe import without_hydra
from sweeper_digits.sweep.points import Point
from sweeper_digits.sweep.pruning import NEAR_BEST
from sweeper_digits.sweep.sampler import Prior, best_points
from tests.sweep.conftest import LEARNING_RATE, MakeSweep, begun, queue_of

SPACE = {
    "optimizer": CategoricalDistribution(["adamw", "sgd", "muon"]),
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.4),
    "filters": IntDistribution(8, 64, step=8),
}


def active(point: Point) -> set[str]:
    """Muon has no dropout here."""
    return set(SPACE) - ({"dropout"} if point["optimizer"] == "muon" else set())


def prior(weight: float = 1.0, seed: int | None = 0) -> Prior:
    return Prior(weight, SPACE, seed, active)


BEST = {"optimizer": "adamw", "learning_rate": 0.003, "dropout": 0.2, "filters": 24}


def trial_of(
    point: Point, *reported: float, state: TrialState = TrialState.PRUNED, values: list[float] | None = None
) -> FrozenTrial:
    """A trial of this point that has reported these values."""
    return create_trial(
        state=state,
        params=point,
        distributions={name: SPACE[name] for name in point},
        intermediate_values=dict(enumerate(reported)),
        values=values,
    )


def study_of(trials: list[FrozenTrial], *directions: Literal["minimize", "maximize"]) -> optuna.Study:
    """A study that has these trials; it minimizes one objective unless it is told otherwise."""
    study = optuna.create_study(directions=directions or ["minimize"])
    study.add_trials(trials)
    return study


def test_draws_lie_in_the_space_around_the_best_point() -> None:
    points = [prior().point(number, study_of([trial_of(BEST, 0.1)])) or {} for number in range(200)]
    for point in points:
        for name, value in point.items():
            distribution = SPACE[name]
            assert distribution._contains(distribution.to_internal_repr(value)), f"{name}={value}"
    assert statistics.median(point["dropout"] for point in points if "dropout" in point) == pytest.approx(0.2, abs=0.04)
    kept = [point for point in points if point["optimizer"] == "adamw"]
    assert 0.7 < len(kept) / len(points) < 0.9
    assert statistics.median(point["learning_rate"] for point in kept) == pytest.approx(0.003, rel=0.4)
    assert {point["filters"] for point in points} >= {16, 24, 32}


def test_the_ends_of_a_range_are_drawn_often() -> None:
    points = [prior().point(number, study_of([trial_of(BEST, 0.1)])) or {} for number in range(200)]
    ends = [point["dropout"] in (0.0, 0.4) for point in points if "dropout" in point]
    assert 0.05 < sum(ends) / len(ends) < 0.2


def test_a_parameter_that_another_option_lacks_is_left_out() -> None:
    points = [prior().point(number, study_of([trial_of(BEST, 0.1)])) or {} for number in range(100)]
    assert {point["optimizer"] for point in points} == {"adamw", "sgd", "muon"}
    assert all(("dropout" in point) == (point["optimizer"] != "muon") for point in points)


def test_a_trials_draw_depends_on_its_number_alone() -> None:
    trials = [trial_of(BEST, 0.1)]
    assert prior().point(3, study_of(trials)) == prior().point(3, study_of(trials))
    assert prior().point(3, study_of(trials)) != prior().point(4, study_of(trials))
    assert prior(seed=None).point(3, study_of(trials)) != prior(seed=None).point(3, study_of(trials))


def test_the_weight_is_the_share_of_the_draws() -> None:
    drawn = [prior(0.5).point(number, study_of([trial_of(BEST, 0.1)])) for number in range(400)]
    assert 0.4 < sum(point is not None for point in drawn) / len(drawn) < 0.6


def test_where_no_trial_has_a_value_the_sampler_draws() -> None:
    assert prior().point(3, study_of([])) is None
    assert prior().point(3, study_of([trial_of(BEST), trial_of(BEST, math.nan)])) is None
    assert prior().point(3, study_of([trial_of(BEST, 0.1, state=TrialState.FAIL)])) is None


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.PRUNED])
def test_the_best_point_is_that_of_the_best_epoch_of_any_trial(state: TrialState) -> None:
    other = BEST | {"dropout": 0.0}
    trials = [trial_of(other, 0.2, 0.3, state=TrialState.COMPLETE, values=[0.2]), trial_of(BEST, 0.1, 0.4, state=state)]
    assert best_points(study_of(trials)) == [BEST]
    assert best_points(study_of(trials[::-1])) == [BEST]


def test_a_value_that_is_known_at_the_end_alone_counts() -> None:
    complete = [
        trial_of(BEST, state=TrialState.COMPLETE, values=[5.0]),
        trial_of(BEST | {"filters": 8}, state=TrialState.COMPLETE, values=[1.0]),
    ]
    assert best_points(study_of(complete)) == [BEST | {"filters": 8}]
    assert best_points(study_of(complete, "maximize")) == [BEST]


def test_with_several_objectives_draws_lie_around_the_front() -> None:
    values = {8: [0.1, 5.0], 16: [0.2, 4.0], 24: [0.3, 5.0]}
    trials = [
        trial_of(BEST | {"filters": filters}, state=TrialState.COMPLETE, values=pair)
        for filters, pair in values.items()
    ]
    of = [point["filters"] for point in best_points(study_of(trials, "minimize", "minimize"))]
    assert of == [8, 16]
    assert [point["filters"] for point in best_points(study_of(trials, "maximize", "minimize"))] == [16, 24]


def test_no_point_is_drawn_that_was_tried() -> None:
    small = Prior(1.0, {"dropout": SPACE["dropout"]}, 0, lambda chosen: {"dropout"})
    study = study_of([trial_of({"dropout": end}, 0.1) for end in (0.0, 0.4)])
    points = [small.point(number, study) or {} for number in range(200)]
    assert all(0.0 < point["dropout"] < 0.4 for point in points)


def test_optuna_takes_the_point() -> None:
    study = optuna.create_study()
    point = prior().point(0, study_of([trial_of(BEST, 0.1)])) or {}
    study.enqueue_trial(point)
    trial = study.ask(SPACE)
    assert trial.params == point


@pytest.mark.parametrize("pruner", ["peers", "hyperband"])  # Hyperband shows a sampler the trials of one bracket
def test_later_trials_lie_near_the_best(make_sweep: MakeSweep, tmp_path: Path, pruner: str) -> None:
    alone = (f"hydra/sweeper/pruner={pruner}", *(["hydra.sweeper.pruner.scouts=0"] if pruner == "peers" else []))
    space = (LEARNING_RATE, "optimizer=adamw,sgd", "search.prior=1", "seed=7", "epochs=30", *alone)
    sweep, queue = queue_of(make_sweep, tmp_path, *space)
    first = begun(sweep, queue, 0.5)
    assert "point_from" not in first.user_attrs
    for near in [begun(sweep, queue) for _ in range(4)]:
        assert near.user_attrs["point_from"] == NEAR_BEST and near.params != first.params


@pytest.mark.parametrize(
    "arguments",
    [
        (LEARNING_RATE, "search.prior=0"),
        (LEARNING_RATE, "hydra/sweeper/sampler=random"),
        ("optimizer.learning_rate=0.1,0.2", "hydra.sweeper.n_trials=2"),
    ],
)
def test_other_sweeps_draw_alone(make_sweep: MakeSweep, arguments: tuple[str, ...]) -> None:
    assert make_sweep(*arguments).prior is None


def test_a_weight_out_of_its_range_is_refused(make_sweep: MakeSweep) -> None:
    config = make_sweep(LEARNING_RATE, "search.prior=2").config
    with pytest.raises(UserError, match=r"search\.prior=2"):
        parse(without_hydra(config))
