"""Studies in their database, for the verbs that look at one or steer it."""

from collections.abc import Collection
from pathlib import Path

import optuna

from sweeper_digits.errors import UserError, closest
from sweeper_digits.screen import printable
from sweeper_digits.sweep import attributes
from sweeper_digits.sweep.claim import IDENTITY, owner_of
from sweeper_digits.sweep.pruners import make_pruner
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.storage import open_storage
from sweeper_digits.sweep.url import check_url, first_line, sqlite_file


def open_queues(storage: str) -> dict[str, Queue]:
    """Return all studies of a database, by name in alphabetical order.

    Args:
        storage: An Optuna URL.

    Raises:
        UserError: There is no such database, or it cannot be read.
    """
    check_url(storage, "--storage")
    if (file := sqlite_file(storage)) and not file.exists():
        raise UserError(f"{storage}: no such file; start a sweep, or name the database with --storage")
    try:
        opened = open_storage(storage, heartbeat_seconds=60)
        names = sorted(optuna.get_all_study_names(opened))
        return {one: Queue(optuna.load_study(study_name=one, storage=opened), opened) for one in names}
    except Exception as error:  # of whichever database driver
        cause = first_line(error, storage)
        raise UserError(f"--storage: the database cannot be read: {cause}") from error


def no_such_study(typed: str, name: str, names: Collection[str]) -> UserError:
    """Return the error for what was typed, which names the studies that there are."""
    known = printable(", ".join(names)) or "none"
    return UserError(f"{printable(typed)}: no such study in the database{closest(name, names)}; it has {known}")


def find_queue(storage: str, study: str) -> Queue:
    """Return a study, with its pruner.

    Args:
        storage: An Optuna URL.
        study: Its name, or the folder of its sweep.

    Raises:
        UserError: There is no such database or study, or the folder is of a study that the database does not have.
    """
    queues = open_queues(storage)
    owner = owner_of(Path(study))
    name = owner.study if owner else Path(study).name if Path(study).is_dir() else study
    if name not in queues:
        raise no_such_study(study, name, queues)
    queue = queues[name]
    kept = attributes.of_study(queue.study)
    if owner and kept.get(IDENTITY) != owner.identity:
        raise UserError(f"{printable(study)}: the database has another study of this name")
    if options := kept.get("pruner"):
        queue.study.pruner = make_pruner(options)
    return queue
