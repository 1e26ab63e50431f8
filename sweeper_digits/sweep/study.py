"""The Optuna study: opened with its sampler and pruner, and set up once."""

import contextlib
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import optuna
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution

from sweeper_digits.errors import UserError
from sweeper_digits.sweep import frozen, queue
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.storage import Stale, open_storage, sqlite_file

OPENING_ATTEMPTS = 4
# Queueing 10,000 points takes a database about a minute.
SETTING_UP_SECONDS = 120.0


def open_study(sweep: Sweep) -> optuna.Study:
    """Create or load the study, with sampler and pruner.

    Raises:
        UserError: The study exists and is of another sweep; the database cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _create(sweep)
    study.sampler = queue.sampler_of(sweep)
    frozen.check_same(study, sweep, pruner_options(sweep))
    return study


def set_up(sweep: Sweep) -> optuna.Study:
    """Open the study, and queue the points that are to be tried first, if nobody has.

    Raises:
        UserError: As `open_study`.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _alone(_create(sweep)):
        study = open_study(sweep)
        queue.fill(study, sweep)
    return study


@contextlib.contextmanager
def _alone(study: optuna.Study) -> Iterator[None]:
    """Keep others out that set up the same study at the same instant: a scheduler starts many at once.

    The lock is an empty study, since no two can have one name in any of Optuna's databases.
    """
    name, waited = f"{study.study_name} (being set up)", 0.0
    while True:
        try:
            lock = optuna.create_study(study_name=name, storage=study._storage)
            break
        except optuna.exceptions.DuplicatedStudyError:
            if waited > SETTING_UP_SECONDS:  # of a process that was killed in it
                with contextlib.suppress(KeyError):
                    optuna.delete_study(study_name=name, storage=study._storage)
                waited = 0.0
            time.sleep(0.2)
            waited += 0.2
    try:
        yield
    finally:
        with contextlib.suppress(KeyError):
            optuna.delete_study(study_name=lock.study_name, storage=study._storage)


def _create(sweep: Sweep) -> optuna.Study:
    options, pruner = sweep.options, _pruner(pruner_options(sweep))
    for attempt in range(OPENING_ATTEMPTS):
        try:
            return optuna.create_study(
                study_name=options.study_name,
                storage=open_storage(options.storage, options.heartbeat_seconds, _requeue_stale(options.max_retries)),
                directions=sweep.directions,  # type: ignore[arg-type]
                pruner=pruner,
                load_if_exists=True,
            )
        except Exception as error:  # of whichever database driver
            # Two processes that start together both create the tables; the slower one must look again.
            if attempt == OPENING_ATTEMPTS - 1:
                cause = str(error).splitlines()[0]
                raise UserError(f"hydra.sweeper.storage: the study cannot be opened: {cause}") from error
            time.sleep(0.5)
    raise AssertionError("unreachable")


def load(options: Any) -> optuna.Study:
    """Load an existing study by hydra.sweeper, with its pruner, for a job that does not draw."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(options.storage, options.heartbeat_seconds, _requeue_stale(options.max_retries))
    study = optuna.load_study(study_name=options.study_name, storage=storage, sampler=optuna.samplers.RandomSampler())
    study.pruner = _pruner(study.user_attrs["pruner"])
    return study


def _requeue_stale(max_retries: int) -> Stale:
    return lambda study, trial: queue.requeue(study, trial, max_retries)


def known_distributions(storage: str, names: Iterable[str]) -> dict[str, BaseDistribution]:
    """Return the distributions of all parameters of these studies; nothing of a study that is not there."""
    if (file := sqlite_file(storage)) and not file.exists():
        return {}
    found: dict[str, BaseDistribution] = {}
    try:
        opened = optuna.storages.get_storage(storage)
        for name in set(names) & set(optuna.get_all_study_names(opened)):
            for trial in queue.trials_of(optuna.load_study(study_name=name, storage=opened)):
                found |= trial.distributions
    except Exception as error:  # of whichever database driver
        raise UserError(f"--storage: the database cannot be read: {str(error).splitlines()[0]}") from error
    return found


def pruner_options(sweep: Sweep) -> dict[str, Any]:
    """Return hydra.sweeper.pruner with max_resource filled in; kept in the study, for jobs elsewhere."""
    options = OmegaConf.create(sweep.options.pruner)
    if not sweep.prunes:
        return {"_target_": "optuna.pruners.NopPruner"}
    if options.get("max_resource") == "auto":
        # From the finished trials, as Optuna would take it, early stopping makes it too small.
        folds = sweep.config.split.folds if OmegaConf.select(sweep.config, "split.folds") else 1
        all_folds = OmegaConf.select(sweep.config, "split.fold") is None
        options.max_resource = int(sweep.config.epochs) * (folds if all_folds else 1)
    container = OmegaConf.to_container(options)
    assert isinstance(container, dict)  # noqa: S101 - it is a config group
    return {str(name): value for name, value in container.items()}


def _pruner(options: dict[str, Any]) -> optuna.pruners.BasePruner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner: optuna.pruners.BasePruner = instantiate(options, _execution_whitelist_="optuna.pruners.*")
    return pruner
