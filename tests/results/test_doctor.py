"""A study with every kind of damage is repaired."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import optuna

from sweeper_digits.runs import process

Tool = Callable[..., str]
SWEEP = Path("multirun/first")


def test_doctor_finds_and_repairs(tool: Tool) -> None:
    study = optuna.load_study(study_name="first", storage="sqlite:///multirun/optuna.db")
    gone = process.signature().replace(f":{os.getpid()}:", ":999999:")
    for _ in range(2):
        study.ask().set_user_attr("worker", gone)
    shutil.copytree(SWEEP / "0", SWEEP / "4")  # has finished, but was never told
    shutil.copytree(SWEEP / "0", SWEEP / "77")
    shutil.rmtree(SWEEP / "1")
    (SWEEP / "2" / ".metrics-999999.json").write_text("{")
    out = tool("doctor", "first")
    for line in (
        "first: 4 complete, 2 running",
        "#4: running in the study, but its run has finished",
        "#5: running in the study, but its worker is gone",
        "folders without a trial: 77",
        "trials without a folder: 1",
        "--fix would:",
    ):
        assert line in out
    tool("doctor", "first", "--fix")
    states = [trial.state.name for trial in optuna.load_study(study_name="first", storage=study._storage).trials]
    assert states == ["COMPLETE"] * 5 + ["FAIL", "WAITING"]
    assert not (SWEEP / "2" / ".metrics-999999.json").exists()
    assert "nothing to repair" in tool("doctor", "first")
