"""Fixtures: `confirm` trains in this process."""

import contextlib
import io
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from sweeper_digits import command_line
from sweeper_digits.results import confirm


@pytest.fixture
def trains_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process train what `confirm` lets a process of its own train."""

    def sweep(command: list[str]) -> int:
        assert command[1:5] == ["-m", "sweeper_digits", "train", "--multirun"]
        with monkeypatch.context() as during, contextlib.redirect_stdout(io.StringIO()):
            during.delenv("OPTUNA_STORAGE", raising=False)
            during.setattr(sys, "argv", ["train.py", "--multirun", "hydra/launcher=basic", *command[5:]])
            try:
                command_line.main()
            finally:
                GlobalHydra.instance().clear()
        return 0

    monkeypatch.setattr(confirm, "_passing_signals_on", sweep)
