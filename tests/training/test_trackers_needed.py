"""What a user reads where the package of a callback is missing."""

import importlib.util
from pathlib import Path

import pytest

from sweeper_digits.errors import UserError
from sweeper_digits.training.context import RunContext
from sweeper_digits.training.trackers import registered


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_named_with_its_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    run = RunContext(tmp_path, {}, study=None, trial=None, resumed=False)
    with pytest.raises(UserError) as raised:
        getattr(registered, name)(run)
    expected = f"callbacks=[{name}]: the package {name} is missing; pip install 'sweeper_digits[{name}]'"
    assert str(raised.value) == expected


@pytest.mark.parametrize(
    "uri",
    ["postgresql://me:secret@host/db", "https://secret@host", "https://me:secret@host", "https://h/?password=secret"],
)
def test_a_password_is_no_option_and_is_not_shown(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="export MLFLOW_TRACKING_URI") as raised:
        registered.mlflow(RunContext(tmp_path, {}, study=None, trial=None, resumed=False), tracking_uri=uri)
    assert "secret" not in str(raised.value)


def test_an_address_that_is_none_is_not_shown(tmp_path: Path) -> None:
    run = RunContext(tmp_path, {}, study=None, trial=None, resumed=False)
    with pytest.raises(UserError, match="not a URI; type one like") as raised:
        registered.mlflow(run, tracking_uri="https://me:sec[ret@host")
    assert "ret" not in str(raised.value)
