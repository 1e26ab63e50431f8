"""report.html: one file with everything that a comparison shows, for a browser without a network."""

import base64
import io
import math
import os
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from optuna.distributions import BaseDistribution
from PIL import Image
from plotly.offline import get_plotlyjs

from sweeper_digits.errors import UserError
from sweeper_digits.results.compare import ONE_ERROR, build_table, cell_text, join_errors
from sweeper_digits.results.mixture import describe_mixture
from sweeper_digits.results.plots import as_study, draw_plots
from sweeper_digits.results.statistics import format_value, group_repetitions
from sweeper_digits.runs.folder import replacing
from sweeper_digits.runs.predictions import Predictions
from sweeper_digits.runs.record import Record, objectives_of
from sweeper_digits.screen import counted, printable
from sweeper_digits.sweep.trials import trials_of

# The larger side of a picture, in pixels: the nearest whole multiple of the image.
PICTURE = 56


def write_report(
    path: Path, found: list[Record], command: str, verdicts: list[str], known: dict[str, BaseDistribution]
) -> None:
    """Write the report of these runs.

    Args:
        path: Of the HTML file.
        found: The runs, of which one has finished.
        command: Repeats the best run.
        verdicts: How the best compares with the others, as `describe_winner` says it.
        known: Distributions of the parameters, where a study has them; the others are inferred.
    """
    objectives = objectives_of(found)
    groups = group_repetitions(found, objectives[0])
    study = as_study(found, known)
    frame = build_table(found).drop(columns=["note"], errors="ignore")
    frame["folder"] = [os.path.relpath(folder, path.parent) for folder in frame["folder"]]
    links = [_link(folder) for folder in frame["folder"]]
    shown = join_errors(frame)
    best = groups[0].runs[0]
    saved = _validation(best)
    looks = {when for record in found for when in record.looks}
    environment = jinja2.Environment(loader=jinja2.PackageLoader("sweeper_digits.results"), autoescape=True)
    html = environment.get_template("report.html.j2").render(
        title=printable(" + ".join(dict.fromkeys(record.run.folder.parent.name for record in found))[:80]),
        created=datetime.now().strftime("%Y-%m-%d %H:%M"),
        states=[f"{count} {state}" for state, count in Counter(record.state for record in found).most_common()],
        objectives=objectives,
        best=best,
        best_link=_link(os.path.relpath(best.run.folder, path.parent)),
        values=[(name, format_value(best, name)) for name in dict.fromkeys([*objectives, "val_loss", "val_accuracy"])],
        one_error=ONE_ERROR,
        command=command,
        warnings=describe_mixture(found),
        verdicts=verdicts,
        repeated=groups[:10] if any(len(group.samples) > 1 for group in groups) else [],
        looks=counted(len(looks), "time") if looks else "",
        plots=draw_plots(study, found, objectives, saved, best.classes),
        mistakes=_mistakes(saved, best.classes) if saved else [],
        slices=len({name for trial in trials_of(study) for name in trial.params}),
        links=links,
        columns=list(shown.columns),
        rows=[
            [(cell_text(text), _sort_key(value)) for text, value in zip(texts, values, strict=True)]
            for texts, values in zip(shown.to_numpy(object), frame[shown.columns].to_numpy(object), strict=True)
        ],
        plotly=get_plotlyjs(),
    )
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="replace")  # names need not be text


def _link(folder: str) -> str:
    """Return a relative path as a link: of `javascript:` and the like, the colon is quoted."""
    return urllib.parse.quote(os.fsencode(folder))


def _validation(best: Record) -> Predictions | None:
    try:
        saved = best.run.read_validation()
    except UserError:  # split=all, or a damaged file
        return None
    return saved if saved.log_probabilities.shape[1] == len(best.classes) else None  # of another run


def _mistakes(saved: Predictions, classes: Sequence[str]) -> list[tuple[str, str]]:
    """Return an inline picture and a caption for each of the best run's worst mistakes."""
    shown = []
    for place, picture in zip(saved.worst, saved.pictures, strict=True):
        stream = io.BytesIO()
        height, width, channels = picture.shape
        image = Image.fromarray(255 - picture[..., 0] if channels == 1 else picture)  # grey: dark ink on white
        larger = max(1, round(PICTURE / max(height, width)))
        image.resize((larger * width, larger * height), Image.Resampling.NEAREST).save(stream, "PNG")
        logs = saved.log_probabilities[place].astype(float)
        caption = f"{classes[saved.labels[place]]} as {classes[logs.argmax()]}, {math.exp(logs.max()):.0%} sure"
        shown.append((base64.b64encode(stream.getvalue()).decode(), caption))
    return shown


def _sort_key(value: Any) -> float | str:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return float(value) if number and not math.isnan(value) else cell_text(value)
