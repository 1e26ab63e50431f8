"""Ours for benchmarks/search.py: the sampler, the pruner and the first guess of conf/, as a sweep has them."""

import dataclasses
from collections.abc import Callable

import numpy as np
import optuna

from benchmarks.studies import OptunaSearch
from benchmarks.tasks import Point, Task, draw
from sweeper_digits.sweep.peers import PeerPruner, first_judged
from sweeper_digits.sweep.prior import Prior
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.scouts import POINT_FROM, RECIPE, number_of_scouts
from sweeper_digits.sweep.study import SeededSampler

# conf/hydra/sweeper/sampler/optuna.yaml and pruner/peers.yaml, and search.prior of conf/config.yaml.
MULTIVARIATE = False
PERCENTILE, FIRST_FRACTION = 35.0, 0.0
SCOUTS = 20
WEIGHT = 0.66


class Ours(OptunaSearch):
    """A sweep's draws: scouts first, the recipe among them, then the best of them, then two in three near the best.

    Each trial has random numbers of its own.

    Args:
        task: What is searched.
        generator: Draws the noise of the curves.
        seed: Of the draws.
        has_recipe: Whether the first trial is the task's default point.
    """

    def __init__(self, task: Task, generator: np.random.Generator, seed: int, has_recipe: bool = True) -> None:
        def sampler(number: int) -> optuna.samplers.BaseSampler:
            return optuna.samplers.TPESampler(multivariate=MULTIVARIATE, seed=(seed * 1_000_003 + number) % 2**32)

        pruner = PeerPruner(PERCENTILE, n_min_trials=1, first_fraction=FIRST_FRACTION, epochs=task.epochs)
        super().__init__(task, generator, SeededSampler(sampler), pruner)
        self.prior = Prior(
            lambda chosen: dict(task.default) | chosen,
            [],
            WEIGHT,
            dict(task.space),
            seed,
            lambda chosen: set(task.space),
        )
        first = first_judged(FIRST_FRACTION, task.epochs)
        self.scouts = number_of_scouts(SCOUTS, task.epochs, first, n_trials=None)
        # In memory, a storage needs no retries.
        self.queue = Queue(self.study, self.study._storage)  # type: ignore[arg-type]
        if has_recipe:
            self.study.enqueue_trial(task.default, user_attrs={POINT_FROM: RECIPE})

    def begin(self) -> optuna.Trial:
        """Begin a trial, as a worker of a sweep does."""
        return self.queue.place(self.study.ask(), self.scouts, self.prior)


def ours(task: Task, generator: np.random.Generator, seed: int, workers: int, has_recipe: bool = True) -> Ours:
    """Return the default search."""
    return Ours(task, generator, seed, has_recipe)


def with_recipe(choose: Callable[[Task, int], Point]) -> Callable[[Task, np.random.Generator, int, int], Ours]:
    """Return the default search with another recipe than the task's own, which depends on task and seed."""

    def search(task: Task, generator: np.random.Generator, seed: int, workers: int) -> Ours:
        return ours(dataclasses.replace(task, default=choose(task, seed)), generator, seed, workers)

    return search


def of_ten(task: Task, seed: int, place: int) -> Point:
    """Return one of ten random points, by its place among them: 0 is the best."""
    generator = np.random.default_rng([seed, 10])
    points = [draw(task.space, generator) for _ in range(10)]
    return sorted(points, key=lambda point: float(task.curve(point, generator).worth.min()))[place]
