"""Pruning with several objectives: a trial that another beats in all of them at the same epoch.

Optuna keeps no values of the epochs where there are several objectives, and its pruners refuse such a study. Here they
are an attribute of the trial.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from sweeper_digits.sweep import attributes
from sweeper_digits.sweep.peers import PEERS

if TYPE_CHECKING:
    from sweeper_digits.sweep.queue import Queue

# Attribute of a trial: its objectives after each epoch, of its best weights so far.
CURVE = attributes.kept("objectives_by_epoch", attributes.list_of(attributes.list_of(attributes.NUMBER)))
# Epochs in which no trial is stopped.
WARMUP = 1


class FrontPruner(BasePruner):
    """Stop a trial that is dominated: another had, at the same epoch, no objective worse and one better.

    On recorded curves, val_loss and seconds reach with half of the epochs the front of unpruned trials
    (benchmarks/README.md).
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether the trial is to stop, after the last objectives that it reported."""
        curve = attributes.of_trial(trial).get(CURVE, [])
        if len(curve) <= WARMUP:
            return False
        signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions]
        others = (other for other in study.get_trials(deepcopy=False, states=PEERS) if other.number != trial.number)
        curves = (attributes.of_trial(other).get(CURVE, []) for other in others)
        return any(dominates(one[len(curve) - 1], curve[-1], signs) for one in curves if len(one) >= len(curve))


class FrontReports:
    """What a trial of several objectives tells, and asks: see `training.reporting.Front`.

    Args:
        queue: The queue of the trial.
        trial: The trial.
    """

    def __init__(self, queue: "Queue", trial: optuna.Trial) -> None:
        self.queue, self.trial = queue, trial
        self.names = list(queue.study.metric_names or [])
        self.curve: list[list[float]] = []

    def report(self, measured: Mapping[str, float]) -> bool:
        """Store the objectives after an epoch; return whether the trial is to stop."""
        self.curve.append([measured[name] for name in self.names])
        attributes.keep_with_trial(self.trial, CURVE, self.curve)
        study = self.queue.study
        return study.pruner.prune(study, self.queue.read(self.trial.number))


def dominates(one: Sequence[float], other: Sequence[float], signs: Sequence[float]) -> bool:
    """Return whether no objective is worse and one is better; `signs` has -1 for an objective that is maximized."""
    pairs = [(sign * a, sign * b) for sign, a, b in zip(signs, one, other, strict=True)]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
