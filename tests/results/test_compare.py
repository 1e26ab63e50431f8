"""Comparing, confirming, repeating and repairing a real sweep; broken folders among the whole ones."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import pytest
import yaml
from optuna.distributions import FloatDistribution, IntDistribution

from sweeper_digits.results import compare, report
from sweeper_digits.results.compare import Configuration
from sweeper_digits.runs import record as records
from sweeper_digits.runs.folder import Run
from sweeper_digits.runs.record import Record
from tests.conftest import ROOT

Tool = Callable[..., str]
SWEEP = Path("multirun/first")


def rows(tool: Tool, *arguments: str) -> list[dict[str, Any]]:
    return json.loads(tool("compare", *arguments, "--json"))


def test_table_ranks_by_the_objective_and_shows_only_what_differs(tool: Tool) -> None:
    found = rows(tool, "multirun")
    assert [row["rank"] for row in found] == [1, 2, 3, 4]
    losses = [row["val_loss"] for row in found]
    assert losses == sorted(losses)
    assert set(found[0]) == {
        *("rank", "val_loss", "optimizer", "seed", "val_accuracy", "epochs", "seconds", "state", "folder")
    }
    for row in found:
        assert Run(row["folder"]).read_metrics()["val_loss"] == row["val_loss"]
    assert {(row["optimizer"], row["seed"]) for row in found} == {("adam", 1), ("adam", 2), ("sgd", 1), ("sgd", 2)}


def test_filter_sort_top_group_and_csv(tool: Tool) -> None:
    chosen = rows(
        tool, "multirun", "--filter", "optimizer == 'sgd' and val_loss < 100", "--sort", "seed", "--descending"
    )
    assert [row["seed"] for row in chosen] == [2, 1]
    assert all(row["rank"] and "optimizer" not in row for row in chosen)  # in which these do not differ
    sgd = {row["folder"] for row in rows(tool, "multirun") if row["optimizer"] == "sgd"}
    assert {row["folder"] for row in chosen} == sgd
    assert len(rows(tool, "multirun", "--top", "3")) == 3
    groups = tool("compare", "multirun", "--group-by", "optimizer").splitlines()
    assert groups[0].split() == ["optimizer", "mean", "std", "best", "count"] and len(groups) == 3
    losses = {row["folder"]: row["val_loss"] for row in rows(tool, "multirun") if row["optimizer"] == "adam"}
    (adam,) = [line.split() for line in groups if line.split()[0] == "adam"]
    assert float(adam[1]) == pytest.approx(np.mean(list(losses.values())), rel=1e-3) and adam[4] == "2"
    table = tool("compare", "multirun", "--csv").splitlines()
    assert table[0].startswith("rank,val_loss,optimizer,") and len(table) == 5


def test_a_reader_that_has_seen_enough_gets_no_complaint(tool: Tool) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "sweeper_digits", "compare", "multirun", "--no-report"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == ""


def test_a_filter_decides_what_is_best(tool: Tool) -> None:
    found = rows(tool, "multirun")
    loser = found[-1]
    chosen = f"optimizer == '{loser['optimizer']}' and seed == {loser['seed']}"
    out = tool("compare", "multirun", "--filter", chosen, "--no-report")
    assert f"from_run={loser['folder']} seed=1" in out
    assert f"optimizer={loser['optimizer']}" in out or loser["optimizer"] == "adamw"


def test_broken_folders_are_shown_as_what_they_are(tool: Tool) -> None:
    for number, name in enumerate(("unfinished", "cut", "foreign", "empty")):
        shutil.copytree(SWEEP / "0", SWEEP / str(10 + number))
        folder = SWEEP / str(10 + number)
        if name == "unfinished":
            (folder / "metrics.json").unlink()
        if name == "cut":
            (folder / "metrics.json").write_text('{"state": "fin')
        if name == "foreign":
            (folder / ".hydra" / "config.yaml").write_text("db: mysql\n")
        if name == "empty":
            (folder / ".hydra" / "config.yaml").write_text("")
    (SWEEP / "14").mkdir()
    found = {Path(str(row["folder"])).name: row for row in rows(tool, "multirun/first")}
    states = {name: row["state"] for name, row in found.items()}
    assert states == {str(n): "finished" for n in range(4)} | {
        **{"10": "unfinished", "11": "unreadable", "12": "foreign", "13": "foreign"}
    }
    assert "metrics.json: not readable" in str(found["11"]["note"])
    assert "finished" in tool("compare", "multirun/first")


def test_seeds_are_grouped_and_noise_is_said(tool: Tool) -> None:
    out = tool("compare", "multirun", "--no-report")
    found = records.find(["multirun"])
    groups = compare.configurations(found, "val_loss")
    assert [len(group.samples) for group in groups] == [2, 2]
    assert re.search(r"first and second (are apart|cannot be told apart).*paired over 2 seeds or folds", out)
    assert re.search(r"best +val_loss [\d.]+ ± [\d.e+-]+ over 2 seeds or folds", out)


def configuration(*values: float, seeds: range | None = None, split_seed: int = 0) -> Configuration:
    runs = [Record(Run("nowhere"), "finished", {"split.seed": split_seed}) for _ in values]
    return Configuration(runs, {(seed, 0): value for seed, value in zip(seeds or range(9), values, strict=False)})


def test_differences_are_judged_by_intervals() -> None:
    # Paired: a constant gap under much noise counts; unpaired, the same numbers do not.
    noisy = (0.010, 0.030, 0.020)
    shifted = tuple(value + 0.001 for value in noisy)
    differ, text = compare.difference(configuration(*noisy), configuration(*shifted), "val_loss")
    assert differ and "paired over 3" in text
    differ, text = compare.difference(configuration(*noisy), configuration(*shifted, seeds=range(10, 13)), "val_loss")
    assert differ is False and "over 3 and 3 runs" in text
    assert compare.difference(configuration(0.1), configuration(0.2), "params")[0] is None
    assert compare.difference(configuration(0.1), configuration(0.2, 0.3), "val_loss")[0] is None
    # Made twice with one seed, a configuration is not repeated.
    twice = Configuration(configuration(0.1, 0.1).runs, {(0, 0): 0.1})
    assert "one run each" in compare.difference(twice, configuration(0.2), "params")[1]
    # The same seeds on other images are no pairs.
    _, text = compare.difference(configuration(*noisy), configuration(*shifted, split_seed=1), "val_loss")
    assert "over 3 and 3 runs" in text
    # A second that is better on what both have is not worse, whatever its mean over everything.
    second = configuration(*(value - 0.001 for value in noisy), 0.9)
    assert compare.difference(configuration(*noisy), second, "val_loss")[0] is False
    # Twice one image of 1,000 apart: no spread, no certainty.
    accuracies = (configuration(0.991, 0.993), configuration(0.990, 0.992))
    assert compare.difference(*accuracies, "val_accuracy")[0] is False
    # Student's t for two values: half width = 12.706 * s / sqrt(2).
    assert configuration(1.0, 2.0).interval == pytest.approx(12.706 * 0.70711 / 2**0.5, rel=1e-3)


def test_single_runs_are_compared_image_by_image(tool: Tool) -> None:
    for number in (1, 3):  # of each optimizer one seed stays
        shutil.rmtree(SWEEP / str(number))
    out = tool("compare", "multirun/first", "--no-report")
    assert re.search(r"val_loss differs by .* \(over \d+ validation images, one run each", out)


def test_the_printed_command_repeats_the_best_exactly(tool: Tool) -> None:
    out = tool("compare", "multirun/first", "--no-report")
    command, again = re.findall(r"^  (python train.py .*)$", out, re.MULTILINE)
    best = rows(tool, "multirun/first")[0]
    arguments = command.removeprefix("python train.py ").split() + ["hydra.run.dir=again"]
    subprocess.run([sys.executable, str(ROOT / "train.py"), *arguments], check=True, capture_output=True)
    assert Run("again").read_metrics()["val_loss"] == best["val_loss"]
    assert f"from_run={best['folder']} seed=1" in again


def test_from_run_takes_the_recipe_and_lets_the_user_override(tool: Tool, train: Callable[..., Run]) -> None:
    (sgd,) = [row["folder"] for row in rows(tool, "multirun/first") if (row["optimizer"], row["seed"]) == ("sgd", 2)]
    run = train(f"from_run={sgd}", "epochs=1", "optimizer=adam", folder="again", defaults=[])
    then, now = (yaml.safe_load((Path(folder) / ".hydra/config.yaml").read_text()) for folder in (sgd, run.folder))
    assert now["optimizer"]["_target_"].endswith("Adam") and now["epochs"] == 1 and now["seed"] == 2
    assert now["model"] == then["model"] and now["data"] == then["data"] and now["split"] == then["split"]
    with pytest.raises(SystemExit, match="from_run=nothing: no run of ours in this folder"):
        train("from_run=nothing", folder="other", defaults=[])


@pytest.mark.parametrize(
    "value", ["~/digits.zip", "Jos\u00e9's \\\\ files\\\\", "a,b", "null", "", "[x", "1e-3", None, True, 0.1, ["a b"]]
)
def test_recipes_survive_hydras_command_line(value: object) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from sweeper_digits.runs import recipe

    (parsed,) = OverridesParser.create().parse_overrides([f"key={recipe.text(value)}"])
    found = parsed.value()
    found = [str(item) for item in found] if isinstance(found, list) else found
    assert (found.text if hasattr(found, "text") else found) == value


def test_promote_writes_an_experiment_that_composes_the_same(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sweeper_digits import command_line
    from sweeper_digits.runs import recipe

    shutil.copytree(ROOT / "conf", "conf")
    monkeypatch.setattr(command_line, "CONF", tmp_path / "conf")
    tool("compare", "multirun/first", "--no-report", "--promote", "mine")
    best = records.read(Path(str(rows(tool, "multirun/first")[0]["folder"])))
    composed = recipe.composer(tmp_path / "conf")(["experiment=mine", "data=npz", "data.path=x", "split.test_size=0.2"])
    for group in ("model", "optimizer", "schedule", "augmentation"):
        ours = {f"{group}.{key}": value for key, value in composed[group].items()}
        assert ours == {key: value for key, value in best.settings.items() if key.startswith(f"{group}.")}
    assert composed.epochs == best.settings["epochs"] and composed.seed == 0
    with pytest.raises(SystemExit, match=r"mine\.yaml exists; choose another name"):
        tool("compare", "multirun/first", "--no-report", "--promote", "mine")


def test_confirm_trains_only_what_is_missing(tool: Tool) -> None:
    tool("confirm", "multirun/first", "--top", "2", "--seeds", "1")
    study = optuna.load_study(study_name="first_confirm", storage="sqlite:///multirun/optuna.db")
    assert [trial.user_attrs["point"]["seed"] for trial in study.trials] == [3, 3]  # the search had 1 and 2
    out = tool("confirm", "multirun/first", "--top", "2", "--seeds", "2")
    study = optuna.load_study(study_name="first_confirm", storage="sqlite:///multirun/optuna.db")
    assert sorted(trial.user_attrs["point"]["seed"] for trial in study.trials) == [3, 3, 4, 4]
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials)
    lines = [line for line in out.splitlines() if re.match(r" +[12]  ", line)]
    means = [float(line.split()[1]) for line in lines]
    assert len(lines) == 2 and means == sorted(means)
    for line in lines:
        folder = next(word for word in line.split() if word.startswith("multirun"))
        runs = [t for t in study.trials if t.user_attrs["point"]["from_run"] == folder]
        assert float(line.split()[1]) == pytest.approx(np.mean([t.value for t in runs]), rel=1e-4)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_confirm_can_be_stopped_and_continued(tool: Tool, how: signal.Signals) -> None:
    arguments = ["confirm", "multirun/first", "--top", "2", "--seeds", "2"]
    command = [sys.executable, "-m", "sweeper_digits", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        points = Path("multirun/first_confirm")
        deadline = time.monotonic() + 60
        while not list(points.glob("*/train.log")) and time.monotonic() < deadline:
            time.sleep(0.1)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(how)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 130 and "the same command continues" in out
    assert family and not [one for one in family if one.is_running()]
    study = optuna.load_study(study_name="first_confirm", storage="sqlite:///multirun/optuna.db")
    assert not [trial for trial in study.trials if trial.state == optuna.trial.TrialState.RUNNING]
    tool(*arguments)
    study = optuna.load_study(study_name="first_confirm", storage="sqlite:///multirun/optuna.db")
    assert len([trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]) == 4


def test_confirm_on_folds_keeps_the_test_part_locked_and_apart_from_seeds(tool: Tool) -> None:
    tool("confirm", "multirun/first", "--top", "1", "--seeds", "1")
    out = tool("confirm", "multirun/first", "--top", "1", "--folds", "2")
    (line,) = [line for line in out.splitlines() if re.match(r" +\d  ", line)]
    (folds,) = [r for r in records.find(["multirun/first_confirm"]) if r.settings["split"] == "kfold"]
    assert folds.settings["split.test_size"] == 0.2
    assert sum(fold["validation_images"] for fold in folds.metrics["folds"]) == 240
    assert float(line.split()[1]) == pytest.approx(folds.value("val_loss"), rel=1e-4) and " 2 " in line


def test_doctor_finds_and_repairs(tool: Tool) -> None:
    study = optuna.load_study(study_name="first", storage="sqlite:///multirun/optuna.db")
    ended = subprocess.Popen(["true"])
    ended.wait()
    gone = f"{os.uname().nodename}:{ended.pid}:1.00"
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "nowhere"], "nowhere: no such folder"),
        (["compare", "multirun/first/0/.hydra"], "no run in it"),
        (["compare", "multirun", "--sort", "val_los"], r"no such column \(did you mean 'val_loss'"),
        (["compare", "multirun", "--filter", "nothing < 1"], "--filter 'nothing < 1': name 'nothing' is not defined"),
        (["compare", "multirun", "--filter", "seed > 5", "--no-report"], "no run is left"),
        (["compare", "multirun", "--group-by", "optimiser"], r"no run has this setting \(did you mean 'optimizer'"),
        (["doctor", "second"], "second: no such study in sqlite"),
        (["doctor", "--storage", "sqlite:///none.db"], "no such file; start a sweep"),
        (["doctor", "--storage", "nonsense"], "--storage: the database cannot be read"),
        (["compare", "multirun", "--csv", "--promote", "mine"], "leave --promote and --report out"),
    ],
)
def test_bad_input_is_one_line(tool: Tool, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        tool(*arguments)
    text = str(caught.value)
    assert re.search(message, text) and "\n" not in text and text.startswith("error: ")


def test_importances_of_few_trials_name_what_matters() -> None:
    study = optuna.create_study()
    draw = np.random.default_rng(0)
    for number in range(12):
        depth, decay = number % 3 > 0, draw.uniform(0, 0.1)
        trial = optuna.create_trial(
            params={"depth": int(depth) + 1, "decay": decay},
            distributions={"depth": IntDistribution(1, 2), "decay": FloatDistribution(0, 0.1)},
            value=0.025 - 0.008 * depth + draw.normal(0, 0.0005),
        )
        study.add_trial(trial)
    drawn = {title: figure for title, _, figure in report._figures(study, [], ["val_loss"], None)}
    (bars,) = drawn["Parameter importances"]["data"]
    shares = dict(zip(bars["y"], bars["x"], strict=True))
    assert shares["depth"] > 0.8 > 0.2 > shares["decay"]
