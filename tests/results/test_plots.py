"""Plots say what the runs say."""

import json
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from sweeper_digits.results import plots
from sweeper_digits.results.importance import importances
from sweeper_digits.results.plots import draw_plots
from sweeper_digits.results.report import write_report
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.judge import group_repetitions, judge_winner
from sweeper_digits.runs.predictions import Predictions
from sweeper_digits.runs.record import Record


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
    explained, parameters = importances(study)
    shares = {one.name: one.share for one in parameters}
    assert explained and shares["depth"] > 0.3 > 0.1 > shares["decay"] and shares["depth"] <= explained


def test_an_option_whose_runs_are_pruned_matters() -> None:
    """It has no value among the finished runs; the earlier its runs were pruned, the worse they rank."""
    study, draw = optuna.create_study(), np.random.default_rng(0)
    known = {"kind": CategoricalDistribution(["good", "bad"]), "decay": FloatDistribution(0, 1)}
    for number in range(40):
        params = {"kind": ["good", "bad"][number % 2], "decay": draw.uniform()}
        state = TrialState.COMPLETE if number % 4 == 0 else TrialState.PRUNED
        epochs = 8 if state == TrialState.COMPLETE else 2 + 2 * (params["kind"] == "good")
        curve = {epoch: draw.uniform() for epoch in range(epochs)}
        study.add_trial(
            optuna.create_trial(
                state=state,
                params=params,
                distributions=known,
                intermediate_values=curve,
                value=draw.uniform() if state == TrialState.COMPLETE else None,
            )
        )
    _, (first, *_) = importances(study)
    assert first.name == "kind" and first.share > 0.5 and first.best.startswith("good in ")


def drawn_at_random(runs: int, signal: float) -> optuna.Study:
    """Runs of three parameters; of the variance of their values, `rate` makes signal², and chance the rest."""
    study, draw = optuna.create_study(direction="maximize"), np.random.default_rng(1)
    known = {"rate": FloatDistribution(0, 1), "decay": FloatDistribution(0, 1), "kind": CategoricalDistribution("abc")}
    for _ in range(runs):
        rate, decay, kind = draw.uniform(), draw.uniform(), "abc"[draw.integers(3)]
        value = signal * (rate - 0.5) * np.sqrt(12) + np.sqrt(1 - signal**2) * draw.normal()
        study.add_trial(
            optuna.create_trial(params={"rate": rate, "decay": decay, "kind": kind}, distributions=known, value=value)
        )
    return study


@pytest.mark.parametrize("runs", [12, 100])
def test_chance_explains_nothing(runs: int) -> None:
    explained, parameters = importances(drawn_at_random(runs, signal=0))
    assert explained is not None and explained <= 0 and parameters == []


def test_a_share_is_of_all_the_variation_not_of_what_is_explained() -> None:
    study = drawn_at_random(300, signal=0.7)
    explained, (first, *others) = importances(study)
    assert first.name == "rate" and 0.3 < first.share < 0.6 and max(one.share for one in others) < 0.06
    assert (explained, [first, *others]) == importances(study), "the same runs, the same shares"


@pytest.mark.parametrize(("signal", "words"), [(1, "<b>batch_size</b> explains 9"), (0, "show no parameter that did")])
def test_the_page_names_a_parameter_only_where_runs_show_one(tmp_path: Path, signal: int, words: str) -> None:
    draw, found = np.random.default_rng(1), []
    for number in range(30):
        size = int(draw.integers(16, 256))
        found.append(
            Record(
                RunFolder(f"sweep/{number}"),
                "finished",
                settings={"batch_size": size},
                overrides={"batch_size"},
                metrics={"val_loss": size / 256 if signal else draw.uniform()},
            )
        )
    groups = group_repetitions(found, "val_loss")
    write_report(tmp_path / "report.html", found, judge_winner(groups, "val_loss"), [], {})
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert words in text and ("in the best runs" in text) == bool(signal)


