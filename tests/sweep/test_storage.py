"""The database of a sweep: its URL, its password, and what is waited for. The trials sleep."""

import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError

from sweeper_digits.sweep.show import typed_words
from sweeper_digits.sweep.storage import StorageError, _can_heal, open_storage, study_lock
from sweeper_digits.url import check_url, hidden, without_password
from tests.refusals import not_refused
from tests.sweep.conftest import LEARNING_RATE, STEADY, Sweeps, wait_for, workers_of

BAD_URLS = [
    ("", "hydra.sweeper.storage is empty: unset OPTUNA_STORAGE"),
    ("study.db", "study.db: not the URL of a database; for an SQLite file type sqlite:///FILE"),
    ("/home/me/study.db", "not the URL of a database"),
    ("./journal.log", "not the URL of a database"),
    ("redis://:geheim@host", r"redis is not supported; choose from sqlite, postgresql"),
    ("mssql+pyodbc://me:geheim@host/x", "mssql is not supported"),
    ("postgresql//me:geheim@host", "not the URL of a database"),
    ("sqlite://", "a database in memory cannot be shared"),
    ("sqlite:///:memory:", "a database in memory cannot be shared"),
    ("sqlite:///file::memory:?uri=true", "a database in memory cannot be shared"),
    ("sqlite:///file:x?mode=memory&uri=true", "a database in memory cannot be shared"),
]


def test_urls_that_cannot_work_are_one_line_without_a_password() -> None:
    assert not_refused(check_url, [(url, f"^(?!.*geheim).*{message}") for url, message in BAD_URLS]) == []


def test_they_are_refused_before_anything_is_made(in_process: Callable[..., Sweeps], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="in memory cannot be shared"):
        in_process("seed=1,2", "hydra.sweeper.storage='sqlite:///:memory:'")
    assert not list(tmp_path.iterdir())


def test_a_password_is_in_no_text() -> None:
    url = "postgresql+psycopg://me:ge%40heim@host/x?sslpassword=auch"
    assert hidden(url) == "postgresql+psycopg://me:***@host/x?sslpassword=hidden"
    text = without_password(f"cannot reach {url}: ge@heim, ge%40heim and auch are wrong", url)
    assert not any(secret in text for secret in ("heim", "auch "))
    assert without_password("psycopg: user u, password p: port 1", "postgresql://u:p@host/x") == (
        "psycopg: user u, password ***: port 1"
    )


def test_a_password_is_in_no_line_of_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+psycopg://me:geheim@host/x"
    storage = open_storage(f"sqlite:///{tmp_path}/x.db", 60)
    storage.url = url
    assert storage.describe(OperationalError("", {}, OSError(f"no {url}\nof geheim"))) == (
        "hydra.sweeper.storage=postgresql+psycopg://me:***@host/x: no postgresql+psycopg://me:***@host/x"
    )
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "-m", f"hydra.sweeper.storage={url}", "seed=1,2"])
    shown = "hydra.sweeper.storage=postgresql+psycopg://me:***@host/x"
    assert typed_words(url) == ["train.py", "-m", shown, "seed=1,2"]


def test_workers_do_not_show_the_url(sweeps: Sweeps) -> None:
    sweeps.forks = False  # a fork has the words of its parent
    sweeps.trials_last(100)
    with sweeps.start(LEARNING_RATE, *STEADY, "hydra.sweeper.storage=sqlite:///multirun/geheim.db") as process:
        (worker,) = workers_of(process, 1)
        assert "geheim" not in " ".join(worker.cmdline())
        wait_for(sweeps.checkpoints)
        process.kill()
    written = [path for path in sweeps.folder.rglob("*") if path.is_file() and b"geheim" in path.read_bytes()]
    assert not written, written


HEALS: list[tuple[Exception, bool]] = [
    (OperationalError("", {}, sqlite3.OperationalError("database is locked")), True),
    (OperationalError("", {}, OSError("server closed the connection unexpectedly")), True),
    (OperationalError("", {}, sqlite3.OperationalError("database or disk is full")), False),
    (OperationalError("", {}, sqlite3.OperationalError("attempt to write a readonly database")), False),
    (OperationalError("", {}, sqlite3.OperationalError("no such table: trials")), False),
    (OperationalError("", {}, Exception(1114, "The table is full")), False),
    (ProgrammingError("", {}, Exception("relation does not exist")), False),
]


def test_only_what_can_heal_is_waited_for() -> None:
    assert [(error, _can_heal(error)) for error, _ in HEALS] == HEALS


def test_a_missing_table_is_one_line_at_once(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/x.db", 60)
    with storage.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE trials")
        connection.exec_driver_sql("DROP TABLE studies")
    with pytest.raises(StorageError, match=r"x\.db: no such table: studies"):
        storage.get_all_studies()


def test_waiting_for_another_set_up_can_be_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_look(seconds: float) -> None:
        raise TimeoutError("it goes on waiting")

    storage = open_storage(f"sqlite:///{tmp_path}/x.db", 60)
    monkeypatch.setattr("time.sleep", one_look)
    requested = threading.Event()
    monkeypatch.setattr("sweeper_digits.sweep.storage.interruption_requested", requested)
    with study_lock(storage, "one"), pytest.raises(TimeoutError), study_lock(storage, "one"):
        pass
    requested.set()
    with study_lock(storage, "one"), pytest.raises(KeyboardInterrupt), study_lock(storage, "one"):
        pass


def test_a_database_that_is_deleted_ends_the_sweep_in_one_line(sweeps: Sweeps) -> None:
    sweeps.trials_last(100)
    with sweeps.start(LEARNING_RATE, *STEADY) as process:
        wait_for(sweeps.checkpoints)
        (sweeps.folder / "multirun/sweep/study.db").unlink()
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error == "error: multirun/sweep/study.db: this database was deleted or replaced while it was in use\n"
    assert not (sweeps.folder / "multirun/sweep/study.db").exists()
