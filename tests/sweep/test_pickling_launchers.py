"""Hydra's own sweepers under launchers that pickle each job: with the folder that this program keeps for a run."""

from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.guards.conftest import Program

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("sweeper", "launcher"), [("basic", "joblib"), ("optuna", "submitit_local")])
def test_another_sweeper_runs_its_jobs_elsewhere(tmp_path: Path, npz: Path, sweeper: str, launcher: str) -> None:
    program = Program(tmp_path)
    budget = ["hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2"] * (sweeper == "optuna")
    plugins = [f"hydra/sweeper={sweeper}", f"hydra/launcher={launcher}"]
    program.sweep("data=npz", f"data.path={npz}", *TINY, "epochs=1", "optimizer=adam,sgd", "study=s", *plugins, *budget)
    assert all((program.folder / f"multirun/s/{number}/metrics.json").exists() for number in range(2))
