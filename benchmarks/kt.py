"""KerasTuner's Hyperband and BayesianOptimization, driven through their own oracles: pip install keras-tuner."""

import os
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, IntDistribution

from benchmarks.replay.workers import Curve, Job, Search
from benchmarks.tasks import Task

OBJECTIVE = "val_loss"
# Larger than any search here; an oracle that has used them up ends the search.
MANY = 100_000


def space(task: Task) -> Any:
    """Return the search space as KerasTuner's HyperParameters."""
    import keras_tuner

    parameters = keras_tuner.HyperParameters()
    for name, of in task.space.items():
        if isinstance(of, CategoricalDistribution):
            parameters.Choice(name, list(of.choices), default=task.default.get(name))
            continue
        add = parameters.Int if isinstance(of, IntDistribution) else parameters.Float
        step = of.step if isinstance(of, IntDistribution) and not of.log else None
        add(name, of.low, of.high, step=step, sampling="log" if of.log else "linear", default=task.default.get(name))
    return parameters


class OracleSearch:
    """An oracle and the tuners that ask it, one for each worker.

    Args:
        task: What is searched.
        generator: Draws the noise of the curves.
        oracle: Of KerasTuner. Its files, which only a restart reads, are not written.
        workers: How many tuners ask.
    """

    def __init__(self, task: Task, generator: np.random.Generator, oracle: Any, workers: int) -> None:
        self.task, self.generator, self.oracle = task, generator, oracle
        oracle.verbose = 0
        oracle.save = lambda: None
        oracle._save_trial = lambda trial: None
        self.free = [f"tuner{number}" for number in range(workers)]
        self.tuner: dict[str, str] = {}  # trial -> who trains it
        self.curves: dict[str, Curve] = {}
        self.values: dict[str, list[float]] = {}

    def ask(self) -> Job | None:
        """Return what the oracle lets a tuner train; a continued trial begins where its predecessor ended."""
        trial = self.oracle.create_trial(self.free[-1])
        if trial.status != "RUNNING":
            return None  # IDLE while a round waits for its last trials, or STOPPED
        self.tuner[trial.trial_id] = self.free.pop()
        values = trial.hyperparameters.values
        past = values.get("tuner/trial_id")
        point = {name: values[name] for name in self.task.space}
        curve = self.curves[past] if past else self.task.curve(point, self.generator)
        self.curves[trial.trial_id] = curve
        self.values[trial.trial_id] = []
        epochs = values.get("tuner/epochs", self.task.epochs)
        return Job(curve, values.get("tuner/initial_epoch", 0), epochs, trial)

    def report(self, job: Job, epoch: int, value: float) -> bool:
        """Note the value: a tuner tells its oracle when the training has ended."""
        self.values[job.trial.trial_id].append(value)
        return bool(np.isnan(value))

    def end(self, job: Job) -> None:
        """Tell the oracle the best epoch, as keras_tuner/src/engine/base_tuner.py does with a History."""
        trial = job.trial
        values = self.values[trial.trial_id]
        if np.isnan(values).all():
            trial.status, trial.message = "FAILED", "diverged"
        else:
            best = int(np.nanargmin(values))
            self.oracle.update_trial(trial.trial_id, {OBJECTIVE: values[best]}, step=best)
            trial.status = "COMPLETED"
        self.oracle.end_trial(trial)
        self.free.append(self.tuner.pop(trial.trial_id))


def oracle(kind: str, task: Task, generator: np.random.Generator, seed: int, workers: int) -> Search:
    """Return a search by "hyperband" or "bayesian"."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras_tuner

    common: dict[str, Any] = {
        "objective": keras_tuner.Objective(OBJECTIVE, "min"),
        "hyperparameters": space(task),
        "seed": seed + 1,  # 0 would be no seed
        "max_consecutive_failed_trials": MANY,  # the default of 3 would end the search
    }
    # Other arguments as in https://keras.io/keras_tuner/api/oracles/; factor=3 is the default there. The documentation
    # of hyperband_iterations: "as high a value as is within your resource budget".
    if kind == "hyperband":
        made = keras_tuner.oracles.HyperbandOracle(max_epochs=task.epochs, hyperband_iterations=MANY, **common)
    else:
        made = keras_tuner.oracles.BayesianOptimizationOracle(max_trials=MANY, **common)
    return OracleSearch(task, generator, made, workers)
