"""Where the tests of trackers run, and runs that several tests of a module read."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from sweeper_digits.runs.folder import RunFolder


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, no account and no network; afterwards, no run of a tracker is left open."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield
    if wandb := sys.modules.get("wandb"):
        wandb.teardown()


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Callable[..., RunFolder]:
    """Do what `train` does, in a folder of the module: its runs are not to be changed."""
    place = tmp_path_factory.mktemp("once")

    def call(*overrides: str, folder: str = "run", defaults: list[str] = tiny) -> RunFolder:
        from sweeper_digits import command_line

        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("HYDRA_FULL_ERROR", "0")
            patched.chdir(place)
            patched.setattr(sys, "argv", ["train.py", f"hydra.run.dir={folder}", *defaults, *overrides])
            try:
                command_line.main()
            finally:
                GlobalHydra.instance().clear()
        return RunFolder(place / folder)

    return call
