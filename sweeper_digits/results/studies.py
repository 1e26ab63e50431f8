"""Studies in their database, for the verbs that look at one or steer it."""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

import optuna

from sweeper_digits.errors import UserError, closest
from sweeper_digits.screen import printable
from sweeper_digits.sweep import attributes
from sweeper_digits.sweep.claim import IDENTITY, owner_of
from sweeper_digits.sweep.pruners import PRUNER, make_pruner
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.storage import RetryingStorage, open_storage
from sweeper_digits.sweep.url import check_url, first_line, sqlite_file

# Of more studies, an error does not name all.
MOST_NAMES = 20


def open_queues(storage: str) -> dict[str, Queue]:
    """Return all studies of a database, by name in alphabetical order.

    Args:
        storage: An Optuna URL.

    Raises:
        UserError: There is no such database, or it cannot be read.
    """
    with _opened(storage) as database:
        return {one: _queue(database, one) for one in sorted(database.names())}


@contextlib.contextmanager
def _opened(storage: str) -> Iterator[RetryingStorage]:
    check_url(storage, "--storage")
    if (file := sqlite_file(storage)) and not file.exists():
        raise UserError(f"{storage}: no such file; start a sweep, or name the database with --storage")
    try:
        yield open_storage(storage, heartbeat_seconds=60)
    except UserError:
        raise
    except Exception as error:  # of whichever database driver
        cause = first_line(error, storage)
        raise UserError(f"--storage: the database cannot be read: {cause}") from error


def _queue(database: RetryingStorage, name: str) -> Queue:
    return Queue(optuna.load_study(study_name=name, storage=database), database)


def no_such_study(typed: str, name: str, names: Collection[str]) -> UserError:
    """Return the error for what was typed, which names the studies that there are."""
    known = printable(", ".join(list(names)[:MOST_NAMES])) or "none"
    known += f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return UserError(f"{printable(typed)}: no such study in the database{closest(name, names)}; it has {known}")


def find_queue(storage: str, study: str) -> Queue:
    """Return a study, with its pruner.

    Args:
        storage: An Optuna URL.
        study: Its name, or the folder of its sweep.

    Raises:
        UserError: There is no such database or study, or the folder is of a study that the database does not have.
    """
    with _opened(storage) as database:
        owner = owner_of(Path(study))
        name = owner.study if owner else Path(study).name if Path(study).is_dir() else study
        if name not in (names := sorted(database.names())):
            raise no_such_study(study, name, names)
        queue = _queue(database, name)
    kept = attributes.of_study(queue.study)
    if owner and kept.get(IDENTITY) != owner.identity:
        raise UserError(f"{printable(study)}: the database has another study of this name")
    if options := kept.get(PRUNER):
        queue.study.pruner = make_pruner(options)
    return queue
