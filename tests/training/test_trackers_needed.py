"""What a user reads where the package of a callback is missing."""

import importlib.util
from pathlib import Path

import pytest

from sweeper_digits.training.context import RunContext
from sweeper_digits.training.trackers import registered
from tests.tables import unlike


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    run = RunContext(tmp_path, {}, study=None, trial=None, resumed=False)
    said = r"^callbacks=\[{0}\]: the package {0} is missing; pip install 'sweeper_digits\[{0}\]'$"
    cases = [(name, said.format(name)) for name in ("tensorboard", "mlflow", "wandb")]
    assert unlike(cases, lambda name: getattr(registered, name)(run)) == []


def test_a_password_is_no_option_and_is_not_shown(tmp_path: Path) -> None:
    run = RunContext(tmp_path, {}, study=None, trial=None, resumed=False)
    uris = ["postgresql://me:secret@host/db", "https://secret@host", "https://me:secret@host"]
    cases = [(uri, "^(?!.*secret).*export MLFLOW_TRACKING_URI") for uri in [*uris, "https://h/?password=secret"]]
    cases.append(("https://me:sec[ret@host", "^(?!.*ret).*not a URI; type one like"))
    assert unlike(cases, lambda uri: registered.mlflow(run, tracking_uri=uri)) == []
