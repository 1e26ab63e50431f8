"""Draws near the recipe: where they lie, how often they come, and that evidence fades them."""

import statistics
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeper_digits import schema
from sweeper_digits.errors import UserError
from sweeper_digits.runs.recipe import without_hydra
from sweeper_digits.sweep.finite import Point
from sweeper_digits.sweep.prior import FADED, NEAR, Prior
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.study import set_up
from tests.sweep.conftest import MakeSweep

SPACE = {
    "optimizer": CategoricalDistribution(["adamw", "sgd", "muon"]),
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.4),
    "filters": IntDistribution(8, 64, step=8),
}
RATES = {"adamw": 0.003, "sgd": 0.03, "muon": 0.01}


def recipe(chosen: Point) -> Point:
    """A recipe whose learning rate is that of the chosen optimizer."""
    optimizer = chosen.get("optimizer", "adamw")
    return {"optimizer": optimizer, "learning_rate": RATES[optimizer], "dropout": 0.1, "filters": 24}


def prior(weight: float = 1.0, seed: int | None = 0, directions: tuple[str, ...] = ("minimize",)) -> Prior:
    return Prior(recipe, ["optimizer"], weight, SPACE, seed, list(directions))


def ended(value: float, near: bool, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    """A trial with this value."""
    reported = {0: value}
    return create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        intermediate_values=reported,
        user_attrs={NEAR: True} if near else {},
    )


def test_draws_lie_in_the_space_around_the_recipe() -> None:
    points = [point for number in range(200) if (point := prior().point(number, []))]
    assert len(points) == 200
    for point in points:
        for name, value in point.items():
            distribution = SPACE[name]
            assert distribution._contains(distribution.to_internal_repr(value)), f"{name}={value}"
    assert statistics.median(point["dropout"] for point in points) == pytest.approx(0.1, abs=0.02)
    kept = [point for point in points if point["optimizer"] == "adamw"]
    assert 0.7 < len(kept) / len(points) < 0.9
    assert statistics.median(point["learning_rate"] for point in kept) == pytest.approx(0.003, rel=0.3)
    assert {point["filters"] for point in points} >= {16, 24, 32}


def test_another_option_has_its_own_recipe() -> None:
    points = [prior().point(number, []) or {} for number in range(300)]
    rates = [point["learning_rate"] for point in points if point["optimizer"] == "sgd"]
    assert statistics.median(rates) == pytest.approx(0.03, rel=0.4)


def test_a_trials_draw_depends_on_its_number_alone() -> None:
    assert prior().point(3, []) == prior().point(3, [])
    assert prior().point(3, []) != prior().point(4, [])
    assert prior(seed=None).point(3, []) != prior(seed=None).point(3, [])


def test_the_weight_is_the_share_of_the_first_draws() -> None:
    drawn = [prior(0.5).point(number, []) for number in range(400)]
    assert 0.4 < sum(point is not None for point in drawn) / len(drawn) < 0.6


