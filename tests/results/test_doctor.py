"""A study with every kind of damage is described; what killed processes left is deleted."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import optuna

from sweeper_digits.runs import process

Tool = Callable[..., str]
SWEEP = Path("multirun/first")


def test_doctor_finds_and_repairs(tool: Tool) -> None:
    study = optuna.load_study(study_name="first", storage="sqlite:///multirun/first/study.db")
    gone = process.identity().replace(f":{os.getpid()}:", ":999999:")
    for _ in range(2):
        study.ask().set_user_attr("worker", gone)
    shutil.copytree(SWEEP / "0", SWEEP / "77")
    shutil.rmtree(SWEEP / "1")
    killed = f"{process.machine()}-999999"
    left = SWEEP / "2" / f".metrics-{killed}.json"
    copy = SWEEP / f".conf-{killed}"
    more = [copy / "config.yaml", SWEEP / f".study.json-{killed}", SWEEP / "2/.hydra" / f".begun-{killed}.json"]
    others = [
        SWEEP / ".plan-99999.md",
        SWEEP / "2" / f".plan-{process.machine()}-999999.json",
        SWEEP / "2" / ".metrics-0a1b2c3d-1-999999.json",  # of another machine
        SWEEP / "2" / f".metrics-{process.machine()}-{os.getpid()}.json",
        SWEEP / "notes" / left.name,
    ]
    for file in (left, *more, *others):
        file.parent.mkdir(exist_ok=True)
        file.write_text("{")
    out = tool("doctor", "first")
    for line in (
        "first: 4 complete, 2 running",
        "#4: running in the study, but its worker is gone",
        "#5: running in the study, but its worker is gone",
        "the next start of the sweep queues such points again: ",
        "folders without a trial: 77",
        "trials without a folder: 1",
        "--fix would:",
    ):
        assert line in out
    tool("doctor", "first", "--fix")
    states = [trial.state.name for trial in optuna.load_study(study_name="first", storage=study._storage).trials]
    assert states == ["COMPLETE"] * 4 + ["RUNNING"] * 2, "these are the sweep's to repair"
    assert not any(file.exists() for file in (left, copy, *more)) and all(file.exists() for file in others)
    assert "nothing to repair" in tool("doctor", "first")
