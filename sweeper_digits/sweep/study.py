"""The Optuna study: opened with its sampler and pruner, and set up once."""

import functools
import importlib.util
import random
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.errors import UserError
from sweeper_digits.sweep import attributes
from sweeper_digits.sweep.claim import IDENTITY, check_folder, claim_folder, new_identity
from sweeper_digits.sweep.content import look_at_data
from sweeper_digits.sweep.finite import Point, is_exhausted, values_of
from sweeper_digits.sweep.frozen import check_same, copy_of_conf, record_settings
from sweeper_digits.sweep.listed import points_first, points_of_sweep
from sweeper_digits.sweep.pruners import PRUNER, made, make_pruner, pruner_options
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.reading import Reader
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.steering import Space
from sweeper_digits.sweep.storage import RetryingStorage, StorageError, open_storage, study_lock
from sweeper_digits.sweep.trials import trials_of
from sweeper_digits.sweep.url import check_url, first_line, hidden, sqlite_file

OPENING_ATTEMPTS = 4
# How often a sampler may draw a point that was tried before another value is taken.
DRAWS = 20
# Packages that Optuna imports only when such a sampler draws.
SAMPLER_NEEDS = {"CmaEsSampler": "cmaes", "GPSampler": "torch"}


class SeededSampler(BaseSampler):
    """A sampler whose random numbers depend on the trial alone.

    Whichever worker or supervisor draws a trial, on whichever machine, before or after a restart: no two trials are
    drawn with the same random numbers, and a trial's own are always the same.

    Where points can be tried up, none is drawn twice: training it again would give the same value.

    Args:
        build: Makes the sampler that draws the trial of a number.
        is_exhausted: Says whether all points that have some values were tried; None: every option has a continuous
            parameter.
    """

    def __init__(
        self,
        build: Callable[[int], BaseSampler],
        is_exhausted: Callable[[list[FrozenTrial], Point], bool] | None = None,
    ) -> None:
        self.build, self.is_exhausted = build, is_exhausted
        self.latest = 0, build(0)
        self.relative: tuple[int, Point] = (-1, {})  # what was drawn together for the trial of a number

    def __str__(self) -> str:
        return str(self.latest[1])

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begin a trial with a sampler of its own."""
        self.latest = trial.number, self.build(trial.number)
        self.latest[1].before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Forward to the sampler of the trial."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Forward to the sampler of the trial; where that draws only what was tried, each is drawn alone."""
        self.relative = trial.number, {}
        for _ in range(DRAWS):
            drawn = self._of(trial).sample_relative(study, trial, search_space)
            if not self._was_tried(study, trial, drawn):
                self.relative = trial.number, drawn
                return drawn
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Forward to the sampler of the trial; where it draws only what was tried, take another value."""
        for _ in range(DRAWS):
            drawn = self._of(trial).sample_independent(study, trial, param_name, param_distribution)
            if not self._was_tried(study, trial, {param_name: drawn}):
                return drawn
        values = list(values_of(param_distribution) or [])
        random.Random(trial.number).shuffle(values)
        return next((one for one in values if not self._was_tried(study, trial, {param_name: one})), drawn)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Forward to a sampler of the trial, not to that of the trial that another thread may draw meanwhile."""
        self.build(trial.number).after_trial(study, trial, state, values)

    def _was_tried(self, study: optuna.Study, trial: FrozenTrial, drawn: Point) -> bool:
        if self.is_exhausted is None or not drawn:
            return False
        number, relative = self.relative
        others = [other for other in trials_of(study) if other.number != trial.number]
        return self.is_exhausted(others, trial.params | (relative if number == trial.number else {}) | drawn)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if self.latest[0] != trial.number:  # another thread has asked since
            self.latest = trial.number, self.build(trial.number)
        return self.latest[1]


def open_study(sweep: Sweep) -> Queue:
    """Load the study of a sweep for a worker, with sampler and pruner.

    Raises:
        UserError: The study is gone or of another sweep; the database cannot be opened.
    """
    storage = _opened(sweep.options, begun=True)
    name = sweep.options.study_name
    try:
        study = optuna.load_study(study_name=name, storage=storage, pruner=make_pruner(pruner_options(sweep)))
    except KeyError as error:
        raise UserError(f"study={name}: it is not in the database any more") from error
    check_folder(sweep.folder, name, attributes.of_study(study).get(IDENTITY), begun=True)
    _prepare(study, sweep, composes_from_here=True)
    return Queue(study, storage)


def set_up(sweep: Sweep) -> Queue:
    """Create or load the study, and queue the points that are to be tried first, if no process has.

    Raises:
        UserError: The study or the folder belongs to another sweep, or its data changed; the database cannot be opened.
    """
    storage = _opened(sweep.options, begun=False)
    with study_lock(storage, sweep.options.study_name):
        queue = Queue(_create(sweep, storage), storage)
    look_at_data(sweep, queue)  # it may take a while, and locks by itself
    with study_lock(storage, sweep.options.study_name):
        space = Space(sweep.distributions, sweep.is_enumerated, sweep.owners, sweep.size, sweep.images)
        queue.helm.begin(sweep.budget, space)
        queue.fill(sweep)
    return queue