@pytest.mark.parametrize("names", [["lr"], ["lr", "kind"]])
def test_slices_have_few_labels_and_plain_names(names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    study = optuna.create_study()
    known = {"lr": FloatDistribution(1e-4, 1e-1, log=True), "kind": CategoricalDistribution(["a", "<b>"])}
    for number in range(6):
        params = {name: {"lr": 10 ** (-4 + number / 2), "kind": ["a", "<b>"][number % 2]}[name] for name in names}
        distributions = {name: known[name] for name in names}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=number))
    (layout,) = [figure["layout"] for title, _, figure in draw_plots(study, [], ["x"], None, ()) if title == "Slices"]
    axes = {layout[name]["title"]["text"]: layout[name] for name in layout if name.startswith("xaxis")}
    assert axes["lr"]["dtick"] == 1 and set(axes) == set(names)
    assert "kind" not in axes or axes["kind"]["ticktext"] == ["a", "&lt;b&gt;"]
    assert capsys.readouterr().out == ""


def test_no_figure_has_a_tag_from_a_run() -> None:
    """plotly renders some tags: a folder's name or a setting would become a link."""
    link = '<a href="https://example.org">best</a>'
    known = {link: FloatDistribution(0, 1), "kind": CategoricalDistribution(["<i>a", "b&c"])}
    study, found = optuna.create_study(), []
    for number in range(6):
        params = {link: number / 10, "kind": ["<i>a", "b&c"][number % 2]}
        study.add_trial(
            optuna.create_trial(params=params, distributions=known, value=number + 1.0, intermediate_values={0: 1.0})
        )
        found.append(Record(RunFolder(f"sweep/<i>{number}"), "finished"))
    drawn = draw_plots(study, found, ["x"], None, ())
    assert len(drawn) == 4
    for plot in drawn:
        text = json.dumps(plot.figure)
        assert "<i>" not in text and "<a" not in text and "amp;lt" not in text, plot.title
    assert "&lt;i&gt;0" in json.dumps(drawn[1].figure) and "&lt;i&gt;a" in json.dumps(drawn[3].figure)


def test_of_many_runs_the_curves_of_the_best_are_drawn_the_best_above_all() -> None:
    study, found = optuna.create_study(), []
    for number in range(plots.MOST_CURVES + 20):
        value = abs(number - plots.MOST_CURVES - 15) + 1.0
        study.add_trial(optuna.create_trial(value=value, intermediate_values={0: value + 1, 1: value}))
        found.append(Record(RunFolder(f"sweep/{number}"), "finished"))
    (plot,) = [one for one in draw_plots(study, found, ["x"], None, ()) if one.title == "Learning curves"]
    assert len(plot.figure["data"]) == plots.MOST_CURVES and plot.note.endswith("; the best 200 of 220 runs")
    assert plot.figure["data"][-1]["name"] == "sweep/215" and plot.figure["data"][-1]["line"]["color"] == plots.ORANGE
    assert "sweep/0" not in [trace["name"] for trace in plot.figure["data"]]


def test_a_confusion_matrix_names_the_classes_and_writes_no_zeros() -> None:
    labels, logs = np.array([0, 0, 1, 2]), np.log(np.full((4, 3), 0.1) + 0.7 * np.eye(3)[[0, 1, 1, 2]])
    saved = Predictions.of(np.arange(4), labels, np.exp(logs), np.zeros((4, 8, 8, 1), np.uint8))
    drawn_plots = draw_plots(optuna.create_study(), [], ["val_loss"], saved, ("a", "<b>", "10-12"))
    (drawn,) = [figure for title, _, figure in drawn_plots if title.startswith("Confusion")]
    assert drawn["layout"]["xaxis"]["ticktext"] == ["a", "&lt;b&gt;", "10-12"]
    assert np.array(drawn["data"][0]["text"]).tolist() == [["1", "1", ""], ["", "1", ""], ["", "", "1"]]
