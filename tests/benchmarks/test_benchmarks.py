"""Every benchmark runs, at its smallest size; what it prints is not judged."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sweeper_digits.data.dataset import Dataset
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

BENCHMARKS = ROOT / "benchmarks"
# Parts of others; landscape.py, started by itself, takes minutes.
PARTS = {"__init__", "compare", "kt", "landscape", "methods", "notebook", "ours", "sleeper", "studies"}
PARTS |= {"syne", "tasks"}
# For each script its arguments, and what it must print. DATA stands for 300 digits as Kaggle's folder, NPZ for a file,
# SWEEP for the folder of a sweep.
SMALLEST = {
    "averaged": ("--points 2 --jobs 1 --folder averaged data=npz data.path=NPZ", "2 points; epoch"),
    "curves": ("--points 1 --epochs 1 --jobs 1 --folder curves --to curves.json.gz", "2 trainings of 2"),
    "full": (
        "--seeds 0 --folder full epochs=1 data=npz data.path=NPZ hydra.sweeper.timeout=null hydra.sweeper.n_trials=1",
        "locked loss     earlier default",
    ),
    "growth": ("--trials 3", "3 trials complete, one worker"),
    "load": ("--workers 2 --trials 4 --epochs 2 --mean 0.1 --sizes 10", "complete ones that miss an epoch: 0"),
    "photographs": ("SWEEP --count 2", "two digits                   right   0  refused   2  of 2"),
    "quality": ("--data DATA --seeds 0 --epochs 1 --fidelity", "experiment=notebook minus the notebook's loop"),
    "search": (
        "--tasks analytic --methods random ours --repetitions 2 --budget 2 --workers 1 2 --jobs 1",
        "2 workers, ours ",
    ),
    "start": (
        "--repeats 1 data=npz data.path=NPZ model=small model.filters=2 model.dense_units=8",
        "until the first epoch ended",
    ),
    "sweep": ("--data DATA --trials 2 --epochs 1 --only ours", "ours  "),
    "train": ("--images 172 --repeats 1", "ours, bfloat16"),
    "workers": ("--trials 2 --mean 0.1 --workers 1 --repeats 1", "stock plugin"),
}


def test_every_benchmark_is_listed() -> None:
    assert set(SMALLEST) == {path.stem for path in BENCHMARKS.glob("*.py")} - PARTS


@pytest.fixture
def kaggle(digits: Dataset, tmp_path: Path) -> Path:
    """The 300 digits in a folder with Kaggle's file names."""
    folder = tmp_path / "kaggle"
    folder.mkdir()
    pixels = {f"pixel{i}": column for i, column in enumerate(digits.images.reshape(len(digits.images), -1).T)}
    pd.DataFrame({"label": np.asarray(digits.labels)} | pixels).to_csv(folder / "train.csv", index=False)
    return folder


@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_runs(name: str, kaggle: Path, npz: Path, swept: Path, tmp_path: Path) -> None:
    arguments, printed = SMALLEST[name]
    command = arguments.replace("DATA", str(kaggle)).replace("NPZ", str(npz)).replace("SWEEP", str(swept)).split()
    # Without the first, load.py asks for it; the others keep to SQLite in folders of their own. This process has the
    # second for TensorFlow.
    needed = {"load": {"OPTUNA_STORAGE": f"sqlite:///{tmp_path}/load.db"}}
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), *command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | needed.get(name, {}),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert printed in done.stdout
