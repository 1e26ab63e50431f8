"""Samplers and pruners act: with enough trials, which sleep, each does what random search and no pruning do not."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.sweep.conftest import LEARNING_RATE, Sweeps

COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED
DROPOUT = "model.dropout=interval(0,0.5)"
DRAWN = 7


def drawn(in_process: Callable[..., Sweeps], sampler: str, *options: str) -> list[tuple[float, float]]:
    """The points that a sampler draws with seed 0, one after the other."""
    choice = (f"study={sampler}", f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.sampler.seed=0", "search.prior=0")
    sweeps = in_process(LEARNING_RATE, DROPOUT, "epochs=1", f"hydra.sweeper.n_trials={DRAWN}", *choice, *options)
    assert sweeps.states(sampler) == {COMPLETE: DRAWN}
    trials = sweeps.trials(sampler)
    return [(trial.params["optimizer.learning_rate"], trial.params["model.dropout"]) for trial in trials]


SAMPLERS = {
    "cmaes": ([], 1),
    "gp": (["hydra.sweeper.sampler.n_startup_trials=3"], 3),
    "nsgaii": (["hydra.sweeper.sampler.population_size=4"], 4),
    "qmc": ([], 1),
}


def check_sampler(
    in_process: Callable[..., Sweeps], chance: list[Any], name: str, options: list[str], first: int
) -> None:
    """Assert that a sampler draws as random search does until its startup is over, and otherwise afterwards."""
    chosen = drawn(in_process, name, *options)
    assert chosen[:first] == chance[:first], name
    # NSGA-II may mutate all of a point, to what random search would have drawn.
    differ = [own != other for own, other in zip(chosen[first:], chance[first:], strict=True)]
    assert sum(differ) > len(differ) / 2, name
    assert all(1e-4 <= rate <= 1e-1 and 0 <= dropout <= 0.5 for rate, dropout in chosen), name


def test_the_default_sampler_leaves_random_search_after_its_startup(in_process: Callable[..., Sweeps]) -> None:
    chance = drawn(in_process, "random")
    check_sampler(in_process, chance, "tpe", ["hydra.sweeper.sampler.n_startup_trials=3"], 3)


@pytest.mark.slow
def test_each_sampler_leaves_random_search_after_its_startup(in_process: Callable[..., Sweeps]) -> None:
    chance = drawn(in_process, "random")
    for name, (options, first) in SAMPLERS.items():
        if name != "gp" or importlib.util.find_spec("torch"):  # Optuna's GP sampler needs PyTorch: pip install '.[gp]'
            check_sampler(in_process, chance, name, options, first)


# Eight that learn, two that get worse, and at last the best.
RATES = [0.02, 0.021, 0.022, 0.023, 0.024, 0.025, 0.026, 0.027, 0.0001, 0.00011, 0.01]


def pruned(in_process: Callable[..., Sweeps], pruner: str) -> set[float]:
    """The learning rates of RATES that a pruner stops."""
    points = ",".join(f"{{optimizer.learning_rate:{rate}}}" for rate in RATES)
    options = (f"hydra/sweeper/pruner={pruner}", f"hydra.sweeper.n_trials={len(RATES)}", "epochs=9")
    trials = in_process(LEARNING_RATE, f"study={pruner}", f"search.points=[{points}]", *options).trials(pruner)
    assert [trial.params["optimizer.learning_rate"] for trial in trials] == RATES
    assert {trial.state for trial in trials} <= {COMPLETE, PRUNED}
    assert all((len(trial.intermediate_values) < 9) == (trial.state == PRUNED) for trial in trials)
    return {rate for rate, trial in zip(RATES, trials, strict=True) if trial.state == PRUNED}


@pytest.mark.parametrize(
    "pruner",
    [
        "peers",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("median", "percentile", "hyperband", "successive_halving", "patient")
        ),
    ],
)
def test_a_pruner_stops_bad_trials_and_spares_the_best(in_process: Callable[..., Sweeps], pruner: str) -> None:
    stopped = pruned(in_process, pruner)
    assert {0.0001, 0.00011} <= stopped and 0.01 not in stopped


@pytest.mark.slow
def test_without_a_pruner_bad_trials_run_to_their_end(in_process: Callable[..., Sweeps]) -> None:
    assert pruned(in_process, "none") == set()
