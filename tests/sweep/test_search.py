"""Samplers and pruners act: with enough trials, which sleep, each does what random search and no pruning do not."""

from collections.abc import Callable

import pytest
from optuna.trial import TrialState

from tests.sweep.conftest import LEARNING_RATE, Sweeps

COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED
DROPOUT = "model.dropout=interval(0,0.5)"
DRAWN = 8


def drawn(in_process: Callable[..., Sweeps], sampler: str, *options: str) -> list[tuple[float, float]]:
    """The points that a sampler draws with seed 0, one after the other."""
    choice = (f"study={sampler}", f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.sampler.seed=0", "search.prior=0")
    sweeps = in_process(LEARNING_RATE, DROPOUT, "epochs=1", f"hydra.sweeper.n_trials={DRAWN}", *choice, *options)
    assert sweeps.states(sampler) == {COMPLETE: DRAWN}
    trials = sweeps.trials(sampler)
    return [(trial.params["optimizer.learning_rate"], trial.params["model.dropout"]) for trial in trials]


@pytest.mark.parametrize(
    ("sampler", "options", "startup"),
    [
        ("optuna", ["+hydra.sweeper.sampler.n_startup_trials=3"], 3),
        ("tpe", ["hydra.sweeper.sampler.n_startup_trials=3"], 3),
        ("cmaes", [], 1),
        ("gp", ["hydra.sweeper.sampler.n_startup_trials=3"], 3),
        ("nsgaii", ["hydra.sweeper.sampler.population_size=4"], 4),
        ("qmc", [], 1),
    ],
)
def test_a_sampler_leaves_random_search_after_its_startup(
    in_process: Callable[..., Sweeps], sampler: str, options: list[str], startup: int
) -> None:
    if sampler == "gp":
        pytest.importorskip("torch", reason="Optuna's GP sampler needs PyTorch: pip install '.[gp]'")
    chance, chosen = drawn(in_process, "random"), drawn(in_process, sampler, *options)
    assert chosen[:startup] == chance[:startup]
    # NSGA-II may mutate all of a point, to what random search would have drawn.
    differ = [own != other for own, other in zip(chosen[startup:], chance[startup:], strict=True)]
    assert sum(differ) > len(differ) / 2
    assert all(1e-4 <= rate <= 1e-1 and 0 <= dropout <= 0.5 for rate, dropout in chosen)


# Eight that learn, two that get worse, and at last the best.
RATES = [0.02, 0.021, 0.022, 0.023, 0.024, 0.025, 0.026, 0.027, 0.0001, 0.00011, 0.01]


def pruned(sweeps: Sweeps, pruner: str) -> set[float]:
    """The learning rates of RATES that a pruner stops."""
    points = ",".join(f"{{optimizer.learning_rate:{rate}}}" for rate in RATES)
    options = (f"hydra/sweeper/pruner={pruner}", f"hydra.sweeper.n_trials={len(RATES)}", "epochs=9")
    sweeps.ok(LEARNING_RATE, f"search.points=[{points}]", *options)
    trials = sweeps.trials()
    assert [trial.params["optimizer.learning_rate"] for trial in trials] == RATES
    assert {trial.state for trial in trials} <= {COMPLETE, PRUNED}
    assert all((len(trial.intermediate_values) < 9) == (trial.state == PRUNED) for trial in trials)
    return {rate for rate, trial in zip(RATES, trials, strict=True) if trial.state == PRUNED}


@pytest.mark.parametrize("pruner", ["peers", "median", "percentile", "hyperband", "successive_halving", "patient"])
def test_a_pruner_stops_bad_trials_and_spares_the_best(sweeps: Sweeps, pruner: str) -> None:
    stopped = pruned(sweeps, pruner)
    assert {0.0001, 0.00011} <= stopped and 0.01 not in stopped


def test_without_a_pruner_bad_trials_run_to_their_end(sweeps: Sweeps) -> None:
    assert pruned(sweeps, "none") == set()
