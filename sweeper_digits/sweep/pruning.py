"""The pruners: who decides that a trial stops. By peers, by folds, by the front of several objectives; the scouts."""

import copy
import math
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.sweep.points import Point
from sweeper_digits.sweep.record import DONE, TrialRecord

# A trial that failed was cut off, and is continued by another, or says nothing.
PEERS = (TrialState.RUNNING, TrialState.PRUNED, TrialState.COMPLETE)


class PeerPruner(BasePruner):
    """Stop a trial whose best value so far is not among the best of all trials at the same epoch.

    A trial is judged after a first share of its epochs, and each time that its epochs have doubled. All trials that
    were judged there count, the running and the pruned ones too: the next ones to be better need to beat the survivors.
    It is asynchronous successive halving (Li et al. 2020, https://arxiv.org/abs/1810.05934) with three changes, each of
    which found good points sooner on recorded curves (benchmarks/README.md): trials are compared by their best epoch so
    far, the share that goes on is a percentile, and the next epoch to be judged at comes sooner.

    The first trials of a sweep are scouts: they stop when they are judged first. The first trial that
    trains to its end is then the best of several instead of one that happened to be first.

    Args:
        percentile: Of the best values so far of the others, from 0 to 100; a trial that is worse is stopped.
        n_min_trials: Others that must have reached the epoch.
        first_fraction: Share of the epochs, from 0 to 1, after which a trial is judged first; one epoch at least.
        epochs: The epochs of a trial, unless the sweep searches them.

    Raises:
        ValueError: A value out of its range.
    """

    def __init__(self, percentile: float, n_min_trials: int, first_fraction: float, epochs: int) -> None:
        for name, value, high in (("percentile", percentile, 100), ("first_fraction", first_fraction, 1)):
            if not 0 <= value <= high:
                raise ValueError(f"{name}={value}: must be from 0 to {high}")
        if n_min_trials < 1:
            raise ValueError(f"n_min_trials={n_min_trials}: must be 1 or more")
        self.percentile, self.n_min_trials = percentile, n_min_trials
        self.first_fraction, self.epochs = first_fraction, epochs

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether the trial is to stop, after the last value that it reported."""
        last = trial.last_step
        if last is None:
            return False
        # FoldPruner shows a trial that trains folds by the steps of its current fold.
        first = min(trial.intermediate_values)
        if not self._judges(last - first + 1, int(trial.params.get("epochs", self.epochs))):
            return False
        if TrialRecord(trial).scout:
            return True
        sign = sign_of(study)
        own = best_so_far(trial, sign, first, last)
        if math.isinf(own):
            return True
        others = [
            best_so_far(other, sign, first, last)
            for other in study.get_trials(deepcopy=False, states=PEERS)
            if other.number != trial.number and last in other.intermediate_values
        ]
        bar = self.bar(np.array(others))
        return bar is not None and own > bar

    def bar(self, others: np.ndarray) -> float | None:
        """Return the largest value that goes on, or None while too few trials were judged at the same epoch.

        Args:
            others: float64 (n,), the best values so far of the other trials; infinity for one that diverged.
        """
        learned = others[np.isfinite(others)]
        if len(others) < self.n_min_trials or not len(learned):
            return None
        # Diverged trials are as bad as the worst of the others: the percentile lies between two numbers.
        return float(np.percentile(np.minimum(others, learned.max()), self.percentile))

    def _judges(self, epoch: int, epochs: int) -> bool:
        """Return whether a trial is judged after an epoch, counted from 1: a first one, twice that, and so on."""
        times, rest = divmod(epoch, first_judged(self.first_fraction, epochs))
        return rest == 0 and times.bit_count() == 1


def sign_of(study: optuna.Study) -> float:
    """Return -1 where the first objective is maximized, else 1: times the sign, smaller values are better."""
    return -1.0 if study.directions[0] == StudyDirection.MAXIMIZE else 1.0


def first_judged(fraction: float, epochs: int) -> int:
    """Return after how many epochs a trial is judged first: a share of its epochs, one at least."""
    return max(1, math.floor(fraction * epochs))


def best_so_far(trial: FrozenTrial, sign: float, first: float = -math.inf, last: float = math.inf) -> float:
    """Return the least value, times the sign, of a trial from a step to another; infinity where it has none."""
    values = (sign * value for step, value in trial.intermediate_values.items() if first <= step <= last)
    return min((value for value in values if not math.isnan(value)), default=math.inf)


# Pruners that compare the best value of all of a trial's steps so far with the other trials' values at its last step.
BEST_OF_ALL_STEPS = ("MedianPruner", "PercentilePruner", "PatientPruner", "PeerPruner")


class FoldPruner(BasePruner):
    """Show a pruner only those steps of a trial that belong to its current fold.

    The steps go on counting over the folds. The best value of all steps would stay that of an easy first fold, and no
    trial would be pruned in a harder one.

    Args:
        wrapped_pruner: The pruner that judges.
        epochs: Steps of a fold, unless the sweep searches them.
        n_warmup_steps: Epochs at the beginning of each fold in which no trial is pruned; at most all but one.
    """

    def __init__(self, wrapped_pruner: BasePruner, epochs: int, n_warmup_steps: int) -> None:
        self.wrapped, self.epochs, self.warmup = wrapped_pruner, epochs, min(n_warmup_steps, epochs - 1)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether the trial is to stop, after the last value that it reported."""
        if trial.last_step is None:
            return False
        epoch = trial.last_step % int(trial.params.get("epochs", self.epochs))
        if epoch < self.warmup:
            return False
        shown, first = copy.copy(trial), trial.last_step - epoch
        shown.intermediate_values = {step: v for step, v in trial.intermediate_values.items() if step >= first}
        return self.wrapped.prune(study, shown)


