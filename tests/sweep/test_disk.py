"""A disk that is full in the middle of a sweep: what is there stays whole, and the sweep goes on. The trials sleep."""

import contextlib
import ctypes
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from tests.sweep.conftest import LEARNING_RATE, SLEEPER, STEADY, Sweeps, wait_for

# From linux/sched.h: a mount namespace of its own, which nobody else sees.
CLONE_NEWNS = 0x00020000
COMPLETE, RUNNING = TrialState.COMPLETE, TrialState.RUNNING


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, unmounted at the end."""
    if ctypes.CDLL(None).unshare(CLONE_NEWNS) != 0:  # of this thread and what it starts
        pytest.skip("a mount namespace of its own is not allowed here")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("database", ["on the disk", pytest.param("elsewhere", marks=pytest.mark.slow)])
def test_a_full_disk_stops_a_sweep_which_then_continues(small_disk: Path, tmp_path: Path, database: str) -> None:
    storage = None if database == "on the disk" else f"sqlite:///{tmp_path}/optuna.db"
    sweeps = Sweeps(small_disk, SLEEPER, [], storage)
    sweeps.trials_last(2)
    command = (LEARNING_RATE, *STEADY, "epochs=20", "hydra.sweeper.n_trials=3")
    try:
        with sweeps.start(*command) as process:
            wait_for(lambda: (small_disk / "multirun/sweep/1/checkpoint.npz").exists())
            with contextlib.suppress(OSError), (small_disk / "big").open("wb", buffering=0) as stream:
                while stream.write(bytes(4096)):
                    pass
            _, error = process.communicate(timeout=90)
        assert process.returncode == 1 and error.count("\n") == 1 and "Traceback" not in error, error
        assert "No space left on device; what is written is whole" in error or "disk is full" in error
        for file in small_disk.glob("multirun/sweep/*/metrics.json"):
            json.loads(file.read_text())
        for file in sweeps.checkpoints():
            with np.load(file) as state:
                assert state["progress"].size == 1
        (small_disk / "big").unlink()
        sweeps.trials_last(0)
        sweeps.ok(*command)
        states = sweeps.states()
        assert states[COMPLETE] == 3 and RUNNING not in states
    finally:
        sweeps.close()
