"""The study's database: opened with heartbeats, waited for while it is away, locked while a study is set up."""

import contextlib
import fcntl
import functools
import logging
import math
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState
from sqlalchemy import event, text
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sweeper_digits.sweep.private import BaseHeartbeat
from sweeper_digits.sweep.reading import Reader
from sweeper_digits.sweep.reading import StorageError as StorageError  # others import it from here
from sweeper_digits.text import relative
from sweeper_digits.url import first_line, hidden, sqlite_file

log = logging.getLogger(__name__)

# Heartbeats that a worker on another machine may miss before its trial is given to another.
MISSED_HEARTBEATS = 6
# A database that is restarted, or moved, is back within this time; after it the error is raised.
PATIENCE_SECONDS = 600.0
RETRY_SECONDS = 1.0
# What SQLAlchemy raises while it is away: the third if it went in the middle of a transaction, the fourth if it was
# this process that stood still in one, the last where many threads wait for a connection.
AWAY = (OperationalError, InterfaceError, PendingRollbackError, InternalError, PoolTimeout)
# Full disk: the code of PostgreSQL, the numbers of MySQL. Waiting does not help.
HOPELESS = ("53100", 1021, 1114)
# While the database is away, this often a line says so.
SAY_SECONDS = 60.0
# Set by the supervisor's signal handler: a database that is away is then not waited for.
interruption_requested = threading.Event()
# Statements that take a lock of this name for a connection, with which it ends; false where another has it.
TRY_LOCK = {
    "postgresql": "SELECT pg_try_advisory_lock(hashtext(:name))",
    "mysql": "SELECT GET_LOCK(MD5(:name), 0)",
    "mariadb": "SELECT GET_LOCK(MD5(:name), 0)",
}

Method = TypeVar("Method", bound=Callable[..., Any])


