"""What a study says of its sweep at this moment: for the screen of the sweep, and for `status` elsewhere."""

import functools
import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.screen import printable
from sweeper_digits.sweep.budget import Budget, epochs_of, is_supervised, last_watched, watched_seconds
from sweeper_digits.sweep.finite import Point
from sweeper_digits.sweep.following import BESIDE, progress_of
from sweeper_digits.sweep.peers import PeerPruner, best_so_far, sign_of
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.trials import DONE, FOREIGN, LISTED, is_cut_off, trials_of, tried_points


@dataclass(frozen=True)
class Running:
    """A trial that runs.

    Attributes:
        number: Of the trial.
        worker: `host/number` of a worker process, `host` of a job, or empty before the trial has begun.
        epoch: Epochs that have ended.
        epochs: Planned epochs, over all folds; None before the first has ended.
        measured: What the last epoch measured: `loss`, `val_loss`, `images_per_second`.
        rank: Place among all trials at the same epoch by their best values so far, from 1; None where it is not known.
        of: Number of these trials.
        bar: The worst value that the pruner lets go on at this epoch; None where the pruner has none.
        point: Values by parameter.
    """

    number: int
    worker: str
    epoch: int
    epochs: int | None
    measured: dict[str, float]
    rank: int | None
    of: int
    bar: float | None
    point: Point


@dataclass(frozen=True)
class View:
    """A sweep at one moment.

    Attributes:
        objectives: Their names.
        states: How many trials are in each state.
        running: The trials that run, by number.
        ended: Trials that have ended since the look before, in the order in which they ended.
        cut_off: How many of the failed trials were cut off; others continue these.
        foreign: How many of the failed trials another program ran.
        best: The best complete trial; None with several objectives, without one, or if values do not compare.
        front: Numbers of the Pareto front; none with one objective, or if values do not compare.
        names: All parameters that a trial has.
        varied: Parameters of which two trials have different values.
        used: For each part of the budget, by key of hydra.sweeper: how much is used, and how much there is.
        seconds_left: Until the budget is used up at the pace so far; infinity where nothing tells.
    """

    objectives: list[str]
    states: Counter[TrialState]
    running: list[Running]
    ended: list[FrozenTrial]
    cut_off: int
    foreign: int
    best: FrozenTrial | None
    front: list[int]
    names: list[str]
    varied: set[str]
    used: dict[str, tuple[float, float]]
    seconds_left: float