def test_the_share_fades_to_nothing() -> None:
    shares = [prior().share([ended(0.5, near=False)] * number) for number in range(FADED + 2)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0
    assert shares[FADED] == 0.0


def test_a_recipe_that_loses_fades_sooner() -> None:
    losing = [ended(0.9, near=True), ended(0.8, near=True), *[ended(0.1 * n, near=False) for n in range(1, 5)]]
    winning = [ended(0.01, near=True), ended(0.02, near=True), *[ended(0.1 * n, near=False) for n in range(1, 5)]]
    assert prior().share(losing) < 0.25 * prior().share(winning)


def test_the_better_one_is_that_of_the_objectives() -> None:
    near, other = ended(0.9, near=True), ended(0.1, near=False)
    assert prior(directions=("maximize",)).share([near, other]) > prior().share([near, other])
    of_two = [create_trial(values=[0.1, 5.0], user_attrs={NEAR: True}), create_trial(values=[0.2, 4.0])]
    beaten = [create_trial(values=[0.3, 5.0], user_attrs={NEAR: True}), create_trial(values=[0.2, 4.0])]
    several = prior(directions=("minimize", "minimize"))
    assert several.share(of_two) > several.share(beaten)


def test_of_pruned_trials_the_better_one_wins() -> None:
    pruned = [ended(0.5, near=False, state=TrialState.PRUNED)] * 4
    good, bad = (ended(value, near=True, state=TrialState.PRUNED) for value in (0.1, 0.9))
    assert prior().share([*pruned, bad]) < prior().share([*pruned, good])


def test_a_pruned_trial_lost_to_a_complete_one() -> None:
    pruned_near = [ended(0.1, near=True, state=TrialState.PRUNED), ended(0.9, near=False)]
    assert prior().share(pruned_near) < prior().share([ended(0.1, near=True), ended(0.9, near=False)])


def test_optuna_takes_the_point() -> None:
    study = optuna.create_study()
    point = prior().point(0, []) or {}
    study.enqueue_trial(point)
    trial = study.ask(SPACE)
    assert trial.params == point


def queue_of(make_sweep: MakeSweep, folder: Path, *arguments: str) -> tuple[Sweep, Queue]:
    """A sweep with a study of its own, and the study's queue."""
    places = f"hydra.sweeper.storage=sqlite:///{folder}/studies.db", f"hydra.sweep.dir={folder}/sweep"
    sweep = make_sweep(*arguments, *places)
    return sweep, set_up(sweep)


RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"


def test_the_first_trial_is_the_recipe_and_later_ones_lean_on_it(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep, queue = queue_of(make_sweep, tmp_path, RATE, "optimizer=adamw,sgd", "search.prior=1", "seed=7")
    first = queue.ask(sweep)
    assert first
    sweep.suggest(first)
    recipe = {"optimizer": "adamw", "optimizer.learning_rate": sweep.config.optimizer.learning_rate}
    assert queue.read(first.number).params == recipe
    second = queue.ask(sweep)
    assert second
    sweep.suggest(second)
    near = queue.read(second.number)
    assert near.user_attrs[NEAR]
    assert near.params != recipe


def test_a_value_of_the_recipe_outside_of_the_space_is_drawn(make_sweep: MakeSweep, tmp_path: Path) -> None:
    narrow = "optimizer.learning_rate=interval(0.05,0.1)"
    sweep, queue = queue_of(make_sweep, tmp_path, narrow, "model.dropout=interval(0,0.4)")
    trial = queue.ask(sweep)
    assert trial
    sweep.suggest(trial)
    params = queue.read(trial.number).params
    assert params["model.dropout"] == sweep.config.model.dropout
    assert 0.05 <= params["optimizer.learning_rate"] <= 0.1


@pytest.mark.parametrize(
    "arguments",
    [
        (RATE, "search.prior=0"),
        (RATE, "hydra/sweeper/sampler=random"),
        ("optimizer.learning_rate=0.1,0.2", "hydra.sweeper.n_trials=2"),
    ],
)
def test_other_sweeps_draw_alone(make_sweep: MakeSweep, arguments: tuple[str, ...]) -> None:
    assert make_sweep(*arguments).prior is None


def test_a_trial_that_is_tried_again_is_still_near_the_recipe(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep, queue = queue_of(make_sweep, tmp_path, RATE)
    trial = queue.ask(sweep)
    assert trial
    sweep.suggest(trial)
    queue.fail_and_requeue(queue.read(trial.number), "killed", max_retries=2)
    again = queue.ask(sweep)
    assert again and queue.read(again.number).user_attrs[NEAR]


def test_a_weight_out_of_its_range_is_refused(make_sweep: MakeSweep) -> None:
    config = make_sweep(RATE, "search.prior=2").config
    with pytest.raises(UserError, match=r"search\.prior=2"):
        schema.parse(without_hydra(config))
