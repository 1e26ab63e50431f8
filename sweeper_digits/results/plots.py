"""The plots of report.html: Optuna's, in the colours of the page, and the best run's confusion matrix."""

import html
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import optuna
import plotly.graph_objects as go
from optuna import visualization
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from plotly.colors import make_colorscale, sample_colorscale

from sweeper_digits.results.table import differing_settings
from sweeper_digits.runs.predictions import Predictions, confusion_matrix
from sweeper_digits.runs.record import Record, direction_of, objectives_of
from sweeper_digits.sweep.grammar import contains
from sweeper_digits.sweep.record import best_trials, trials_of
from sweeper_digits.text import brief, printable

# A figure as plotly.js takes it: `data`, the traces, and `layout`. Changing these dictionaries is much faster
# than changing plotly's own objects, which check each value.
Drawn = dict[str, Any]
ORANGE, GREY = "#d9722e", "#8a8f98"
MISTAKES = [[0.0, "rgba(217,114,46,0)"], [1.0, "rgba(217,114,46,0.8)"]]  # of any page
LATER = [[0.0, "#9aa3b2"], [1.0, "#2f7fd6"]]
STATES = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "diverged": TrialState.PRUNED}
# More learning curves, and more lines of parallel coordinates, would hide each other: those of the best runs are drawn.
MOST_CURVES = 200
# Of more classes, the confusion matrix shows colours but no counts, and not all names.
MOST_CLASSES = 40
# A parameter whose values span more than this factor is drawn on a logarithmic axis.
LOG_SPAN = 30.0


class Plot(NamedTuple):
    """A plot with its title and a note that explains it."""

    title: str
    note: str
    figure: Drawn


def as_study(found: list[Record], known: dict[str, BaseDistribution]) -> optuna.Study:
    """Return the runs, of one sweep or several, as an Optuna study in memory.

    Args:
        found: The runs.
        known: Distributions of the parameters, where a study has them; the others are inferred.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    objectives = objectives_of(found)
    study = optuna.create_study(directions=[direction_of(found, name) for name in objectives])  # type: ignore[misc]
    names = differing_settings(found)
    values_of = [{name: _scalar(value) for name, value in record.used.items() if name in names} for record in found]
    distributions = {name: known.get(name) or _distribution([own.get(name) for own in values_of]) for name in names}
    trials = []
    for record, settings in zip(found, values_of, strict=True):
        values = [value for name in objectives if (value := record.value(name)) is not None]
        state = STATES.get(record.state, TrialState.FAIL)
        if state == TrialState.COMPLETE and len(values) != len(objectives):
            state = TrialState.FAIL
        params = {
            name: settings[name]
            for name, distribution in distributions.items()
            if name in settings and contains(distribution, settings[name])
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


def draw_plots(
    study: optuna.Study, found: list[Record], objectives: list[str], saved: Predictions | None, classes: Sequence[str]
) -> list[Plot]:
    """Return the plots that these runs allow; one that fails costs a warning.

    Args:
        study: The runs, as `as_study` gives them.
        found: The runs, in the study's order.
        objectives: What they optimized.
        saved: Validation predictions of the best run, if there are any.
        classes: The names of the classes.
    """
    complete = [trial for trial in trials_of(study) if trial.state == TrialState.COMPLETE]
    varied = any(trial.params for trial in complete) and len({tuple(trial.values) for trial in complete}) > 1
    target: dict[str, Any] = {"target_name": objectives[0]}
    if len(objectives) > 1:
        target["target"] = lambda trial: trial.values[0]
    drawers: list[Callable[[], Plot]] = []
    if len(objectives) > 1:
        drawers.append(lambda: _pareto_front(study, found, objectives))
    else:
        drawers.append(lambda: _history(study, found, target))
    drawers.append(lambda: _curves(study, found))
    if varied:
        drawers += [lambda: _parallel_coordinates(study, target), lambda: _slices(study, target)]
    if saved:
        drawers.append(lambda: _confusion(saved, classes))
    plots = []
    for draw in drawers:
        try:
            plot = draw()
            plots.append(plot._replace(figure=_as_text(plot.figure)))
        except Exception as error:  # whatever Optuna and plotly do with values that nobody tried
            print(f"warning    a figure is missing: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return plots


def _as_text(node: Any) -> Any:
    """Return a figure whose texts are shown as they are: plotly renders some tags, a link for example.

    What ends in `template` is Optuna's, and has no text of a run.
    """
    if isinstance(node, dict):
        return {key: value if key.endswith("template") else _as_text(value) for key, value in node.items()}
    if isinstance(node, list):
        return list(map(_as_text, node))
    return html.escape(node, quote=False).replace("\n", "<br>") if isinstance(node, str) else node


def _pareto_front(study: optuna.Study, found: list[Record], objectives: list[str]) -> Plot:
    figure, trials = _drawn(visualization.plot_pareto_front(study, target_names=objectives)), trials_of(study)

    def told(text: str) -> str:
        """Return what a run was, a line for each value, instead of Optuna's JSON with tags in it."""
        trial = trials[int(text.partition('"number": ')[2].partition(",")[0])]
        values = [f"{name} {value:.5g}" for name, value in zip(objectives, trial.values, strict=True)]
        params = [f"{name}={brief(value)}" for name, value in trial.params.items()]
        return "\n".join(map(printable, [found[trial.number].name, *values, *params]))

    for trace in figure["data"]:
        trace["text"] = list(map(told, trace["text"]))
    return Plot("Pareto front", "", figure)


