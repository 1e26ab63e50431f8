"""With --json, stdout has one JSON document and nothing else; its fields say what the text says."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from PIL import Image

from sweeper_digits import __main__
from sweeper_digits.runs import process
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.judge import group_repetitions, judge_difference
from sweeper_digits.runs.record import best_first, find_runs
from sweeper_digits.text import as_json

Tool = Callable[..., str]
SWEEP = "multirun/first"


def document(tool: Tool, *arguments: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(tool(*arguments, "--json"), parse_constant=refuse)


def test_what_is_no_finite_number_is_null_and_a_path_is_text() -> None:
    values = {"a": [math.nan, math.inf, np.float32("nan"), pd.Series([None], dtype="Int64").astype(object)[0]]}
    found = json.loads(
        as_json(values | {"b": Path("x/y"), "c": np.arange(2), "d": np.bool_(True), "e": (np.int64(3),)})
    )
    assert found["a"][:3] == [None] * 3
    assert found | {"a": 0} == {"a": 0, "b": "x/y", "c": [0, 1], "d": True, "e": [3]}


def test_groups_are_the_rows_of_their_table(tool: Tool) -> None:
    groups = document(tool, "compare", SWEEP, "--group-by", "optimizer")
    assert [set(row) for row in groups] == [{"optimizer", "mean", "std", "best", "count", "mean_rank"}] * 2
    shutil.rmtree(Path(SWEEP, "1"))
    groups = document(tool, "compare", SWEEP, "--group-by", "optimizer")
    assert sorted(row["count"] for row in groups) == [1, 2] and None in [row["std"] for row in groups]
    lines = tool("compare", SWEEP, "--group-by", "optimizer", "--csv").splitlines()
    assert lines[0] == "optimizer,mean,std,best,count,mean_rank" and len(lines) == 3


def test_a_verdict_has_fields(tool: Tool) -> None:
    found = find_runs([SWEEP])
    first, second = group_repetitions(found, "val_loss")
    said = document(tool, "compare", SWEEP, "--verdict")
    expected = judge_difference(first, second, "val_loss")
    assert said["second"]["apart"] is expected.differ and said["lines"] == [expected.text]
    assert said["second"]["worse_by"] == pytest.approx(second.mean - first.mean)
    assert said["second"]["worse_by_interval"] == expected.half
    assert said["others_within_noise"] == (0 if expected.differ else 1) and said["others_not_judged"] == 0
    assert said["best"]["mean"] == first.mean and said["best"]["interval"] == first.interval
    assert [row["value"] for row in said["best"]["values"]] == list(first.samples.values())
    assert said["best"]["folder"] == str(first.runs[0].run.folder)
    assert (said["objective"], said["direction"], said["runs"], said["configurations"]) == (
        "val_loss",
        "minimize",
        4,
        2,
    )
    assert said["commands"][0].startswith("python -m sweeper_digits train ") and said["warnings"] == []
    text = tool("compare", SWEEP, "--verdict")
    assert expected.text in text and "rank" not in text and not list(Path().rglob("report.html"))


def test_a_verdict_of_single_runs_counts_those_within_noise(tool: Tool) -> None:
    for number in (1, 3):  # of each optimizer one seed stays
        shutil.rmtree(Path(SWEEP, str(number)))
    said = document(tool, "compare", SWEEP, "--verdict")
    within = said["others_within_noise"]
    assert any(line.startswith(f"{within} of 1 other lies within noise") for line in said["lines"])
    assert said["best"]["interval"] is None and said["best"]["value_se"] > 0
    assert (said["validation_images_needed"] is None) == (within == 0)
    said = document(tool, "compare", f"{SWEEP}/0", "--verdict")
    assert said["second"] is None and said["others_within_noise"] == 0
    Path(SWEEP, "0", "metrics.json").unlink()
    said = document(tool, "compare", f"{SWEEP}/0", "--verdict")
    assert said["best"] is None and said["finished"] == 0 and said["commands"] == []


@pytest.mark.slow
def test_confirm_trains_on_stderr(tool: Tool) -> None:
    command = [sys.executable, "-m", "sweeper_digits", "confirm", SWEEP, "--top", "1", "--seeds", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and "val_loss" in done.stderr and "Traceback" not in done.stderr
    assert len(json.loads(done.stdout)["finalists"]) == 1


def test_predict_gives_scores(tool: Tool) -> None:
    said = document(tool, "predict", SWEEP, "--top", "2", "--out", "labels.csv")
    chosen = best_first(find_runs([SWEEP]), "val_loss")[:2]
    assert [row["folder"] for row in said["models"]] == [str(record.run.folder) for record in chosen]
    assert [row["val_loss"] for row in said["models"]] == [record.value("val_loss") for record in chosen]
    assert (said["data"]["images"], said["data"]["part"], said["data"]["trained_on"]) == (60, "test", 0)
    assert said["data"]["locked_for_testing"] == 60 and said["written"] == "labels.csv"
    (look,) = chosen[0].run.read_tests()
    assert said["scores"]["accuracy"] == pytest.approx(float(look["accuracy"]), abs=1e-6)
    assert said["scores"]["log_loss"] == pytest.approx(float(look["log_loss"]), abs=1e-6)
    assert said["scores"]["wrong"] == round(60 * (1 - said["scores"]["accuracy"]))
    assert sum(map(sum, said["scores"]["confusion_matrix"])) == 60 and said["scores"]["caveat"] is None
    text = tool("predict", SWEEP, "--top", "2")
    assert f"accuracy   {said['scores']['accuracy']:.5f} ± {said['scores']['accuracy_se']:.5f}" in text


def test_predict_gives_a_row_for_each_picture_also_for_one_that_has_no_label(
    tool: Tool, digits: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos").mkdir()
    Image.fromarray(digits.images[0, ..., 0]).resize((84, 84)).save("photos/1.png")
    Path("photos/notes.txt").write_text("no picture")
    said = document(tool, "predict", SWEEP, "photos")
    (row,) = said["pictures"]
    assert row["path"] == "photos/1.png" and row["label"] in "0123456789" and 0 < row["probability"] <= 1
    assert "left out   1 of 2 files" in capsys.readouterr().err
    Image.new("L", (28, 28)).save("photos/2.png")
    for pictures in (["photos/1.png", "photos/2.png"], ["photos/2.png"]):
        monkeypatch.setattr(sys, "argv", ["sweeper_digits", "predict", SWEEP, *pictures, "--json"])
        with pytest.raises(SystemExit, match=r"^error: "):
            __main__.main()
        rows = json.loads(capsys.readouterr().out)["pictures"]
        assert len(rows) == len(pictures) and rows[-1]["label"] is None and rows[-1]["reason"]


def test_doctor_gives_states_findings_and_repairs(tool: Tool) -> None:
    study = optuna.load_study(study_name="first", storage="sqlite:///multirun/first/study.db")
    study.ask().set_user_attr("worker", process.identity().replace(f":{os.getpid()}:", ":999999:"))
    Path("multirun/stray/0/.hydra").mkdir(parents=True)
    said = document(tool, "doctor")
    first, stray = said["studies"]
    assert first["study"] == "first" and first["trials"] == {"complete": 4, "running": 1} and first["bytes"] > 1000
    assert first["folder"] == SWEEP and any(line.startswith("#4: running in the study") for line in first["findings"])
    assert stray["study"] is None and stray["findings"][0].startswith("multirun/stray: no study has these trials")
    assert said["repairs"] == []
    left = Path(SWEEP, "2", f".metrics-{process.machine()}-999999.json")
    left.write_text("{")
    (repair,) = document(tool, "doctor")["repairs"]
    assert repair == {"repair": f"delete {left}", "done": False, "reason": None}
    assert document(tool, "doctor", "first", "--fix")["repairs"][0]["done"] is True
    assert document(tool, "doctor", "first")["repairs"] == []


def test_bad_input_prints_no_document(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(SWEEP, "multirun/stray")
    for arguments in (["compare", "nowhere"], ["predict", "nowhere"], ["doctor", "second"]):
        with pytest.raises(SystemExit, match=r"^error: ") as caught:
            assert tool(*arguments, "--json") == ""
        assert "\n" not in str(caught.value) and capsys.readouterr().out == ""


def test_folders_are_text(tool: Tool) -> None:
    for row in document(tool, "compare", SWEEP):
        assert RunFolder(row["folder"]).metrics.is_file()
