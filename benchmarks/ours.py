"""Ours for benchmarks/search.py: the sampler, the pruner and the first guess of conf/, as a sweep has them."""

import numpy as np
import optuna

from benchmarks.studies import OptunaSearch
from benchmarks.tasks import Task
from sweeper_digits.sweep.pruning import PeerPruner, first_judged, number_of_scouts
from sweeper_digits.sweep.sampler import Prior, SeededSampler

# conf/hydra/sweeper/sampler/tpe.yaml and pruner/peers.yaml, and search.prior of conf/config.yaml.
MULTIVARIATE = False
PERCENTILE, FIRST_FRACTION = 35.0, 0.0
SCOUTS = 20
WEIGHT = 0.66


class Ours(OptunaSearch):
    """A sweep's draws: scouts first, then the best of them, then two in three near the best.

    Each trial has random numbers of its own.

    Args:
        task: What is searched.
        generator: Draws the noise of the curves.
        seed: Of the draws.
    """

    def __init__(self, task: Task, generator: np.random.Generator, seed: int) -> None:
        def sampler(number: int) -> optuna.samplers.BaseSampler:
            return optuna.samplers.TPESampler(multivariate=MULTIVARIATE, seed=(seed * 1_000_003 + number) % 2**32)

        pruner = PeerPruner(PERCENTILE, n_min_trials=1, first_fraction=FIRST_FRACTION, epochs=task.epochs)
        prior = Prior(WEIGHT, dict(task.space), seed, lambda chosen: set(task.space))
        first = first_judged(FIRST_FRACTION, task.epochs)
        scouts = number_of_scouts(SCOUTS, task.epochs, first, n_trials=None)
        super().__init__(task, generator, SeededSampler(sampler, scouts, prior), pruner)


def ours(task: Task, generator: np.random.Generator, seed: int, workers: int) -> Ours:
    """Return the default search."""
    return Ours(task, generator, seed)
