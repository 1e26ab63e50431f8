"""The Optuna study: opened with its sampler and pruner, and set up once."""

import functools
import importlib.util
import json
import logging
import time
import uuid
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler

from sweeper_digits import text
from sweeper_digits.errors import UserError
from sweeper_digits.sweep.choose_pruner import made, make_pruner, pruner_options, scouts_of
from sweeper_digits.sweep.comparable import look_at_data
from sweeper_digits.sweep.frozen import check_same, record_settings
from sweeper_digits.sweep.owner import OWNER, check_folder, owner_of, write_owner
from sweeper_digits.sweep.points import is_exhausted, points_first, points_of_sweep
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.reading import Reader
from sweeper_digits.sweep.record import StudyRecord, trials_of
from sweeper_digits.sweep.sampler import SeededSampler
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.steering import Space
from sweeper_digits.sweep.storage import RetryingStorage, StorageError, open_storage, study_lock
from sweeper_digits.url import check_url, first_line, hidden, sqlite_file, url_of

log = logging.getLogger(__name__)
OPENING_ATTEMPTS = 4
# Packages that Optuna imports only when such a sampler draws.
SAMPLER_NEEDS = {"CmaEsSampler": "cmaes", "GPSampler": "torch"}


def set_up(sweep: Sweep) -> Queue:
    """Create or load the study, and queue the points that are to be tried first, if no process has.

    Raises:
        UserError: The study or the folder belongs to another sweep, or its data changed; the database cannot be opened.
    """
    if (file := sqlite_file(sweep.options.storage)) and not file.exists():
        _check_new(sweep)  # refused before there is a database
    storage = _opened(sweep.options, begun=False)
    with study_lock(storage, sweep.options.study_name):
        queue = Queue(_create(sweep, storage), storage)
    look_at_data(sweep, queue)  # it may take a while, and locks by itself
    with study_lock(storage, sweep.options.study_name):
        space = Space(sweep.distributions, sweep.is_enumerated, sweep.owners, sweep.size, sweep.images)
        queue.fill(sweep)
        queue.shared.begin(sweep.budget, space, sweep.options.n_jobs)  # last: it says that all points are queued
    return queue


def load(options: Any) -> Queue:
    """Load an existing study by hydra.sweeper, with its pruner, for a job that does not draw."""
    storage = _opened(options, begun=True)
    study = optuna.load_study(study_name=options.study_name, storage=storage, sampler=RandomSampler())
    study.pruner = make_pruner(StudyRecord(study).pruner)
    return Queue(study, storage)


def known_distributions(storage: str | None, folders: Collection[Path]) -> dict[str, BaseDistribution]:
    """Return the distributions of all parameters of the studies of these folders; nothing of a study that is not there.

    Args:
        storage: An Optuna URL; None: each study has its own database, in its folder.
        folders: The folders.
    """
    found: dict[str, BaseDistribution] = {}
    for url in {storage or url_of(folder) for folder in folders}:
        if (file := sqlite_file(url)) and not file.exists():
            continue
        try:
            opened = Reader(optuna.storages.RDBStorage(url))
            names = opened.names() & {folder.name for folder in folders} if storage else opened.names()
            for name in names:
                for trial in trials_of(optuna.load_study(study_name=name, storage=opened)):
                    found |= trial.distributions
        except Exception as error:  # of whichever database driver
            cause = first_line(error, url)
            raise UserError(f"--storage: the database cannot be read: {cause}") from error
    return found


def _create(sweep: Sweep, storage: RetryingStorage) -> optuna.Study:
    """Create or load the study, in a folder of its own; where the folder is another's, leave no study behind."""
    name = sweep.options.study_name
    begun = name in storage.names()
    if not begun:
        _check_new(sweep)
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        directions=sweep.directions,  # type: ignore[arg-type]
        pruner=make_pruner(pruner_options(sweep)),
        load_if_exists=True,
    )
    if StudyRecord(study).identity is None and not trials_of(study):
        StudyRecord(study).write(identity=uuid.uuid4().hex)
    check_folder(sweep.folder, name, StudyRecord(study).identity, begun=True)
    _prepare(study, sweep)
    _keep_pruner(study, sweep)
    try:
        claim_folder(sweep.folder, study)
    except UserError:
        if not begun:
            optuna.delete_study(study_name=name, storage=storage)
        raise
    return study


def _check_new(sweep: Sweep) -> None:
    """Raise a UserError for what no study can begin with."""
    check_folder(sweep.folder, sweep.options.study_name, None, begun=False)
    points_first(sweep.config, sweep)
    points_of_sweep(sweep.config, sweep.distributions)


def claim_folder(folder: Path, study: optuna.Study) -> None:
    """Write down that a sweep's folder belongs to its study.

    Raises:
        UserError: It belongs to another study.
    """
    identity = StudyRecord(study).identity
    check_folder(folder, study.study_name, identity, begun=True)
    if identity is None or owner_of(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_owner(folder, study.study_name, identity)
    except FileExistsError:  # two studies began in the same instant
        check_folder(folder, study.study_name, identity, begun=True)


def check_claim(folder: Path) -> None:
    """Raise a UserError if the folder of a sweep that runs was deleted, and its study is in a database elsewhere."""
    if not (folder / OWNER).exists():
        raise UserError(
            f"{text.relative(folder)}: this folder was deleted while the sweep ran; its study keeps the values "
            "of finished trials; delete what is left of the folder, then the same command continues"
        )


def _opened(options: Any, begun: bool) -> RetryingStorage:
    """Open the storage; two processes that start together both create the tables, and the slower must look again.

    Args:
        options: hydra.sweeper.
        begun: Whether it has the study already; a file that was deleted since is then not made anew.
    """
    check_url(options.storage)
    if begun and (file := sqlite_file(options.storage)) and not file.exists():
        raise StorageError(f"{text.relative(file)}: this database was deleted while it was in use")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for attempt in range(OPENING_ATTEMPTS):
        try:
            return open_storage(options.storage, options.heartbeat_seconds)
        except (FileExistsError, NotADirectoryError):  # a file where a folder would be
            raise
        except Exception as error:  # of whichever database driver
            if attempt == OPENING_ATTEMPTS - 1:
                cause = first_line(error, options.storage)
                shown = hidden(options.storage)
                raise UserError(f"hydra.sweeper.storage={shown}: it cannot be opened: {cause}") from error
            time.sleep(0.5)
    raise AssertionError("unreachable")


def _prepare(study: optuna.Study, sweep: Sweep) -> None:
    """Give the study its sampler, and what jobs elsewhere and the dashboard read of it."""
    tried = functools.partial(is_exhausted, sweep) if sweep.may_repeat else None
    study.sampler = SeededSampler(lambda number: _sampler(sweep, number), scouts_of(sweep), sweep.prior, tried)
    if not check_same(study, sweep):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(sweep.objectives)
        record_settings(study, sweep)  # last: a set-up that is killed before is done again


def _keep_pruner(study: optuna.Study, sweep: Sweep) -> None:
    """Write down the pruner of the command that is given now: whoever joins the study has this one."""
    record, options = StudyRecord(study), json.loads(json.dumps(pruner_options(sweep), default=str))
    if record.pruner not in (None, options):
        log.info("warning: the pruner changed; trials that begin from now on, on all machines, have the new one")
    if record.pruner != options:
        record.write(pruner=options)


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
