"""A search without a sampler: recorded trainings in a given order, stopped by one of Optuna's pruners."""

from collections.abc import Sequence

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from sweeper_digits.replay.workers import Curve, Job


class PrunedSearch:
    """Train recorded curves in their order; Optuna's own `prune` decides which of them stop early.

    A value that is no number ends its trial, as a training that diverges ends in a sweep.

    Args:
        curves: What is trained, in this order; smaller values are better.
        pruner: Any pruner of Optuna's kind.
        name: Of the study. Hyperband draws a trial's bracket by it, so it has to differ from replay to replay.
    """

    def __init__(self, curves: Sequence[Curve], pruner: BasePruner, name: str) -> None:
        self.curves = curves
        self.begun = 0
        self.study = optuna.create_study(study_name=name, pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0))
        self.pruned: list[int] = []

    def ask(self) -> Job | None:
        """Return the next curve whole; None: all have begun."""
        if self.begun == len(self.curves):
            return None
        curve = self.curves[self.begun]
        trial = self.study.ask()
        self.begun += 1
        return Job(curve, 0, len(curve.values), trial)

    def report(self, job: Job, epoch: int, value: float) -> bool:
        """Return whether the trial is to stop: it diverged, or the pruner says so before its last epoch."""
        trial = job.trial
        assert isinstance(trial, optuna.Trial)  # noqa: S101 - `ask` made it
        if not np.isfinite(value):
            return True
        trial.report(value, epoch)
        if epoch + 1 == job.last or not trial.should_prune():
            return False
        self.pruned.append(trial.number)
        return True

    def end(self, job: Job, epochs: int) -> None:
        """Tell the study how the trial ended."""
        trial = job.trial
        assert isinstance(trial, optuna.Trial)  # noqa: S101 - `ask` made it
        values = job.curve.values[:epochs]
        if not np.isfinite(values[-1]):
            self.study.tell(trial, state=TrialState.FAIL)
        elif trial.number in self.pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, float(np.min(values)))