@dataclass
class Spotter:
    """Looks at a study again and again, and reads of each ended trial only once.

    Args:
        queue: The queue of the study.
        is_enumerated: Whether each point of the space is tried once.
    """

    queue: Queue
    is_enumerated: bool
    best: FrozenTrial | None = None
    cut_off: int = 0
    foreign: int = 0
    front: list[int] = field(default_factory=list)
    settled: int = 0  # so many trials, the first ones, have ended
    ended: set[int] = field(default_factory=set)  # of the later ones
    states: Counter[TrialState] = field(default_factory=Counter)  # of all that have ended
    values: dict[str, Any] = field(default_factory=dict)  # by parameter, of the first trial that has it
    varied: set[str] = field(default_factory=set)
    # By step: the best values so far of the trials that have ended.
    peers: dict[int, list[float]] = field(default_factory=dict)

    @functools.cached_property
    def compares(self) -> bool:
        """Return whether the trials validate on the same images."""
        return not self.queue.helm.other_images()

    def look(self) -> View:
        """Return what the study says now."""
        study, trials = self.queue.study, trials_of(self.queue.study)
        later = trials[self.settled :]
        new = [trial for trial in later if trial.state.is_finished() and trial.number not in self.ended]
        for trial in new:
            self._end(trial)
        while self.settled in self.ended:
            self.ended.remove(self.settled)
            self.settled += 1
        going_on = [trial for trial in later if not trial.state.is_finished()]
        running = [trial for trial in going_on if trial.state == TrialState.RUNNING]
        for trial in running:
            self._note(point_of(trial))
        if len(study.directions) > 1 and new and self.compares:
            self.front = [trial.number for trial in study.best_trials]
        used, left = self._budget(trials)
        return View(
            objectives=objectives_of(study),
            states=self.states + Counter(trial.state for trial in going_on),
            running=[self._running(trial, running) for trial in running],
            ended=sorted(new, key=lambda trial: (trial.datetime_complete, trial.number)),
            cut_off=self.cut_off,
            foreign=self.foreign,
            best=self.best,
            front=self.front,
            names=list(self.values),
            varied=self.varied,
            used=used,
            seconds_left=left,
        )

    def _end(self, trial: FrozenTrial) -> None:
        self.ended.add(trial.number)
        self.states[trial.state] += 1
        self.cut_off += trial.state == TrialState.FAIL and is_cut_off(trial)
        self.foreign += FOREIGN in trial.user_attrs
        self._note(point_of(trial))
        study = self.queue.study
        if trial.state == TrialState.COMPLETE and len(study.directions) == 1 and self.compares:
            sign = sign_of(study)
            if self.best is None or sign * trial.values[0] < sign * self.best.values[0]:
                self.best = trial
        if trial.state in DONE:
            for step, value in _best_by_step(trial, sign_of(study)):
                self.peers.setdefault(step, []).append(value)

    def _note(self, point: Point) -> None:
        for name, value in point.items():
            if self.values.setdefault(name, value) != value:
                self.varied.add(name)

    def _running(self, trial: FrozenTrial, running: list[FrozenTrial]) -> Running:
        told, rank, bar, others = progress_of(trial), None, None, np.zeros(0)
        if trial.last_step is not None and self.compares:
            sign, step = sign_of(self.queue.study), trial.last_step
            beside = [one for one in running if one.number != trial.number and step in one.intermediate_values]
            others = np.array(self.peers.get(step, []) + [best_so_far(one, sign, last=step) for one in beside])
            rank = int(np.sum(others < best_so_far(trial, sign))) + 1
            if isinstance(pruner := self.queue.study.pruner, PeerPruner) and (found := pruner.bar(others)) is not None:
                bar = sign * found
        return Running(
            number=trial.number,
            worker=str(told.get("worker", "")),
            epoch=int(told.get("epoch", len(trial.intermediate_values))),
            epochs=told.get("epochs"),
            measured={name: float(value) for name, value in told.items() if name not in BESIDE},
            rank=rank,
            of=len(others) + 1,
            bar=bar,
            point=point_of(trial),
        )

    def _budget(self, trials: list[FrozenTrial]) -> tuple[dict[str, tuple[float, float]], float]:
        """Return how much of the budget is used, and in how many seconds the sweep ends at its pace so far."""
        study = self.queue.study
        budget = self.queue.helm.budget()
        if self.is_enumerated:
            budget = Budget(tried_points(trials), budget.timeout, budget.n_epochs)
        attributes = study.user_attrs
        watched = watched_seconds(attributes)
        if runs := is_supervised(attributes):  # it writes its time each few seconds only
            watched += max(0.0, time.time() - (last_watched(attributes) or 0.0))
        used = budget.used(study, trials)
        if budget.timeout is not None:
            used["timeout"] = watched, budget.timeout
        done = sum(self.states[state] for state in DONE)
        if watched <= 0 or not runs:
            return used, math.inf
        epochs = sum(epochs_of(trials)) if budget.n_epochs is not None else 0
        rates = {"n_trials": done / watched, "n_epochs": epochs / watched}
        return used, budget.seconds_left(study, trials, rates)


def objectives_of(study: optuna.Study) -> list[str]:
    """Return the names of the objectives of a study, as a person is to see them."""
    return list(map(printable, study.metric_names or ["objective"]))


def point_of(trial: FrozenTrial) -> Point:
    """Return the values of a trial by parameter, or those of its listed point."""
    return dict(trial.params or trial.user_attrs.get(LISTED, {}))


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return each parameter's name without its group where the rest is the name of no other parameter."""
    names = list(names)
    ends = Counter(name.rpartition(".")[2] for name in names)
    return {name: end if ends[end := name.rpartition(".")[2]] == 1 else name for name in names}


def _best_by_step(trial: FrozenTrial, sign: float) -> list[tuple[int, float]]:
    """Return, for each step that a trial has reported, its best value so far times the sign."""
    best, found = math.inf, []
    for step, value in sorted(trial.intermediate_values.items()):
        if not math.isnan(value):
            best = min(best, sign * value)
        found.append((step, best))
    return found
