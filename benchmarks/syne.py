"""Syne Tune's asynchronous schedulers, driven as its Tuner drives them: pip install syne-tune."""

import datetime
import logging
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, IntDistribution

from benchmarks.replay.workers import Job, Search
from benchmarks.tasks import Task

METRIC, TIME = "val_loss", "epoch"


def space(task: Task) -> dict[str, Any]:
    """Return the search space as Syne Tune's domains."""
    from syne_tune import config_space

    domains: dict[str, Any] = {}
    for name, of in task.space.items():
        if isinstance(of, CategoricalDistribution):
            domains[name] = config_space.choice(list(of.choices))
        elif isinstance(of, IntDistribution):
            domains[name] = (config_space.lograndint if of.log else config_space.randint)(of.low, of.high)
        else:
            domains[name] = (config_space.loguniform if of.log else config_space.uniform)(of.low, of.high)
    return domains


class SchedulerSearch:
    """A scheduler of Syne Tune that stops trials.

    Args:
        task: What is searched.
        generator: Draws the noise of the curves.
        scheduler: Of Syne Tune.
    """

    def __init__(self, task: Task, generator: np.random.Generator, scheduler: Any) -> None:
        self.task, self.generator, self.scheduler = task, generator, scheduler
        self.trials = 0

    def ask(self) -> Job | None:
        from syne_tune.backend.trial_status import Trial

        suggestion = self.scheduler.suggest()
        if suggestion is None:
            return None
        trial = Trial(self.trials, dict(suggestion.config), datetime.datetime.now())
        self.trials += 1
        self.scheduler.on_trial_add(trial)
        return Job(self.task.curve(dict(suggestion.config), self.generator), 0, self.task.epochs, trial)

    def report(self, job: Job, epoch: int, value: float) -> bool:
        """Tell the scheduler; a trial that diverged is an error of Syne Tune's."""
        if np.isnan(value):
            self.scheduler.on_trial_error(job.trial)
            return True
        decision = self.scheduler.on_trial_result(job.trial, {METRIC: value, TIME: epoch + 1})
        if decision == "CONTINUE":
            return False
        self.scheduler.on_trial_remove(job.trial)  # as syne_tune/tuner.py, also after the last epoch
        return True

    def end(self, job: Job) -> None:
        """Nothing is left to say: the scheduler itself ends each trial, at the latest at max_t."""


def scheduler(kind: str, task: Task, generator: np.random.Generator, seed: int, workers: int) -> Search:
    """Return a search by "ASHA" or another class of syne_tune.optimizer.baselines that takes the same arguments."""
    logging.getLogger("syne_tune").setLevel(logging.ERROR)
    from syne_tune.optimizer import baselines

    # https://syne-tune.readthedocs.io/en/latest/schedulers.html. The defaults, grace_period=1, reduction_factor=3 and
    # brackets=1, stay.
    made = getattr(baselines, kind)(
        config_space=space(task), metric=METRIC, time_attr=TIME, max_t=task.epochs, random_seed=seed
    )
    return SchedulerSearch(task, generator, made)
