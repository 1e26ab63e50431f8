"""report.html: one file with everything that a comparison shows, for a browser without a network."""

import base64
import io
import json
import math
import os
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna import visualization
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from PIL import Image
from plotly.colors import make_colorscale, sample_colorscale
from plotly.offline import get_plotlyjs

from sweeper_digits.data.digits import SIDE
from sweeper_digits.errors import UserError
from sweeper_digits.results import compare
from sweeper_digits.runs import record as records
from sweeper_digits.runs.folder import replacing
from sweeper_digits.runs.predictions import Predictions, confusion_matrix
from sweeper_digits.runs.record import Record
from sweeper_digits.schema import OBJECTIVES
from sweeper_digits.sweep.queue import trials_of

# A figure as plotly.js takes it: `data`, the traces, and `layout`. Changing these dictionaries is much faster
# than changing plotly's own objects, which check each value.
Drawn = dict[str, Any]
ORANGE, GREY = "#d9722e", "#8a8f98"
STATES = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "diverged": TrialState.PRUNED}
# More learning curves than these are not drawn.
MOST_CURVES = 500
# A parameter whose values span more than this factor is drawn on a logarithmic axis.
LOG_SPAN = 30.0


def write(path: Path, found: list[Record], command: str, known: dict[str, BaseDistribution]) -> None:
    """Write the report of these runs.

    Args:
        path: Of the HTML file.
        found: The runs, of which one has finished.
        command: Repeats the best run.
        known: Distributions of the parameters, where a study has them; the others are inferred.
    """
    objectives = records.objectives_of(found)
    groups = compare.configurations(found, objectives[0])
    study = study_of(found, known)
    frame = compare.table(found).drop(columns=["note"], errors="ignore")
    frame["folder"] = [os.path.relpath(folder, path.parent) for folder in frame["folder"]]
    best = groups[0].runs[0]
    saved = _validation(best)
    states = pd.Series([record.state for record in found]).value_counts()
    verdict = compare.difference(groups[0], groups[1], objectives[0])[1] if len(groups) > 1 else ""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("sweeper_digits.results"), autoescape=True)
    html = environment.get_template("report.html.j2").render(
        title=" + ".join(dict.fromkeys(record.run.folder.parent.name for record in found))[:80],
        created=datetime.now().strftime("%Y-%m-%d %H:%M"),
        states=[f"{count} {state}" for state, count in states.items()],
        objectives=objectives,
        best=best,
        best_link=os.path.relpath(best.run.folder, path.parent),
        values=[(name, best.value(name)) for name in dict.fromkeys([*objectives, "val_loss", "val_accuracy"])],
        command=command,
        verdict=verdict,
        repeated=groups[:10] if any(len(group.samples) > 1 for group in groups) else [],
        looks=len({row["when"] for record in found for row in record.run.read_tests()}),
        figures=[
            # Safe inside a <script> element.
            (name, note, json.dumps(drawn).replace("</", "<\\/"))
            for name, note, drawn in _figures(study, found, objectives, saved)
        ],
        mistakes=_mistakes(saved) if saved else [],
        slices=len({name for trial in trials_of(study) for name in trial.params}),
        columns=list(frame.columns),
        rows=[[_cell(value) for value in row] for row in frame.itertuples(index=False)],
        plotly=get_plotlyjs(),
    )
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def study_of(found: list[Record], known: dict[str, BaseDistribution]) -> optuna.Study:
    """Return the runs as an Optuna study in memory, whichever sweeps they are from."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    objectives = records.objectives_of(found)
    study = optuna.create_study(directions=[OBJECTIVES[name] for name in objectives])  # type: ignore[misc]
    names = records.differing(found)
    distributions = {name: known.get(name) or _distribution([r.settings.get(name) for r in found]) for name in names}
    trials = []
    for record in found:
        values = [value for name in objectives if (value := record.value(name)) is not None]
        state = STATES.get(record.state, TrialState.FAIL)
        if state == TrialState.COMPLETE and len(values) != len(objectives):
            state = TrialState.FAIL
        params = {
            name: record.settings[name]
            for name, distribution in distributions.items()
            if name in record.settings and _contains(distribution, record.settings[name])
        }
        curve = {
            i: row["val_loss"] for i, row in enumerate(record.history) if math.isfinite(row.get("val_loss", math.nan))
        }
        trials.append(
            optuna.create_trial(
                state=state,
                params=params,
                distributions={name: distributions[name] for name in params},
                values=values if state == TrialState.COMPLETE else None,
                intermediate_values=curve,
            )
        )
    study.add_trials(trials)
    return study


def _figures(
    study: optuna.Study, found: list[Record], objectives: list[str], saved: Predictions | None
) -> list[tuple[str, str, Drawn]]:
    """Return title, note and figure of each that these runs allow."""
    single = len(objectives) == 1
    complete = [trial for trial in trials_of(study) if trial.state == TrialState.COMPLETE]
    names = {name for trial in complete for name in trial.params}
    varied = bool(names) and len({tuple(trial.values) for trial in complete}) > 1
    label = objectives[0]
    target: dict[str, Any] = {} if single else {"target": lambda trial: trial.values[0]}
    # Not Optuna's default, PED-ANOVA, which looks at the best tenth: of 12 finished trials, at one or two. Its time
    # grows with trees times trials; 64 trees are its own default.
    fanova = optuna.importance.FanovaImportanceEvaluator(n_trees=max(8, min(64, 3000 // max(1, len(complete)))), seed=0)
    wanted: list[tuple[str, str, Callable[[], Drawn], bool]] = [
        (
            "Pareto front",
            "",
            lambda: _drawn(visualization.plot_pareto_front(study, target_names=objectives)),
            not single,
        ),
        (
            "Optimization history",
            "each run's value, and the best so far",
            lambda: _in_view(_drawn(visualization.plot_optimization_history(study, target_name=label)), study),
            single,
        ),
        (
            "Parameter importances",
            "how much of the variation between finished runs each parameter explains",
            lambda: _drawn(
                visualization.plot_param_importances(study, fanova, target_name=label, **target).update_yaxes(title="")
            ),
            varied,
        ),
        ("Learning curves", "val_loss by epoch; pruned runs dimmed", lambda: _curves(study, found), True),
        (
            "Parallel coordinates",
            "a line per finished run, the best in orange",
            lambda: _recoloured(
                _drawn(visualization.plot_parallel_coordinate(study, target_name=label, **target)), study
            ),
            varied,
        ),
        (
            "Slices",
            "each parameter against the objective",
            lambda: _in_view(_drawn(visualization.plot_slice(study, target_name=label, **target)), study),
            varied,
        ),
    ]
    if saved:
        title, note = "Confusion matrix of the best", "true label down, predicted across; mistakes only"
        wanted.append((title, note, lambda: _drawn(_confusion(saved)), True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # by Optuna, of importances that stand on few trials
        return [(title, note, draw()) for title, note, draw, sensible in wanted if sensible]


def _drawn(figure: go.Figure) -> Drawn:
    """Return the figure's traces and layout, without Optuna's title and its colours for a white page."""
    drawn = json.loads(figure.to_json())
    layout = {name: value for name, value in drawn["layout"].items() if name not in ("template", "title")}
    return {"data": drawn["data"], "layout": layout}


def _in_view(drawn: Drawn, study: optuna.Study) -> Drawn:
    """Begin with the better nine tenths of the runs in view; a double click shows all."""
    values = sorted(trial.values[0] for trial in trials_of(study) if trial.state == TrialState.COMPLETE)
    if len(values) > 9:
        if study.directions[0] == optuna.study.StudyDirection.MINIMIZE:
            low, high = values[0], values[int(0.9 * len(values))]
        else:
            low, high = values[int(0.1 * len(values))], values[-1]
        margin = 0.06 * (high - low) or 1e-6
        for name in [name for name in drawn["layout"] if name.startswith("yaxis")]:
            drawn["layout"][name]["range"] = [low - margin, high + margin]
    return drawn


def _recoloured(drawn: Drawn, study: optuna.Study) -> Drawn:
    """Colour the best in orange, which stands out on a light and on a dark page."""
    colours = [ORANGE, "#b59a86", "#7d8fa8"]
    if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE:
        colours.reverse()
    scale = make_colorscale(colours, [0.0, 0.3, 1.0] if colours[0] == ORANGE else [0.0, 0.7, 1.0])
    for trace in drawn["data"]:
        if trace["mode"] == "lines":  # the first axis is the objective, from 0 to 1
            trace["line"]["color"] = sample_colorscale(scale, float(trace["y"][0]))[0]
            trace["opacity"] = 0.8
        elif trace.get("marker", {}).get("showscale"):
            trace["marker"] |= {"colorscale": scale, "reversescale": False}
    return drawn


def _curves(study: optuna.Study, found: list[Record]) -> Drawn:
    drawn = _drawn(visualization.plot_intermediate_values(study))
    states = [trial.state for trial in trials_of(study)]
    best = {trial.number for trial in study.best_trials}
    traces = [trace for trace in drawn["data"] if trace["name"].removeprefix("Trial").isdigit()][:MOST_CURVES]
    for trace in traces:
        number = int(trace["name"].removeprefix("Trial"))
        complete = states[number] == TrialState.COMPLETE
        trace |= {
            "mode": "lines" if len(trace["x"]) > 1 else "markers",
            "x": [epoch + 1 for epoch in trace["x"]],
            "name": found[number].name,
            "opacity": 0.75 if complete else 0.3,
            "showlegend": False,
            "line": {"width": 3 if number in best else 1},
        }
        if number in best:
            trace["line"]["color"] = ORANGE
        if not complete:
            trace["line"] |= {"dash": "dot", "color": GREY}
    longest = max((trace["x"][-1] for trace in traces), default=1)
    axes = {
        "xaxis": {"title": {"text": "epoch"}, "dtick": math.ceil(longest / 15), "tick0": 0},
        "yaxis": {"title": {"text": "val_loss"}, "type": "log"},
    }
    return {"data": traces, "layout": drawn["layout"] | axes}


def _validation(best: Record) -> Predictions | None:
    try:
        return best.run.read_validation()
    except UserError:  # split=all, or a damaged file
        return None


def _confusion(saved: Predictions) -> go.Figure:
    counts = confusion_matrix(saved.log_probabilities, saved.labels)
    shown = counts.astype(float)
    np.fill_diagonal(shown, 0)  # the colour shows mistakes
    axis = [str(label) for label in range(len(counts))]
    figure = go.Figure(
        go.Heatmap(z=shown, x=axis, y=axis, text=counts, texttemplate="%{text}", colorscale="Oranges", showscale=False)
    )
    figure.update_layout(
        xaxis={"title": "predicted", "type": "category", "showgrid": False},
        yaxis={"title": "true", "type": "category", "autorange": "reversed", "showgrid": False},
    )
    return figure


def _mistakes(saved: Predictions) -> list[tuple[str, str]]:
    """Return an inline picture and a caption for each of the best run's worst mistakes."""
    shown = []
    for place, picture in zip(saved.worst, saved.pictures, strict=True):
        stream = io.BytesIO()
        Image.fromarray(255 - picture).resize((2 * SIDE, 2 * SIDE), Image.Resampling.NEAREST).save(stream, "PNG")
        logs = saved.log_probabilities[place].astype(float)
        caption = f"{saved.labels[place]} as {logs.argmax()}, {math.exp(logs.max()):.0%} sure"
        shown.append((base64.b64encode(stream.getvalue()).decode(), caption))
    return shown


def _distribution(values: list[Any]) -> BaseDistribution:
    present = [value for value in values if value is not None]
    numbers = [value for value in present if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(present) or len(set(numbers)) < 2:
        return CategoricalDistribution(sorted(set(values), key=str))
    low, high = min(numbers), max(numbers)
    log = low > 0 and high / low > LOG_SPAN
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (ValueError, TypeError):
        return False


def _cell(value: Any) -> dict[str, Any]:
    """Return what a cell shows and what it is sorted by."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return {"text": "", "key": ""}
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return {"text": text, "key": float(value) if number else text}