# Epochs in which no trial is stopped.
WARMUP = 1


class FrontPruner(BasePruner):
    """Stop a trial that is dominated: another had, at the same epoch, no objective worse and one better.

    On recorded curves, val_loss and seconds reach with half of the epochs the front of unpruned trials
    (benchmarks/README.md).
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether the trial is to stop, after the last objectives that it reported."""
        curve = TrialRecord(trial).curve or []
        if len(curve) <= WARMUP:
            return False
        signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions]
        others = (other for other in study.get_trials(deepcopy=False, states=PEERS) if other.number != trial.number)
        curves = (TrialRecord(other).curve or [] for other in others)
        return any(dominates(one[len(curve) - 1], curve[-1], signs) for one in curves if len(one) >= len(curve))


def dominates(one: Sequence[float], other: Sequence[float], signs: Sequence[float]) -> bool:
    """Return whether no objective is worse and one is better; `signs` has -1 for an objective that is maximized."""
    pairs = [(sign * a, sign * b) for sign, a, b in zip(signs, one, other, strict=True)]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


# Where the point of a trial comes from.
NEAR_BEST, BEST_SCOUT = "near the best", "the best scout"
# One of so many trials of n_trials may be a scout.
SHARE = 5


def number_of_scouts(most: int, epochs: int, first: int, n_trials: int | None) -> int:
    """Return how many scouts a sweep has: together they train one whole trial's epochs at most.

    Args:
        most: However long a trial is.
        epochs: The epochs of a trial.
        first: Epochs of a scout.
        n_trials: Of the sweep, a fifth of which may be scouts; None: no limit.
    """
    number = min(most, epochs // first, math.inf if n_trials is None else n_trials // SHARE)
    return int(number) if number > 1 else 0


def best_scout(trials: list[FrozenTrial], sign: float, trial: FrozenTrial) -> Point | None:
    """Return the point of the best scout for the one trial that begins with it, and None for all others.

    It is drawn once all scouts have ended. Of trials that are drawn at the same time, in several processes, the first
    has it: each leaves it to a trial before it that has no point yet, and that one to nobody.

    Args:
        trials: All trials of the study.
        sign: -1 where the objective is maximized, else 1.
        trial: The trial that is drawn.
    """
    scouts = [one for one in trials if TrialRecord(one).scout]
    if not all(scout.state.is_finished() for scout in scouts):
        return None
    before = [one for one in trials if one.number < trial.number and not one.state.is_finished()]
    begun = any(TrialRecord(one).point_from == BEST_SCOUT for one in trials)
    undecided = not all(TrialRecord(one).has_point for one in before)
    if (begun or undecided) and TrialRecord(trial).point_from != BEST_SCOUT:  # it continues one that was cut off
        return None
    ended = [scout for scout in scouts if scout.state in DONE]
    best = min(ended, key=lambda scout: best_so_far(scout, sign), default=None)
    return None if best is None or math.isinf(best_so_far(best, sign)) else best.params
