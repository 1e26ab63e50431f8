"""Passwords in URLs are found and hidden, in whatever way people write them."""

import itertools
import re
import sys
from pathlib import Path

import pytest

from sweeper_digits import command_line
from sweeper_digits.command_line import check_text
from sweeper_digits.url import has_password, without_passwords
from tests.conftest import ROOT
from tests.tables import unlike

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


def test_a_password_is_found_and_hidden() -> None:
    for url in URLS:
        assert has_password(url), url
        shown = without_passwords(f"OperationalError: cannot reach {url}: refused")
        assert re.fullmatch("OperationalError: cannot reach (?!.*SECRET).*refused", shown), url


def test_where_there_is_none_nothing_is_refused() -> None:
    for url in HARMLESS:
        assert not has_password(url), url
        check_text([f"callbacks.mlflow.tracking_uri={url}"], ROOT)


def test_no_run_saves_a_password() -> None:
    """A sweep may be given its own database: it saves the URL without the password."""
    saved = [["-m", f"callbacks.mlflow.tracking_uri={url}"] for url in URLS]
    saved += [[f"hydra.sweeper.storage={url}"] for url in URLS]
    said = "^(?!.*SECRET).*its URL holds a password, which would be saved with the run; "
    assert unlike([(arguments, said) for arguments in saved], lambda arguments: check_text(arguments, ROOT)) == []
    for url, sweep in itertools.product(URLS, ("-m", "--multirun", "--multi", "hydra.mode=MULTIRUN")):
        check_text([sweep, f"hydra.sweeper.storage={url}"], ROOT)


def test_a_run_that_is_given_a_database_with_a_password_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", f"hydra.sweeper.storage={URLS[0]}"])
    with pytest.raises(SystemExit, match=r"^error: hydra\.sweeper\.storage: .*; put the URL into OPTUNA_STORAGE$"):
        command_line.main()
    assert list(tmp_path.iterdir()) == []
