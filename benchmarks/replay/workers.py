"""Simulated workers that train recorded learning curves, each at its own pace: a search without its trainings."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Curve:
    """A recorded training.

    Attributes:
        values: float64 (epochs,), what each epoch measured; smaller is better, NaN once the training diverged.
        seconds: float64 (epochs,), how long each epoch took.
        worth: float64 (epochs,), what the weights of each epoch are worth to the person who searches: `values` again,
            or the same without the noise of the measurement, where that is known.
    """

    values: np.ndarray
    seconds: np.ndarray
    worth: np.ndarray


@dataclass
class Job:
    """What a worker trains: the epochs first ... last - 1 of a curve, counted from 0, unless it is stopped before."""

    curve: Curve
    first: int
    last: int
    trial: Any = None  # what the search knows it by


class Search(Protocol):
    """What decides which points are trained, and how long each."""

    def ask(self) -> Job | None:
        """Return what a free worker does next; None: nothing until another worker's job ends."""

    def report(self, job: Job, epoch: int, value: float) -> bool:
        """Take the value of an epoch, counted from 0; return whether to stop the job."""

    def end(self, job: Job) -> None:
        """Take that a job has ended."""


@dataclass
class Trace:
    """What a replayed search had reached, epoch by epoch.

    Attributes:
        spent: The budget that was used when each epoch had ended.
        worth: What the weights with the best measured value so far are worth.
    """

    spent: list[float] = field(default_factory=list)
    worth: list[float] = field(default_factory=list)

    def at(self, spent: float) -> float:
        """Return the worth that was reached with a part of the budget; NaN before the first epoch."""
        place = int(np.searchsorted(self.spent, spent, side="right")) - 1
        return self.worth[place] if place >= 0 else float("nan")


def of_epochs(curve: Curve, epoch: int) -> float:
    """Count an epoch as one, whatever it takes."""
    return 1.0


def of_seconds(curve: Curve, epoch: int) -> float:
    """Count the seconds of an epoch."""
    return float(curve.seconds[epoch])


def replay(search: Search, budget: float, cost: Callable[[Curve, int], float], workers: int = 1) -> Trace:
    """Let simulated workers do what a search asks for until a budget is used up.

    The workers take as long as the curves say; the budget is counted by `cost`, over all workers.

    Args:
        search: What decides.
        budget: In units of `cost`.
        cost: Of an epoch of a curve: `of_epochs` or `of_seconds`.
        workers: How many train at the same time.

    Returns:
        The trace. It ends before the budget does if the search has nothing left to do.
    """
    trace, best, worth, spent = Trace(), np.inf, np.nan, 0.0
    order = itertools.count()  # of equal times, the earlier event comes first
    running: list[tuple[float, int, Job, int]] = []
    now, idle = 0.0, workers

    def begin(job: Job, epoch: int) -> None:
        heapq.heappush(running, (now + float(job.curve.seconds[epoch]), next(order), job, epoch))

    while spent < budget:
        while idle and (job := search.ask()) is not None:
            idle -= 1
            begin(job, job.first)
        if not running:
            break
        now, _, job, epoch = heapq.heappop(running)
        value = float(job.curve.values[epoch])
        spent += cost(job.curve, epoch)
        if value < best:
            best, worth = value, float(job.curve.worth[epoch])
        trace.spent.append(spent)
        trace.worth.append(worth)
        if search.report(job, epoch, value) or epoch + 1 == job.last:
            search.end(job)
            idle += 1
        else:
            begin(job, epoch + 1)
    return trace