def load(options: Any) -> Queue:
    """Load an existing study by hydra.sweeper, with its pruner, for a job that does not draw."""
    storage = _opened(options, begun=True)
    study = optuna.load_study(study_name=options.study_name, storage=storage, sampler=RandomSampler())
    study.pruner = make_pruner(attributes.of_study(study)[PRUNER])
    return Queue(study, storage)


def known_distributions(storage: str, names: Iterable[str]) -> dict[str, BaseDistribution]:
    """Return the distributions of all parameters of these studies; nothing of a study that is not there."""
    if (file := sqlite_file(storage)) and not file.exists():
        return {}
    found: dict[str, BaseDistribution] = {}
    try:
        opened = Reader(optuna.storages.RDBStorage(storage))
        for name in set(names) & opened.names():
            for trial in trials_of(optuna.load_study(study_name=name, storage=opened)):
                found |= trial.distributions
    except Exception as error:  # of whichever database driver
        cause = first_line(error, storage)
        raise UserError(f"--storage: the database cannot be read: {cause}") from error
    return found


def _create(sweep: Sweep, storage: RetryingStorage) -> optuna.Study:
    """Create or load the study, in a folder of its own; where the folder is another's, leave no study behind."""
    name = sweep.options.study_name
    begun = name in storage.names()
    if not begun:
        check_folder(sweep.folder, name, None, begun=False)
        points_first(sweep.config, sweep)  # refused before there is a study
        points_of_sweep(sweep.config, sweep.distributions)
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        directions=sweep.directions,  # type: ignore[arg-type]
        pruner=make_pruner(pruner_options(sweep)),
        load_if_exists=True,
    )
    if IDENTITY not in attributes.of_study(study) and not trials_of(study):
        attributes.keep_with_study(study, IDENTITY, new_identity())
    check_folder(sweep.folder, name, attributes.of_study(study).get(IDENTITY), begun=True)
    _prepare(study, sweep, composes_from_here=not copy_of_conf(sweep).exists())
    try:
        claim_folder(sweep.folder, study)
    except UserError:
        if not begun:
            optuna.delete_study(study_name=name, storage=storage)
        raise
    return study


def _opened(options: Any, begun: bool) -> RetryingStorage:
    """Open the storage; two processes that start together both create the tables, and the slower must look again.

    Args:
        options: hydra.sweeper.
        begun: Whether it has the study already; a file that was deleted since is then not made anew.
    """
    check_url(options.storage)
    if begun and (file := sqlite_file(options.storage)) and not file.exists():
        raise StorageError(f"{file}: this database was deleted while it was in use")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for attempt in range(OPENING_ATTEMPTS):
        try:
            return open_storage(options.storage, options.heartbeat_seconds)
        except FileExistsError:  # a file where the folder of the studies would be
            raise
        except Exception as error:  # of whichever database driver
            if attempt == OPENING_ATTEMPTS - 1:
                cause = first_line(error, options.storage)
                shown = hidden(options.storage)
                raise UserError(f"hydra.sweeper.storage={shown}: it cannot be opened: {cause}") from error
            time.sleep(0.5)
    raise AssertionError("unreachable")


def _prepare(study: optuna.Study, sweep: Sweep, composes_from_here: bool) -> None:
    """Give the study its sampler, and what jobs elsewhere and the dashboard read of it."""
    tried = functools.partial(is_exhausted, sweep) if sweep.may_repeat else None
    study.sampler = SeededSampler(lambda number: _sampler(sweep, number), tried)
    if not check_same(study, sweep, composes_from_here):
        attributes.keep_with_study(study, PRUNER, pruner_options(sweep))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(sweep.objectives)
        record_settings(study, sweep)  # last: a set-up that is killed before is done again


def _sampler(sweep: Sweep, number: int) -> BaseSampler:
    """Build the sampler, seeded for the trial of a number.

    A quasi-random sequence is the exception: its position is in the study, its seed is the sequence.
    """
    options = OmegaConf.create(sweep.options.sampler)
    name = str(options._target_).rpartition(".")[2]
    if name in SAMPLER_NEEDS and importlib.util.find_spec(SAMPLER_NEEDS[name]) is None:
        needed = SAMPLER_NEEDS[name]
        raise UserError(f"hydra/sweeper/sampler: Optuna's {name} needs the package {needed}: pip install {needed}")
    if name == "GridSampler":
        return RandomSampler()
    if not isinstance(options.get("seed"), int | None):
        raise UserError(f"hydra.sweeper.sampler.seed={options.seed}: must be an integer, or null")
    if options.get("seed") is not None and name != "QMCSampler":
        options.seed = (options.seed * 1_000_003 + number) % 2**32
    sampler: BaseSampler = made("sampler", options, ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*"))
    return sampler
