"""benchmarks/search.py: its tasks, its methods, and what it concludes."""

import argparse
import csv
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from benchmarks import compare, kt, methods, search, syne
from benchmarks.replay.workers import Curve, of_epochs, replay
from benchmarks.studies import OptunaSearch
from benchmarks.tasks import Distribution, Task, analytic_task, draw
from sweeper_digits.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def task() -> Task:
    return analytic_task(9)


def test_random_points_are_uniform_up_to_the_ends() -> None:
    generator = np.random.default_rng(0)
    space: dict[str, Distribution] = {
        "count": IntDistribution(2, 8, step=2),
        "rate": FloatDistribution(1e-4, 1e-1, log=True),
    }
    points = [draw(space, generator) for _ in range(4000)]
    counts = np.bincount([point["count"] for point in points])
    assert counts.nonzero()[0].tolist() == [2, 4, 6, 8]
    assert counts[[2, 4, 6, 8]].min() > 0.9 * 1000
    assert np.mean([point["rate"] < 1e-3 for point in points]) == pytest.approx(1 / 3, abs=0.03)


def test_the_plugin_waits_for_a_whole_batch(task: Task) -> None:
    made = methods.plugin(task, np.random.default_rng(0), 0, workers=3)
    jobs = [made.ask() for _ in range(3)]
    assert made.ask() is None
    made.end(jobs[0])
    made.end(jobs[2])
    assert made.ask() is None
    made.end(jobs[1])
    assert made.ask() is not None


def test_a_trial_is_told_its_least_value_and_a_pruned_one_ends(task: Task) -> None:
    made = methods.earlier_default(task, np.random.default_rng(0), 0, workers=1)
    assert isinstance(made, OptunaSearch)
    replay(made, 20 * task.epochs, of_epochs)
    trials = made.study.get_trials()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert all(trial.value == min(trial.intermediate_values.values()) for trial in complete)
    assert pruned
    assert all(4 <= len(trial.intermediate_values) < task.epochs for trial in pruned)
    assert len(trials) > 20


def test_trials_start_at_the_points_given(task: Task) -> None:
    made = OptunaSearch(task, np.random.default_rng(0), RandomSampler(seed=0), start=[task.default])
    made.ask()
    made.ask()
    first, second = made.study.get_trials(deepcopy=False)
    assert first.params == task.default
    assert second.params != task.default


def test_a_method_whose_package_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install syne-tune statsmodels"):
        methods.check(["random", "syne-tune BOHB"])
    with pytest.raises(UserError, match="'nothing' is unknown"):
        methods.check(["nothing"])


def test_a_search_depends_on_its_run_only(task: Task) -> None:
    run = ("earlier default", task.name, 2, 1)
    first, second = (search.search(run, task, 3) for _ in range(2))
    other = search.search((*run[:3], 2), task, 3)
    assert first | {"seconds": 0} == second | {"seconds": 0}
    assert first["worth_100"] != other["worth_100"]


def test_a_search_that_is_there_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "searches.csv"
    arguments = argparse.Namespace(lcbench=None, folder=tmp_path, budget=1.0, jobs=1)
    runs = [("random", "analytic", 1, number) for number in range(3)]
    search.record(runs[:2], arguments, path)
    whole = path.read_text()
    path.write_text(whole[:-5])  # a kill cut the last line
    search.record(runs, arguments, path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["repetition"]) for row in rows) == [0, 1, 2]
    assert path.read_text().startswith(whole[: whole[:-1].rfind("\n")])
    with pytest.raises(UserError, match="--folder"):
        search.known(path, 2.0)


