"""Pruning by comparison with all trials at the same epoch."""

import math

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

# A trial that failed was cut off, and is continued by another, or says nothing.
PEERS = (TrialState.RUNNING, TrialState.PRUNED, TrialState.COMPLETE)

# User attribute of a trial that is stopped when it is judged first, however good it is.
SCOUT = "scout"


class PeerPruner(BasePruner):
    """Stop a trial whose best value so far is not among the best of all trials at the same epoch.

    A trial is judged after a first share of its epochs, and each time that its epochs have doubled. All trials that
    were judged there count, the running and the pruned ones too: the next ones to be better need to beat the survivors.
    It is asynchronous successive halving (Li et al. 2020, https://arxiv.org/abs/1810.05934) with three changes, each of
    which found good points sooner on recorded curves (benchmarks/README.md): trials are compared by their best epoch so
    far, the share that goes on is a percentile, and the next epoch to be judged at comes sooner.

    The first trials of a sweep are scouts (sweep/scouts.py): they stop when they are judged first. The first trial that
    trains to its end is then the best of several instead of one that happened to be first.

    Args:
        percentile: Of the best values so far of the others, from 0 to 100; a trial that is worse is stopped.
        n_min_trials: Others that must have reached the epoch.
        first_fraction: Share of the epochs, from 0 to 1, after which a trial is judged first; one epoch at least.
        epochs: Of a trial, unless the sweep searches them.

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
        # Of a trial that trains folds, it is shown the steps of the current fold.
        first = min(trial.intermediate_values)
        if not self._judges(last - first + 1, int(trial.params.get("epochs", self.epochs))):
            return False
        if SCOUT in trial.user_attrs:
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
