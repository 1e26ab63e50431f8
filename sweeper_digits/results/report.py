"""report.html: one file with everything that a comparison shows, for a browser without a network."""

import base64
import io
import math
import os
import urllib.parse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from optuna.distributions import BaseDistribution
from PIL import Image
from plotly.offline import get_plotlyjs

from sweeper_digits.results.importance import LEAST_RUNS, importances
from sweeper_digits.results.plots import as_study, draw_plots
from sweeper_digits.results.steps import Step
from sweeper_digits.results.suspects import Suspect, find_suspects, validation_of
from sweeper_digits.results.table import build_table, cell_text, describe_mixture, join_errors, states_of
from sweeper_digits.results.watch import LIVE
from sweeper_digits.runs.folder import replacing
from sweeper_digits.runs.judge import ONE_ERROR, Winner, format_value, group_repetitions, interval_text
from sweeper_digits.runs.predictions import Predictions
from sweeper_digits.runs.record import Record, objectives_of
from sweeper_digits.sweep.record import trials_of
from sweeper_digits.text import counted, printable

# The larger side of a picture, in pixels: the nearest whole multiple of the image.
PICTURE = 56


def write_report(
    path: Path,
    found: list[Record],
    winner: Winner,
    steps: Sequence[Step],
    known: dict[str, BaseDistribution],
    live: bool = False,
) -> None:
    """Write the report of runs, of which one has finished.

    Args:
        path: Of the HTML file.
        found: The runs.
        winner: How the best compares with the others.
        steps: What to do next.
        known: Distributions of the parameters, where a study has them; the others are inferred.
        live: Whether the page reloads itself, because it will be written again.
    """
    objectives = objectives_of(found)
    groups = group_repetitions(found, objectives[0])
    study = as_study(found, known)
    best = groups[0].runs[0]
    saved = validation_of(best, best.classes)
    looks = {when for record in found for when in record.looks}
    html = _template().render(
        live=LIVE if live else "",
        title=printable(" + ".join(dict.fromkeys(record.run.folder.parent.name for record in found))[:80]),
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z"),
        states=states_of(found),
        objectives=objectives,
        best=best,
        best_link=_link(os.path.relpath(best.run.folder, path.parent)),
        values=[(name, format_value(best, name)) for name in dict.fromkeys([*objectives, "val_loss", "val_accuracy"])],
        importances=importances(study),
        winner=winner,
        steps=steps,
        here=printable(str(Path.cwd())),
        warnings=describe_mixture(found),
        repeated=groups[:10] if any(len(group.samples) > 1 for group in groups) else [],
        looks=counted(len(looks), "time") if looks else "",
        plots=draw_plots(study, found, objectives, saved, best.classes),
        mistakes=_mistakes(saved, best.classes) if saved else [],
        suspects=[(_inline(one.picture), _doubt(one, best.classes)) for one in find_suspects(found, best)],
        slices=len({name for trial in trials_of(study) for name in trial.params}),
        table=_table(found, path),
        plotly=get_plotlyjs(),
    )
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="replace")  # names need not be text


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sweeper_digits.results"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"one_error": ONE_ERROR, "interval": interval_text, "least": LEAST_RUNS}
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return environment.get_template("report.html.j2")


def _table(found: list[Record], path: Path) -> dict[str, list[Any]]:
    """Return the columns, and of each row the link of its folder and its cells, as the page sorts them."""
    frame = build_table(found).drop(columns=["note"], errors="ignore")
    frame["folder"] = [os.path.relpath(folder, path.parent) for folder in frame["folder"]]
    shown = join_errors(frame)
    pairs = zip(shown.to_numpy(object), frame[shown.columns].to_numpy(object), strict=True)
    return {
        "columns": list(shown.columns),
        "links": [_link(folder) for folder in frame["folder"]],
        "rows": [[_cell(cell_text(t), v) for t, v in zip(texts, values, strict=True)] for texts, values in pairs],
    }


def _cell(text: str, value: Any) -> str | list[Any]:
    """Return a cell's text; of a number, also what it is sorted by."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return [text, float(f"{value:.8g}")] if number and math.isfinite(value) else text


def _link(folder: str) -> str:
    """Return a relative path as a link: of `javascript:` and the like, the colon is quoted."""
    return urllib.parse.quote(os.fsencode(folder))


def _mistakes(saved: Predictions, classes: Sequence[str]) -> list[tuple[str, str]]:
    """Return an inline picture and a caption for each of the best run's worst mistakes."""
    shown = []
    for place, picture in zip(saved.worst, saved.pictures, strict=True):
        logs = saved.log_probabilities[place].astype(float)
        caption = f"{classes[saved.labels[place]]} as {classes[logs.argmax()]}, {math.exp(logs.max()):.0%} sure"
        shown.append((_inline(picture), caption))
    return shown


def _doubt(one: Suspect, classes: Sequence[str]) -> str:
    """Return the caption of an image whose label is probably wrong."""
    asked = counted(one.models, "model")
    return f"image {one.image:,}: {classes[one.label]}, rather {classes[one.found]} ({one.probability:.0%}, {asked})"


def _inline(picture: np.ndarray) -> str:
    """Return an image, uint8 (height, width, channels), as a PNG in base64."""
    stream = io.BytesIO()
    height, width, channels = picture.shape
    image = Image.fromarray(255 - picture[..., 0] if channels == 1 else picture)  # grey: dark ink on white
    larger = max(1, round(PICTURE / max(height, width)))
    image.resize((larger * width, larger * height), Image.Resampling.NEAREST).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