def searches(tmp_path: Path) -> Path:
    """Two methods, two tasks, two repetitions: ours reaches at half the budget what the other has at the end."""
    rows = []
    for task, best, scale in (("a", 0.0, 1.0), ("b", 10.0, 4.0)):
        for repetition in range(2):
            for method, worths in (("ours", [0.6, 0.4, 0.2]), ("other", [0.9, 0.7, 0.4])):
                values = [best + scale * (worth + 0.1 * repetition) for worth in worths]
                shown = dict(zip(("worth_25", "worth_50", "worth_100"), values, strict=True))
                run = {"method": method, "task": task, "workers": 1, "repetition": repetition, "seconds": 0.1}
                rows.append(run | {"budget": 20, "best": best, "median": best + scale} | shown)
    path = tmp_path / "searches.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_methods_are_compared_in_pairs(tmp_path: Path) -> None:
    regrets = compare.load(searches(tmp_path), ["a", "b"], 2)
    row = compare.summary(regrets).set_index("method").loc["other"]
    assert row.regret_100 == pytest.approx(0.45)
    assert row.error_100 == pytest.approx(0.05 / np.sqrt(2))
    assert row.ours_minus == pytest.approx(-0.2)
    assert row.ours_minus_error == pytest.approx(0)  # the repetitions differ, but not within a pair
    assert row.ours_needs == 50
    assert list(compare.by_task(regrets).other.round(3)) == [0.45, 0.45]
    assert "other" in compare.table(regrets)


def test_the_best_point_is_the_best_that_any_method_reached(tmp_path: Path) -> None:
    path = searches(tmp_path)
    table = pd.read_csv(path)
    table.loc[0, "worth_100"] = -1.0
    table.to_csv(path, index=False)
    regrets = compare.load(path, ["a"], 2)
    assert regrets[100].min() == 0
    assert regrets[regrets.method == "other"][100].tolist() == pytest.approx([1.4 / 2, 1.5 / 2])


class Oracle:
    """Hyperband's oracle, as far as the tuners see it: a trial of 2 epochs, then its continuation to the third."""

    def __init__(self) -> None:
        self.told: dict[str, tuple[dict[str, float], int]] = {}
        self.ended: list[str] = []
        first = {"rate": 0.5, "tuner/epochs": 2, "tuner/initial_epoch": 0}
        second = {"rate": 0.5, "tuner/epochs": 3, "tuner/initial_epoch": 2, "tuner/trial_id": "0"}
        self.coming = [self.trial("0", first), self.trial("1", second)]

    def trial(self, number: str, values: Mapping[str, object], status: str = "RUNNING") -> Any:
        return SimpleNamespace(trial_id=number, hyperparameters=SimpleNamespace(values=values), status=status)

    def create_trial(self, tuner: str) -> Any:
        if len(self.coming) == 1 and not self.ended:
            return self.trial("", {}, "IDLE")
        return self.coming.pop(0)

    def update_trial(self, number: str, metrics: dict[str, float], step: int) -> None:
        self.told[number] = (metrics, step)

    def end_trial(self, trial: Any) -> None:
        self.ended.append(f"{trial.trial_id} {trial.status}")


def test_kerastuner_continues_the_curve_of_a_trial() -> None:
    drawn = iter([Curve(np.array([0.5, 0.9, 0.1]), np.ones(3), np.zeros(3))])
    rate: dict[str, Distribution] = {"rate": FloatDistribution(0, 1)}
    task = Task("task", 3, rate, {}, lambda point, generator: next(drawn), 0, 1)
    oracle = Oracle()
    made = kt.OracleSearch(task, np.random.default_rng(0), oracle, workers=2)
    first = made.ask()
    assert (first.first, first.last) == (0, 2)
    assert made.ask() is None
    assert not made.report(first, 0, 0.5)
    assert not made.report(first, 1, 0.9)
    made.end(first)
    second = made.ask()
    assert (second.first, second.last) == (2, 3)
    assert second.curve is first.curve
    assert made.report(second, 2, np.nan)
    made.end(second)
    assert oracle.told == {"0": ({"val_loss": 0.5}, 0)}
    assert oracle.ended == ["0 COMPLETED", "1 FAILED"]


@pytest.mark.filterwarnings("ignore")
def test_syne_tune_stops_trials(task: Task) -> None:
    pytest.importorskip("syne_tune")
    made = methods.METHODS["syne-tune ASHA"](task, np.random.default_rng(0), 0, 4)
    assert isinstance(made, syne.SchedulerSearch)
    replay(made, 20 * task.epochs, of_epochs, 4)
    assert made.trials > 40