def open_storage(url: str, heartbeat_seconds: int) -> "RetryingStorage":
    """Open an SQL database by its Optuna URL, with heartbeats."""
    if path := sqlite_file(url):
        path.parent.mkdir(parents=True, exist_ok=True)
        engine: dict[str, Any] = {"connect_args": {"timeout": 10}}  # seconds to wait for another's write in silence
    else:
        engine = {"pool_pre_ping": True}
        if url.startswith(("postgresql://", "postgresql+psycopg")):  # drivers on libpq
            engine["connect_args"] = _libpq(heartbeat_seconds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        database = _Database(
            url,
            engine_kwargs=engine,
            heartbeat_interval=heartbeat_seconds,
            grace_period=MISSED_HEARTBEATS * heartbeat_seconds,
        )
    if database.engine.name == "postgresql":
        event.listen(database.engine, "connect", functools.partial(_unlock_after, _silence(heartbeat_seconds)))
        database.engine.dispose()  # the connection that has looked for the tables
    return RetryingStorage(database)  # type: ignore[abstract] # its class gets the methods in a loop


@contextlib.contextmanager
def study_lock(storage: "RetryingStorage", study_name: str) -> Iterator[None]:
    """Keep out other processes that set up the same study, or queue its trials again, at the same instant.

    The lock ends with its holder, however that ends: the operating system has the lock of a file, the server that of
    a connection.
    """
    engine = storage.database.engine
    with contextlib.ExitStack() as stack:
        if engine.name == "sqlite":
            file = stack.enter_context(Path(f"{engine.url.database}.lock").open("w"))

            def taken() -> bool:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                return True
        else:
            # In autocommit, or the server would take the connection for one that stands still in a transaction.
            connection = stack.enter_context(engine.connect().execution_options(isolation_level="AUTOCOMMIT"))
            stack.callback(connection.invalidate)  # not back to the pool: the lock is the connection's

            def taken() -> bool:
                return bool(connection.execute(text(TRY_LOCK[engine.name]), {"name": study_name}).scalar())

        if not taken():
            log.info("waiting    for another process that changes study=%s", study_name)
            while not taken():
                if interruption_requested.is_set():
                    raise KeyboardInterrupt
                time.sleep(0.2)
        yield


def _silence(heartbeat_seconds: int) -> int:
    """Return how many seconds either end of a connection waits for the other.

    Shorter than a worker may be silent: a heartbeat that hangs in a dead connection while the network is back would
    cost the machine its next trial too.
    """
    return min(30, max(2, heartbeat_seconds * MISSED_HEARTBEATS // 3))


def _unlock_after(seconds: int, connection: Any, record: object) -> None:
    """Let the server end a session that stands still in a transaction, or whose machine is gone, with its locks.

    A machine that is cut off, or a process that is frozen, between a statement and its commit says nothing more: the
    server would keep its locks for hours, and every process that needs them would wait.

    Source: https://www.postgresql.org/docs/current/runtime-config-client.html, idle_in_transaction_session_timeout;
    https://www.postgresql.org/docs/current/runtime-config-connection.html, tcp_keepalives_idle.
    """
    cursor = connection.cursor()
    cursor.execute(f"SET SESSION idle_in_transaction_session_timeout = '{seconds}s'")
    for setting, value in (("idle", seconds), ("interval", max(1, seconds // 3)), ("count", 3)):
        cursor.execute(f"SET SESSION tcp_keepalives_{setting} = {value}")
    connection.commit()


def _libpq(heartbeat_seconds: int) -> dict[str, int]:
    """Return how long a connection waits for a network that is cut, which sends no goodbye: without these, for hours.

    Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS, seconds but for the last.
    """
    seconds = _silence(heartbeat_seconds)
    return {
        "connect_timeout": min(10, seconds),
        "keepalives_idle": min(10, seconds),
        "keepalives_interval": max(1, seconds // 3),
        "keepalives_count": 3,
        "tcp_user_timeout": 1000 * seconds,
    }


class _Database(RDBStorage):
    """Optuna's SQL storage, in which only one of several processes begins a waiting trial, with SQLite too."""

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set the state as the base class does, under SQLite's lock.

        The base class selects FOR UPDATE, which SQLite does not know: there only a write takes the lock.
        """
        if self.engine.name == "sqlite":
            session = self.scoped_session()
            try:
                session.execute(text("UPDATE trials SET state = state WHERE trial_id = :id"), {"id": trial_id})
            except BaseException:
                session.rollback()
                raise
        return super().set_trial_state_values(trial_id, state, values)


def _retried(method: Method) -> Method:
    """Return a method that calls the one of the storage behind until the database answers."""

    # Not all of functools.wraps: the attribute that marks a method as abstract would come along.
    @functools.wraps(method, updated=())
    def call(storage: "RetryingStorage", *args: Any, **kwargs: Any) -> Any:
        began = said = -math.inf
        while True:
            storage.check_file()
            try:
                return getattr(storage.behind, method.__name__)(*args, **kwargs)
            except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
                cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
                now = time.monotonic()
                began = now if began == -math.inf else began
                if not _can_heal(cause) or now - began > PATIENCE_SECONDS:
                    raise StorageError(storage.describe(cause or error)) from error
                if interruption_requested.is_set():
                    raise KeyboardInterrupt from error
                if now - said > SAY_SECONDS:
                    log.info("waiting    for the database: %s", storage.describe(cause or error))
                    said = now
                time.sleep(RETRY_SECONDS)

    return call  # type: ignore[return-value]


def _can_heal(error: BaseException | None) -> bool:
    """Return whether waiting helps: where a connection is lost, or locked; not where a disk is full."""
    if not isinstance(error, AWAY):
        return False
    origin = getattr(error, "orig", None)
    if isinstance(origin, sqlite3.Error):
        return any(word in str(origin) for word in ("locked", "busy"))
    code = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
    number = origin.args[0] if isinstance(origin, Exception) and origin.args else None
    return code not in HOPELESS and number not in HOPELESS


class RetryingStorage(BaseStorage, BaseHeartbeat):
    """A storage that waits while its database is away, instead of failing a training that has taken hours.

    A write that arrived although its answer was lost is repeated. Values are then set again to the same; a trial that
    was told is refused, which `worker` takes as told; a new trial that was made twice has no worker's signature and is
    failed as such. A queued point that was written twice is run twice.

    Args:
        database: The storage that is waited for; Optuna's cache is put in front of it.

    Attributes:
        behind: The cache.
    """

    def __init__(self, database: RDBStorage) -> None:
        self.database, self.behind = database, Reader(database)
        url = database.engine.url
        self.url = url.render_as_string(hide_password=False)
        self.file = Path(url.database).resolve() if url.get_backend_name() == "sqlite" and url.database else None
        self.inode = self.file.stat().st_ino if self.file else None

    def check_file(self) -> None:
        """Raise a StorageError if an SQLite file was deleted: what is open is then written for nobody."""
        if self.file is None:
            return
        try:
            same = self.file.stat().st_ino == self.inode
        except OSError:
            same = False
        if not same:
            raise StorageError(f"{relative(self.file)}: this database was deleted or replaced while it was in use")

    def describe(self, error: BaseException) -> str:
        """Write an error of the database in one line, without a password."""
        return (
            f"hydra.sweeper.storage={hidden(self.url)}: {first_line(getattr(error, 'orig', None) or error, self.url)}"
        )

    names: Any = _retried(Reader.names)  # a set of texts
    # Not abstract, but answered with one query, or from the cache, where the base class reads all trials.
    get_trial_id_from_study_id_trial_number = _retried(BaseStorage.get_trial_id_from_study_id_trial_number)
    # All that Optuna's interface asks for.
    vars().update({name: _retried(getattr(BaseStorage, name)) for name in BaseStorage.__abstractmethods__})
    vars().update({name: _retried(getattr(BaseHeartbeat, name)) for name in BaseHeartbeat.__abstractmethods__})
