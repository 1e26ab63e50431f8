"""Ours for benchmarks/search.py: the sampler, the pruner and the first guess of conf/, as a sweep has them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna

from benchmarks.studies import OptunaSearch
from benchmarks.tasks import Point, Task, draw
from sweeper_digits.sweep.peers import PeerPruner
from sweeper_digits.sweep.prior import NEAR, RECIPE, Prior
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.study import SeededSampler


class Ours(OptunaSearch):
    """A sweep's draws: each trial has random numbers of its own, the first is the recipe, and early ones lean on it.

    Args:
        task: What is searched.
        generator: Draws the noise of the curves.
        pruner: Of the study.
        seed: Of the draws.
        weight: search.prior.
    """

    def __init__(
        self, task: Task, generator: np.random.Generator, pruner: optuna.pruners.BasePruner, seed: int, weight: float
    ) -> None:
        sampler = SeededSampler(lambda number: optuna.samplers.TPESampler(seed=(seed * 1_000_003 + number) % 2**32))
        super().__init__(task, generator, sampler, pruner)
        self.prior = Prior(lambda chosen: dict(task.default) | chosen, [], weight, dict(task.space), seed, ["minimize"])
        # In memory, a storage needs no retries.
        self.queue = Queue(self.study, self.study._storage)  # type: ignore[arg-type]
        if weight:
            self.study.enqueue_trial(task.default, user_attrs={NEAR: RECIPE})

    def begin(self) -> optuna.Trial:
        """Begin a trial, as a worker of a sweep does."""
        return self.queue.lean(self.prior, self.study.ask())


def ours(
    task: Task, generator: np.random.Generator, seed: int, workers: int, weight: float = 0.5, **pruner: Any
) -> Ours:
    """Return the default search; `weight` and the keys of the pruner replace those of conf/."""
    # conf/hydra/sweeper/pruner/peers.yaml and search.prior of conf/config.yaml.
    options = {"percentile": 35.0, "n_min_trials": 1, "first_fraction": 0.0} | pruner
    return Ours(task, generator, PeerPruner(epochs=task.epochs, **options), seed, weight)


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
