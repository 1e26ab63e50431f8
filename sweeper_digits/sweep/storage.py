"""The study's database: opened with heartbeats, and waited for while it is away."""

import functools
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.trial import TrialState
from sqlalchemy import event, text
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout

log = logging.getLogger(__name__)

# Heartbeats that a worker on another machine may miss before its trial is given to another.
MISSED_HEARTBEATS = 6
# A database that is restarted, or moved, is back within this time; after it the error is raised.
PATIENCE_SECONDS = 600.0
RETRY_SECONDS = 1.0
# What SQLAlchemy raises while it is away: the third if it went in the middle of a transaction, the fourth if it was
# this process that stood still in one, the last where many threads wait for a connection.
AWAY = (OperationalError, InterfaceError, PendingRollbackError, InternalError, PoolTimeout)
# Set by the supervisor's signal handler: a database that is away is then not waited for.
stop = SimpleNamespace(asked=False)

# Called when a trial's heartbeats have stopped.
Stale = Callable[[optuna.Study, optuna.trial.FrozenTrial], None]


def open_storage(url: str, heartbeat_seconds: int, stale: Stale) -> optuna.storages.RDBStorage:
    """Open an Optuna storage URL; with heartbeats where the storage has them (SQL databases)."""
    if path := sqlite_file(url):
        path.parent.mkdir(parents=True, exist_ok=True)
        engine: dict[str, Any] = {"connect_args": {"timeout": 60}}  # seconds to wait for another's write
    else:
        engine = {"pool_pre_ping": True}
        if url.startswith(("postgresql://", "postgresql+psycopg")):  # drivers on libpq
            engine["connect_args"] = _libpq(heartbeat_seconds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = _Patient(
            url,
            engine_kwargs=engine,
            heartbeat_interval=heartbeat_seconds,
            grace_period=MISSED_HEARTBEATS * heartbeat_seconds,
            heartbeat_stale_trial_callback=stale,
        )
    if storage.engine.name == "postgresql":
        event.listen(storage.engine, "connect", functools.partial(_unlock_after, _silence(heartbeat_seconds)))
        storage.engine.dispose()  # the connection that has looked for the tables
    return storage


def sqlite_file(url: str) -> Path | None:
    """Return the file of an SQLite URL, or None."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def _silence(heartbeat_seconds: int) -> int:
    """Return how many seconds either end of a connection waits for the other.

    Shorter than a worker may be silent: a heartbeat that hangs in a dead connection while the network is back would
    cost the machine its next trial too.
    """
    return min(30, max(2, heartbeat_seconds * MISSED_HEARTBEATS // 3))


def _unlock_after(seconds: int, connection: Any, record: object) -> None:
    """Let the server end a session that stands still in a transaction, which has its trial locked.

    A machine that is cut off, or a process that is frozen, between a statement and its commit says nothing more: the
    server would keep the lock for hours, and whoever was to give the trial to another would wait for it.

    Source: https://www.postgresql.org/docs/current/runtime-config-client.html, idle_in_transaction_session_timeout.
    """
    connection.cursor().execute(f"SET SESSION idle_in_transaction_session_timeout = '{seconds}s'")
    connection.commit()


def _libpq(heartbeat_seconds: int) -> dict[str, int]:
    """Return how long a connection waits for a network that is cut: it sends no goodbye, so else for hours.

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


def _waiting(method: Callable[..., Any]) -> Callable[..., Any]:
    """Repeat a storage method until the database answers."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        began: float | None = None
        while True:
            try:
                return method(*args, **kwargs)
            except (optuna.exceptions.StorageInternalError, *AWAY) as error:
                cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
                if not isinstance(cause, AWAY):
                    raise
                if stop.asked:
                    raise KeyboardInterrupt from error
                began = time.monotonic() if began is None else began
                if time.monotonic() - began > PATIENCE_SECONDS:
                    raise
                time.sleep(RETRY_SECONDS)

    return call


class _Patient(optuna.storages.RDBStorage):
    """Waits while the database is away, instead of failing a training that has taken hours.

    A write that arrived although its answer was lost is repeated. Values are then set again to the same; a trial that
    was told is refused, which `worker` takes as told; a new trial that was made twice has no worker's signature and is
    failed as such. A queued point that was written twice is run twice.
    """

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set the state as the base class does; only one of several processes begins a waiting trial.

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


# What Optuna's cache in front of it and the heartbeats call.
_PRIVATE = ("_create_new_trial", "_get_trials", "_get_best_trial_id", "_set_trial_param", "_get_stale_trial_ids")
for _name, _method in (vars(optuna.storages.RDBStorage) | vars(_Patient)).items():
    if callable(_method) and _name.startswith(("get_", "set_", "create_", "record_", "delete_", *_PRIVATE)):
        setattr(_Patient, _name, _waiting(_method))