def _history(study: optuna.Study, found: list[Record], target: dict[str, Any]) -> Plot:
    figure = _in_view(_drawn(visualization.plot_optimization_history(study, **target)), study)
    names = [record.run.folder.name for record in found]
    one_sweep = len({record.run.folder.parent for record in found}) == 1 and all(map(str.isdecimal, names))
    if one_sweep:  # Optuna counts the runs; a trial that left no folder is missing among them
        for trace in figure["data"]:
            trace["x"] = [int(names[place]) for place in trace["x"]]
    figure["layout"]["xaxis"] = {"title": {"text": "trial" if one_sweep else "run"}}
    return Plot("Optimization history", "each run's value, and the best so far", figure)


def _parallel_coordinates(study: optuna.Study, target: dict[str, Any]) -> Plot:
    best = best_trials(study)[:MOST_CURVES]
    few = optuna.create_study(directions=study.directions)
    few.add_trials(best[::-1])  # the best above the others
    figure = _recoloured(_drawn(visualization.plot_parallel_coordinate(few, **target)), study)
    return Plot("Parallel coordinates", f"a line for each of the best {len(best):,} runs, the best in orange", figure)


def _slices(study: optuna.Study, target: dict[str, Any]) -> Plot:
    figure = _in_view(_drawn(visualization.plot_slice(study, **target)), study)
    for trace in figure["data"]:
        trace["marker"]["colorscale"] = LATER
        axis = figure["layout"][trace.get("xaxis", "x").replace("x", "xaxis")]
        if axis.get("type") == "log":  # few labels: the axes are narrow
            decade = max(trace["x"]) >= 9 * min(trace["x"])
            axis |= {"dtick": 1 if decade else "D2", "exponentformat": "e"}
        elif names := axis.get("categoryarray"):  # Optuna's, in Python's quotes
            axis |= {"tickvals": names, "ticktext": [name.strip("'") for name in names]}
    return Plot("Slices", "each parameter against the objective", figure)


def _curves(study: optuna.Study, found: list[Record]) -> Plot:
    drawn = _drawn(visualization.plot_intermediate_values(study))
    states = [trial.state for trial in trials_of(study)]
    best = {trial.number for trial in study.best_trials}
    by_number = {int(name): trace for trace in drawn["data"] if (name := trace["name"].removeprefix("Trial")).isdigit()}
    ranked = [number for trial in best_trials(study) if (number := trial.number) in by_number]
    numbers = [*ranked, *sorted(by_number.keys() - set(ranked))][:MOST_CURVES][::-1]  # the best above the others
    traces = [by_number[number] for number in numbers]
    for number, trace in zip(numbers, traces, strict=True):
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
    figure = {"data": traces, "layout": drawn["layout"] | axes}
    few = f"; the best {MOST_CURVES} of {len(by_number):,} runs" if len(by_number) > MOST_CURVES else ""
    return Plot("Learning curves", f"val_loss by epoch; pruned runs dimmed{few}", figure)


def _confusion(saved: Predictions, classes: Sequence[str]) -> Plot:
    counts = confusion_matrix(saved.log_probabilities, saved.labels)
    shown = counts.astype(float)
    np.fill_diagonal(shown, 0)  # the colour shows mistakes
    text = np.where(counts > 0, counts.astype(str), "")
    named = range(0, len(classes), math.ceil(len(classes) / MOST_CLASSES))
    axis = {  # places, not names: plotly would read some names as dates
        "tickvals": list(named),
        "ticktext": [classes[place] for place in named],
        "showgrid": False,
        "zeroline": False,
    }
    figure = go.Figure(go.Heatmap(z=shown, text=text, colorscale=MISTAKES, showscale=False))
    if len(classes) <= MOST_CLASSES:
        figure.update_traces(texttemplate="%{text}")
    figure.update_layout(
        xaxis=axis | {"title": "predicted"},
        yaxis=axis | {"title": "true", "autorange": "reversed"},
        height=int(np.clip(120 + 24 * len(classes), 420, 1000)),
    )
    return Plot("Confusion matrix of the best", "true label down, predicted across; mistakes only", _drawn(figure))


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


def _scalar(value: Any) -> Any:
    """Return a setting as Optuna takes it: lists, dates and numbers that are not finite become text."""
    plain = value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else str(value)


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
