"""Pruning by comparison with all trials at the same epoch."""

import math

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

# A trial that failed was cut off, and is continued by another, or says nothing.
PEERS = (TrialState.RUNNING, TrialState.PRUNED, TrialState.COMPLETE)


class PeerPruner(BasePruner):
    """Stop a trial whose best value so far is not among the best of all trials at the same epoch.

    Optuna's PercentilePruner compares with complete trials alone, so nothing is pruned before one is complete, and a
    few good trials decide. Here all that have reached the epoch count, the running and the pruned ones too. Replayed
    on recorded curves, that found good points sooner (benchmarks/README.md).

    Args:
        percentile: Of the best values so far of the others, from 0 to 100; a trial that is worse is stopped.
        n_min_trials: Others that must have reached the epoch.
        warmup_fraction: Share of the epochs, from 0 to 1, in which no trial is stopped; at least the first epoch is
            trained, and two of three or more.
        epochs: Of a trial, unless the sweep searches them.

    Raises:
        ValueError: A value out of its range.
    """

    def __init__(self, percentile: float, n_min_trials: int, warmup_fraction: float, epochs: int) -> None:
        for name, value, high in (("percentile", percentile, 100), ("warmup_fraction", warmup_fraction, 1)):
            if not 0 <= value <= high:
                raise ValueError(f"{name}={value}: must be from 0 to {high}")
        if n_min_trials < 1:
            raise ValueError(f"n_min_trials={n_min_trials}: must be 1 or more")
        self.percentile, self.n_min_trials = percentile, n_min_trials
        self.warmup_fraction, self.epochs = warmup_fraction, epochs

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether the trial is to stop, after the last value that it reported."""
        last = trial.last_step
        if last is None:
            return False
        # Of a trial that trains folds, it is shown the steps of the current fold.
        first = min(trial.intermediate_values)
        if last - first < math.floor(self.warmup_fraction * int(trial.params.get("epochs", self.epochs))):
            return False
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        own = _best(trial, sign, first, last)
        others = [
            _best(other, sign, first, last)
            for other in study.get_trials(deepcopy=False, states=PEERS)
            if other.number != trial.number and last in other.intermediate_values
        ]
        if math.isinf(own):
            return True
        return len(others) >= self.n_min_trials and own > float(np.percentile(others, self.percentile, method="lower"))


def _best(trial: FrozenTrial, sign: float, first: int, last: int) -> float:
    """Return the least value, times the sign, of a trial from a step to another; infinity where all are NaN."""
    values = (sign * value for step, value in trial.intermediate_values.items() if first <= step <= last)
    return min((value for value in values if not math.isnan(value)), default=math.inf)
