"""Fixtures: `confirm` trains in this process."""

import contextlib
import io
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from sweeper_digits import command_line
from sweeper_digits.results import confirm
from sweeper_digits.sweep import study, worker


@pytest.fixture
def trains_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker in this process train what `confirm` lets a sweep of its own train."""

    def sweep(command: list[str]) -> int:
        assert command[1:5] == ["-m", "sweeper_digits", "train", "--multirun"]
        with monkeypatch.context() as during, contextlib.redirect_stdout(io.StringIO()):
            during.setenv(worker.NUMBER, "0")
            during.setattr(worker, "open_study", study.set_up)  # as a supervisor does
            during.setattr(sys, "argv", ["train.py", *command[4:]])
            try:
                command_line.main()
            finally:
                GlobalHydra.instance().clear()
        return 0

    monkeypatch.setattr(confirm, "_passing_signals_on", sweep)
