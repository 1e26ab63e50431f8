"""Passwords in URLs are found and hidden, in whatever way people write them."""

import subprocess
import sys
from pathlib import Path

import pytest

from sweeper_digits.command_line import check_text
from sweeper_digits.errors import UserError
from sweeper_digits.url import has_password, without_passwords
from tests.conftest import ROOT

URLS = [
    "postgresql+psycopg://me:SECRET@host/db",
    "postgresql://me:p@SECRET@host:5432/db",
    "postgresql://me:pa/SECRET@host/db",
    "postgresql://me:pa:SECRET@host/db",
    "https://SECRET@host/path",
    "postgresql://host/db?user=me&password=SECRET",
    "postgresql://host/db?PASSWD=SECRET",
    "mysql://host/db?ssl_password=SECRET&x=1",
    "https://host/log?access_token=SECRET",
]
HARMLESS = ["sqlite:///multirun/optuna.db", "http://127.0.0.1:5000", "postgresql://me@host/db", "photos/a@b:c.png"]


@pytest.mark.parametrize("url", URLS)
def test_a_password_is_found_and_hidden(url: str) -> None:
    assert has_password(url)
    assert "SECRET" not in (shown := without_passwords(f"OperationalError: cannot reach {url}: refused"))
    assert shown.startswith("OperationalError: cannot reach ") and shown.endswith("refused")


@pytest.mark.parametrize("url", HARMLESS)
def test_where_there_is_none_nothing_is_refused(url: str) -> None:
    assert not has_password(url)
    check_text([f"callbacks.mlflow.tracking_uri={url}"], ROOT)


@pytest.mark.parametrize("url", URLS)
def test_no_run_saves_a_password(url: str) -> None:
    """A sweep may be given its own database: it saves the URL without the password."""
    for arguments in (["-m", f"callbacks.mlflow.tracking_uri={url}"], [f"hydra.sweeper.storage={url}"]):
        with pytest.raises(UserError, match=r"its URL holds a password, which would be saved") as error:
            check_text(arguments, ROOT)
        assert "SECRET" not in str(error.value)
    for sweep in ("-m", "--multirun", "--multi", "hydra.mode=MULTIRUN"):
        check_text([sweep, f"hydra.sweeper.storage={url}"], ROOT)


def test_a_run_that_is_given_a_database_with_a_password_ends_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweeper_digits", "train", f"hydra.sweeper.storage={URLS[0]}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and list(tmp_path.iterdir()) == []
    assert done.stderr == (
        "error: hydra.sweeper.storage: its URL holds a password, which would be saved with the run; put the URL into "
        "OPTUNA_STORAGE\n"
    )
