"""The job's side of a trial: what training tells the sweep, and what it is told.

Trials run inside the worker process that asked for them, so the worker sets the trial here and
training finds it; a run outside a sweep finds None. No optuna and no keras here.
"""

import math
from typing import Protocol

# Attribute of a trial whose job, elsewhere, has begun and sends its own heartbeats.
ATTACHED = "attached"


class Reports(Protocol):
    """The two methods of an optuna.Trial that a running trial needs."""

    def report(self, value: float, step: int) -> None:
        """Store an intermediate value."""

    def should_prune(self) -> bool:
        """Ask the pruner."""


class RunningTrial:
    """The trial that this process trains.

    Args:
        trial: Of Optuna.
        by_fold: Whether the pruner wants one value per fold instead of one per epoch.
        prunes: False with several objectives, where Optuna cannot prune.

    Attributes:
        pruned: Whether it is to stop.
        splits: How many trainings it consists of, one after the other: the folds.
    """

    def __init__(self, trial: Reports, by_fold: bool, prunes: bool) -> None:
        self.trial, self.by_fold, self.prunes = trial, by_fold, prunes
        self.pruned = False
        self.splits = 1
        self.folds: list[float] = []

    def epoch(self, value: float, epoch: int, epochs: int, last: bool) -> bool:
        """Report the value of an epoch, counted from 0, maybe the last of its training; return whether to stop.

        After the first fold it is the mean over the folds done and this one so far, at steps
        that go on counting, so that trials are compared at the same point of the same fold. A
        trial that has all its epochs behind it is not pruned: that would save nothing, and
        throw away a result.
        """
        if self.prunes and not self.by_fold:
            mean = (sum(self.folds) + value) / (len(self.folds) + 1)
            self.trial.report(mean, len(self.folds) * epochs + epoch)
            worse = self.trial.should_prune()  # asked in any case: some pruners keep count of the asking
            self.pruned = worse and not (last and len(self.folds) + 1 == self.splits)
        return self.pruned

    def fold(self, value: float) -> bool:
        """Report the value of a finished fold's best epoch; return whether to stop."""
        self.folds.append(value)
        if self.prunes and self.by_fold:
            self.trial.report(value, len(self.folds) - 1)
            self.pruned = self.trial.should_prune() and len(self.folds) < self.splits
        return self.pruned

    def diverge(self, epoch: int, epochs: int) -> None:
        """Note that the loss became NaN: the trial is pruned, so that the sampler learns from it."""
        if self.prunes:
            self.trial.report(math.nan, len(self.folds) if self.by_fold else len(self.folds) * epochs + epoch)
        self.pruned = True


_running: RunningTrial | None = None


def running() -> RunningTrial | None:
    """Return the trial that this process trains, or None outside a sweep."""
    return _running


def set_running(trial: RunningTrial | None) -> None:
    """Begin a trial, or end it with None."""
    global _running
    _running = trial
