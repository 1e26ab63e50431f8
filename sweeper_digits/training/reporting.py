"""The trial that this process trains: training reports to it, and asks it whether to stop.

A job of a sweep attaches to its trial (`sweep.job`) and sets it here, where the training finds it; a run outside of a
sweep finds None. No optuna and no keras here.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from sweeper_digits.components import Data
from sweeper_digits.config import objectives
from sweeper_digits.data.fingerprint import Content
from sweeper_digits.errors import UserError

log = logging.getLogger(__name__)


# A trial that is no better than guessing after this share of its epochs, and so many at least, is hopeless. Of 255
# recorded trainings of 12 epochs, one that was so after 2 became the 16th; none that was so after 3 was among the best
# half (benchmarks/README.md).
FIRST_SHARE, FEWEST_FIRST = 0.25, 2


def better_of(metric: str) -> Callable[[float, float], float]:
    """Return the function that chooses the better of two values of a metric."""
    return max if objectives()[metric] == "maximize" else min


class Reports(Protocol):
    """The two methods of an optuna.Trial that a running trial needs."""

    def report(self, value: float, step: int) -> None:
        """Store an intermediate value."""

    def should_prune(self) -> bool:
        """Ask the pruner."""


class Front(Protocol):
    """The reports of a trial with several objectives after each epoch."""

    def report(self, measured: Mapping[str, float]) -> bool:
        """Store the objectives; return whether the trial is to stop."""


class Link(Protocol):
    """Tells the study how far a trial is."""

    def tell(self, progress: Mapping[str, float]) -> bool:
        """Tell of an epoch; return whether a person has stopped the trial."""

    def take_over(self, epochs: int) -> None:
        """Tell of epochs that the trial took over."""

    def check_data(self, option: Data, content: Content) -> None:
        """Raise `OtherData` unless all trials of the study that read this option have read the same."""


class RunningTrial:
    """The trial that this process trains.

    Args:
        trial: Optuna's trial.
        by_fold: Whether the pruner wants one value per fold instead of one per epoch.
        prunes: False with several objectives, where Optuna cannot prune.
        stops_chance: Whether a trial is pruned that is no better than guessing after its first epochs.
        front: What prunes with several objectives, if anything does.
        link: Tells the study how far the trial is.

    Attributes:
        pruned: Whether the trial has to stop.
        splits: Number of trainings in the trial: the folds.
        folds: Values of the finished folds.
        no_better_than_guessing: Says it of a value; a training sets it.
    """

    def __init__(
        self,
        trial: Reports,
        by_fold: bool,
        prunes: bool,
        stops_chance: bool = False,
        front: Front | None = None,
        link: Link | None = None,
    ) -> None:
        self.trial, self.by_fold, self.prunes, self.stops_chance = trial, by_fold, prunes, stops_chance
        self.front, self.link = front, link
        self.pruned = False
        self.splits = 1
        self.folds: list[float] = []
        self.no_better_than_guessing: Callable[[float], bool] = lambda value: False
        self.has_learned = False

    def epoch(self, value: float, epoch: int, epochs: int, last: bool) -> bool:
        """Report the value of an epoch; return whether to stop.

        From the second fold on, the mean over the finished folds' best epochs and this epoch is reported, at steps
        that go on counting, so that trials are compared at the same point of the same fold. A trial is not pruned
        after its last epoch: that would save nothing and throw away a result.

        Args:
            value: The metric that the pruner compares.
            epoch: Counted from 0.
            epochs: Planned epochs of one training.
            last: Whether this is the last epoch of its training.
        """
        if self.prunes and not self.by_fold:
            mean = (sum(self.folds) + value) / (len(self.folds) + 1)
            self.trial.report(mean, len(self.folds) * epochs + epoch)
            worse = self.trial.should_prune()  # asked in any case: some pruners keep count of the asking
            self.has_learned = self.has_learned or not self.no_better_than_guessing(value)
            first_epochs = max(FEWEST_FIRST, math.ceil(FIRST_SHARE * epochs))
            hopeless = self.stops_chance and not self.has_learned and epoch + 1 >= first_epochs
            self.pruned = (worse or hopeless) and not (last and len(self.folds) + 1 == self.splits)
        return self.pruned

    def epoch_of_several(self, measured: Mapping[str, float], last: bool) -> bool:
        """Report the objectives after an epoch, where there are several; return whether to stop."""
        self.pruned = self.front is not None and self.front.report(measured) and not last
        return self.pruned

    def check_data(self, option: Data, content: Content) -> None:
        """Raise `OtherData` if the option of the data gave an earlier trial of the study another content."""
        if self.link:
            self.link.check_data(option, content)

    def tell(self, measured: Mapping[str, float], epoch: int, epochs: int, last: bool) -> bool:
        """Tell the study of an epoch; return whether a person has stopped the trial, which is then pruned.

        Args:
            measured: What the epoch measured.
            epoch: Counted from 0.
            epochs: Planned epochs of one training.
            last: Whether this is the last epoch of its training.
        """
        if self.link is None:
            return False
        progress = {"epoch": len(self.folds) * epochs + epoch + 1, "epochs": self.splits * epochs}
        stopped = self.link.tell({**measured, **progress}) and not (last and len(self.folds) + 1 == self.splits)
        self.pruned = self.pruned or stopped
        return stopped

    def restore(self, values: Iterable[float], epochs: int) -> None:
        """Report the epochs that a resumed training took over.

        A pruner then sees what it sees of a trial that was never cut off. It is asked after each epoch, for some
        pruners keep count of the asking; its answer is ignored, for the trial has gone on since.
        """
        values = list(values)
        if self.link and values:
            self.link.take_over(len(values))
        for epoch, value in enumerate(values):
            self.epoch(value, epoch, epochs, last=False)
        self.pruned = False

    def fold(self, value: float) -> bool:
        """Report the value of a finished fold's best epoch; return whether to stop."""
        self.folds.append(value)
        self.has_learned = False
        if self.prunes and self.by_fold:
            self.trial.report(value, len(self.folds) - 1)
            self.pruned = self.trial.should_prune() and len(self.folds) < self.splits
        return self.pruned

    def diverge(self, epoch: int, epochs: int) -> None:
        """Report that the loss became NaN; the trial is pruned, so that the sampler learns from it."""
        if self.prunes:
            self.trial.report(math.nan, len(self.folds) if self.by_fold else len(self.folds) * epochs + epoch)
        self.pruned = True


_running: RunningTrial | None = None


def current_trial() -> RunningTrial | None:
    """Return the trial that this process trains, or None outside a sweep."""
    return _running


def set_current_trial(trial: RunningTrial | None) -> None:
    """Begin a trial, or end it with None."""
    global _running
    _running = trial


def start_over(error: UserError) -> None:
    """Log that a trial trains from the beginning what it cannot continue, and why.

    Raises:
        UserError: The error, outside a sweep: there a person can choose.
    """
    if _running is None:
        raise error
    log.warning("starts over: %s", error)
