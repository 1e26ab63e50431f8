"""A search without a sampler: recorded trainings in a given order, stopped by one of Optuna's pruners."""

from collections.abc import Sequence

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import TrialState

from benchmarks.replay.workers import Curve, Job


class PrunedSearch:
    """Train recorded curves in their order; Optuna's own `prune` decides which of them stop early.

    As in a sweep, a value that is no number ends its trial, which counts as pruned, and no trial is pruned after its
    last epoch. Values go through the storage: an `optuna.Trial` copies itself each time that it is asked.

    Args:
        curves: What is trained, in this order; smaller values are better.
        pruner: Any pruner of Optuna's kind.
        name: Of the study. Hyperband draws a trial's bracket by it, so it has to differ from replay to replay.

    Attributes:
        epochs: How many epochs each curve that was begun was trained so far, in their order.
        ended: The places of those that have ended.
        pruned: The places of those that were stopped.
    """

    def __init__(self, curves: Sequence[Curve], pruner: BasePruner, name: str) -> None:
        self.curves, self.pruner = curves, pruner
        self.epochs: list[int] = []
        self.ended: set[int] = set()
        self.pruned: set[int] = set()
        self.storage = optuna.storages.InMemoryStorage()
        self.study_id = self.storage.create_new_study([StudyDirection.MINIMIZE], name)
        self.study = optuna.load_study(study_name=name, storage=self.storage, pruner=pruner)

    def ask(self) -> Job | None:
        """Return the next curve whole; None: all have begun."""
        if len(self.epochs) == len(self.curves):
            return None
        curve = self.curves[len(self.epochs)]
        self.epochs.append(0)
        return Job(curve, 0, len(curve.values), self.storage.create_new_trial(self.study_id))

    def report(self, job: Job, epoch: int, value: float) -> bool:
        """Return whether the trial is to stop: it diverged, or the pruner says so before its last epoch."""
        trial_id = job.trial
        self.epochs[trial_id] = epoch + 1
        self.storage.set_trial_intermediate_value(trial_id, epoch, value)
        stops = self.pruner.prune(self.study, self.storage.get_trial(trial_id))
        if np.isfinite(value) and (epoch + 1 == job.last or not stops):
            return False
        self.pruned.add(trial_id)
        return True

    def end(self, job: Job) -> None:
        """Tell the study how the trial ended."""
        trial_id = job.trial
        self.ended.add(trial_id)
        if trial_id in self.pruned:
            self.storage.set_trial_state_values(trial_id, TrialState.PRUNED)
        else:
            self.storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [float(np.min(job.curve.values))])
