"""Finalists of a real sweep are trained again on other seeds and folds."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import psutil
import pytest

from sweeper_digits.results.confirm import plan_points
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.judge import group_repetitions, judge_difference
from sweeper_digits.runs.record import Record, find_runs, read_run

Tool = Callable[..., str]


@pytest.mark.usefixtures("trains_here")
def test_confirm_trains_only_what_is_missing(tool: Tool) -> None:
    tool("confirm", "multirun/first", "--top", "2", "--seeds", "1")
    study = optuna.load_study(study_name="first_confirm", storage="sqlite:///multirun/first_confirm/study.db")
    assert [trial.user_attrs["point"]["seed"] for trial in study.trials] == [3, 3]  # the search had 1 and 2
    out = tool("confirm", "multirun/first", "--top", "2", "--seeds", "2")
    study = optuna.load_study(study_name="first_confirm", storage="sqlite:///multirun/first_confirm/study.db")
    assert sorted(trial.user_attrs["point"]["seed"] for trial in study.trials) == [3, 3, 4, 4]
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials)
    lines = [line for line in out.splitlines() if re.match(r" +[12]  ", line)]
    means = [float(line.split()[1]) for line in lines]
    assert len(lines) == 2 and means == sorted(means)
    for line in lines:
        folder = next(word for word in line.split() if word.startswith("multirun"))
        runs = [t for t in study.trials if t.user_attrs["point"]["from_run"] == folder]
        assert float(line.split()[1]) == pytest.approx(np.mean([t.value for t in runs]), rel=1e-4)
    said = json.loads(tool("confirm", "multirun/first", "--top", "2", "--seeds", "2", "--json"))  # nothing is missing
    first, second = said["finalists"]
    assert (said["objective"], said["direction"], first["rank"], second["rank"]) == ("val_loss", "minimize", 1, 2)
    groups = group_repetitions(find_runs(["multirun/first_confirm"]), "val_loss")
    assert [row["mean"] for row in (first, second)] == [group.mean for group in groups]
    assert second["apart"] is judge_difference(groups[0], groups[1], "val_loss").differ and first["apart"] is None
    for row in (first, second):
        assert read_run(Path(row["search"]["folder"])).value("val_loss") == row["search"]["value"]
        assert {value["seed"] for value in row["values"]} == {3, 4}


@pytest.mark.slow
def test_confirm_can_be_stopped_and_continued(tool: Tool) -> None:
    arguments = ["confirm", "multirun/first", "--top", "2", "--seeds", "2"]
    command = [sys.executable, "-m", "sweeper_digits", *arguments]
    confirmed = Path("multirun/first_confirm")
    for how in (signal.SIGINT, signal.SIGTERM):
        before = len(list(confirmed.glob("*/train.log")))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            deadline = time.monotonic() + 100
            while len(list(confirmed.glob("*/train.log"))) == before and time.monotonic() < deadline:
                time.sleep(0.1)
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(how)
            out, _ = process.communicate(timeout=60)
        assert process.returncode == 130 and "the same command continues" in out
        assert out.splitlines()[-1] == "  " + shlex.join(["python", *command[1:]])
        assert family and not [one for one in family if one.is_running()]
        study = optuna.load_study(study_name="first_confirm", storage="sqlite:///multirun/first_confirm/study.db")
        assert not [trial for trial in study.trials if trial.state == optuna.trial.TrialState.RUNNING]
    tool(*arguments)
    study = optuna.load_study(study_name="first_confirm", storage="sqlite:///multirun/first_confirm/study.db")
    assert len([trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]) == 4


@pytest.mark.usefixtures("trains_here")
def test_confirm_on_folds_keeps_the_test_part_locked_and_apart_from_seeds(tool: Tool) -> None:
    tool("confirm", "multirun/first", "--top", "1", "--seeds", "1")
    out = tool("confirm", "multirun/first", "--top", "1", "--folds", "2")
    (line,) = [line for line in out.splitlines() if re.match(r" +\d  ", line)]
    (folds,) = [r for r in find_runs(["multirun/first_confirm"]) if r.settings["split"] == "kfold"]
    assert folds.settings["split.test_size"] == 0.2
    assert sum(fold["validation_images"] for fold in folds.metrics["folds"]) == 240
    assert float(line.split()[1]) == pytest.approx(folds.value("val_loss"), rel=1e-4) and " 2 " in line


def test_new_seeds_are_trained_on_each_fold_that_was_searched() -> None:
    """Each finalist's best run is on its own easiest fold; there, they would not compare."""
    values = {(1, 0): 0.010, (1, 1): 0.030, (1, 2): 0.031, (2, 0): 0.024, (2, 1): 0.020}  # fold 2 was pruned
    found = [
        Record(
            RunFolder(f"{units}-{fold}"),
            "finished",
            {"seed": 1, "split": "kfold", "split.fold": fold, "model.units": units},
            metrics={"val_loss": value},
        )
        for (units, fold), value in values.items()
    ]
    points = plan_points(group_repetitions(found, "val_loss"), seeds=2, folds=None)
    expected = [
        {"from_run": run, "seed": seed, "split.fold": fold}
        for run in ("2-1", "1-0")
        for seed in (2, 3)
        for fold in (0, 1, 2)
    ]
    assert points == expected or points == expected[6:] + expected[:6]
