"""A search of benchmarks/search.py that is an Optuna study."""

from collections.abc import Sequence

import numpy as np
import optuna

from benchmarks.replay.workers import Job
from benchmarks.tasks import Point, Task


class OptunaSearch:
    """An Optuna study whose trials are reported, pruned and told as train.py does it; running ones are RUNNING.

    Args:
        task: What is searched.
        generator: Draws the noise of the curves.
        sampler: Of the study.
        pruner: Of the study; None: every trial runs to its end, and its epochs are not reported.
        start: Points that are tried first.
        batch: So many trials are asked for at once; the next batch waits until all have ended.
        name: Of the study. Optuna's Hyperband deals its trials to the brackets by it.
    """

    def __init__(
        self,
        task: Task,
        generator: np.random.Generator,
        sampler: optuna.samplers.BaseSampler,
        pruner: optuna.pruners.BasePruner | None = None,
        start: Sequence[Point] = (),
        batch: int = 1,
        name: str = "search",
    ) -> None:
        self.task, self.generator, self.batch = task, generator, batch
        self.reports = pruner is not None
        self.study = optuna.create_study(sampler=sampler, pruner=pruner or optuna.pruners.NopPruner(), study_name=name)
        for point in start:
            self.study.enqueue_trial(point)
        self.waiting: list[optuna.Trial] = []
        self.running = 0
        self.best: dict[int, float] = {}  # number of a trial -> its least value
        self.diverged: set[int] = set()
        self.stopped: set[int] = set()
        self.ended: list[optuna.Trial] = []

    def ask(self) -> Job | None:
        """Return the next trial of the batch; None while the last ones of a batch still run."""
        if not self.waiting:
            if self.batch > 1 and self.running:
                return None
            # As the stock plugin: all of a batch are asked for before the first one's parameters are suggested.
            self.waiting = [self.study.ask() for _ in range(self.batch)]
        trial = self.waiting.pop(0)
        point = {name: trial._suggest(name, distribution) for name, distribution in self.task.space.items()}
        self.running += 1
        self.best[trial.number] = np.inf
        return Job(self.task.curve(point, self.generator), 0, self.task.epochs, trial)

    def report(self, job: Job, epoch: int, value: float) -> bool:
        trial = job.trial
        if self.reports:
            trial.report(value, epoch)
        if np.isnan(value):
            self.stopped.add(trial.number)
            return True
        self.best[trial.number] = min(self.best[trial.number], value)
        if self.reports and epoch + 1 < self.task.epochs and trial.should_prune():
            self.stopped.add(trial.number)
            return True
        return False

    def end(self, job: Job) -> None:
        """Tell the study, once the whole batch has ended: its best value is what a trial returns."""
        self.ended.append(job.trial)
        self.running -= 1
        if self.batch > 1 and (self.running or self.waiting):
            return
        for trial in sorted(self.ended, key=lambda trial: trial.number):
            if trial.number in self.stopped:
                self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                self.study.tell(trial, self.best[trial.number])
        self.ended = []
