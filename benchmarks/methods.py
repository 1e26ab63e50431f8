"""Methods for benchmarks/search.py: ways to search that are replayed on learning curves.

Each is what a person gets who follows the documentation of its tool; the source of each setting stands beside it. No
method is told the point that a person would start with, unless its tool starts there by itself. A training that
diverges ends at once, for all methods, as with Keras' TerminateOnNaN.

KerasTuner's and Syne Tune's need `pip install keras-tuner syne-tune`.
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import optuna

from benchmarks import kt, ours, syne
from benchmarks.replay.workers import Job, Search
from benchmarks.studies import OptunaSearch
from benchmarks.tasks import Task, draw
from sweeper_digits.errors import UserError

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class RandomSearch:
    """Random points, each trained to its end.

    Args:
        task: What is searched.
        generator: Draws the noise of the curves and nothing else, so that methods can be compared in pairs.
        seed: Of the points.
    """

    def __init__(self, task: Task, generator: np.random.Generator, seed: int) -> None:
        self.task, self.generator = task, generator
        self.points = np.random.default_rng(seed)

    def ask(self) -> Job:
        point = draw(self.task.space, self.points)
        return Job(self.task.curve(point, self.generator), 0, self.task.epochs)

    def report(self, job: Job, epoch: int, value: float) -> bool:
        return bool(np.isnan(value))

    def end(self, job: Job) -> None:
        """Learn nothing."""


def plugin(task: Task, generator: np.random.Generator, seed: int, workers: int) -> Search:
    """Return the stock hydra-optuna-sweeper: its defaults, in batches of n_jobs trials, without pruning."""
    # hydra_plugins/hydra_optuna_sweeper/config.py, TPESamplerConfig; the loop is run() of _impl.py.
    sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=10, n_ei_candidates=24, multivariate=False, group=False, constant_liar=False
    )
    return OptunaSearch(task, generator, sampler, batch=workers)


def optuna_hyperband(task: Task, generator: np.random.Generator, seed: int, workers: int) -> Search:
    """Return Optuna's TPE with its Hyperband."""
    # https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/003_efficient_optimization_algorithms.html:
    # Hyperband for TPE. The arguments are those of the example of HyperbandPruner.
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=task.epochs, reduction_factor=3)
    return OptunaSearch(task, generator, optuna.samplers.TPESampler(seed=seed), pruner, name=f"search {seed}")


def earlier_default(task: Task, generator: np.random.Generator, seed: int, workers: int) -> Search:
    """Return our default before these benchmarks."""
    # conf/hydra/sweeper/sampler/tpe.yaml and pruner/median.yaml.
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3)
    return OptunaSearch(task, generator, optuna.samplers.TPESampler(seed=seed), pruner)


def random(task: Task, generator: np.random.Generator, seed: int, workers: int) -> Search:
    """Return a random search without pruning."""
    return RandomSearch(task, generator, seed)


# Name -> what builds the search from a task, the generator of its noise, a seed and the number of workers.
METHODS: dict[str, Callable[[Task, np.random.Generator, int, int], Search]] = {
    "ours": ours.ours,
    "random": random,
    "hydra-optuna-sweeper": plugin,
    "optuna hyperband": optuna_hyperband,
    "keras-tuner hyperband": functools.partial(kt.oracle, "hyperband"),
    "keras-tuner bayesian": functools.partial(kt.oracle, "bayesian"),
    "syne-tune ASHA": functools.partial(syne.scheduler, "ASHA"),
    "syne-tune BOHB": functools.partial(syne.scheduler, "BOHB"),
    "syne-tune ASHABORE": functools.partial(syne.scheduler, "ASHABORE"),
    "earlier default": earlier_default,
}
# Left out unless it is named: one search takes 25 s of processor time, 100 times as long as most.
SLOW = {"syne-tune ASHABORE"}
# Method -> the modules that it needs, and what a person types for them.
SYNE_TUNE = "pip install syne-tune"
NEEDS: dict[str, tuple[Sequence[str], str]] = {
    "keras-tuner hyperband": (["keras_tuner"], "pip install keras-tuner"),
    "keras-tuner bayesian": (["keras_tuner"], "pip install keras-tuner"),
    "syne-tune ASHA": (["syne_tune"], SYNE_TUNE),
    "syne-tune BOHB": (["syne_tune", "statsmodels"], f"{SYNE_TUNE} statsmodels"),
    "syne-tune ASHABORE": (["syne_tune", "xgboost"], f"{SYNE_TUNE} xgboost"),
}


def check(names: Sequence[str]) -> None:
    """Refuse a method that is unknown, or whose package is missing.

    Raises:
        UserError: One line for the first such method.
    """
    for name in names:
        if name not in METHODS:
            listed = ", ".join(f'"{known}"' for known in METHODS)
            raise UserError(f"--methods: {name!r} is unknown; type some of: {listed}")
        modules, command = NEEDS.get(name, ((), ""))
        if any(importlib.util.find_spec(module) is None for module in modules):
            raise UserError(f"--methods: {name!r} is not installed: {command}")
