"""Runs side by side: a table, repetitions grouped, and whether the first really beats the second."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sweeper_digits.errors import UserError, closest
from sweeper_digits.runs import record as records
from sweeper_digits.runs.record import Record
from sweeper_digits.schema import OBJECTIVES

CONFIDENCE = 0.95


@dataclass
class Configuration:
    """The finished runs of one configuration: its seeds and folds.

    Attributes:
        runs: At least one.
        samples: The metric of each repetition, by seed and fold.
    """

    runs: list[Record]
    samples: dict[tuple[Any, Any], float]

    @property
    def validated_on(self) -> dict[str, Any]:
        """Return the settings that decide which images validate, apart from the fold."""
        settings = self.runs[0].settings.items()
        return {k: v for k, v in settings if k.split(".")[0] in ("data", "split") and k not in records.REPEATED}

    @property
    def mean(self) -> float:
        """Return the mean over repetitions."""
        return float(np.mean(list(self.samples.values())))

    @property
    def std(self) -> float:
        """Return the standard deviation over repetitions (n - 1); NaN of one."""
        return float(np.std(list(self.samples.values()), ddof=1)) if len(self.samples) > 1 else float("nan")

    @property
    def interval(self) -> float:
        """Return the half width of the 95 % t interval of the mean; NaN of one."""
        return _half_width(list(self.samples.values()))


def table(found: list[Record]) -> pd.DataFrame:
    """Return a row per run: rank, objectives, the settings that differ, accuracy, epochs, seconds, state, folder.

    Finished runs come first, best first; `rank` is empty for the others.
    """
    objectives = records.objectives_of(found)
    ranked = records.best_first(found, objectives[0])
    ranks = {id(record): rank for rank, record in enumerate(ranked, 1)}
    rest = [record for record in found if id(record) not in ranks]
    settings = records.differing(found)
    rows = []
    for record in ranked + rest:
        row: dict[str, Any] = {"rank": ranks.get(id(record))}
        row |= {name: record.value(name) for name in objectives}
        row |= {name: record.settings.get(name) for name in settings}
        # An objective or a setting of the same name goes before what every run has.
        row.setdefault("val_accuracy", record.value("val_accuracy"))
        row.setdefault("epochs", record.metrics.get("epochs"))
        row.setdefault("seconds", record.value("run_seconds"))
        row |= {"state": record.state, "folder": str(record.run.folder), "note": record.note}
        rows.append(row)
    frame = pd.DataFrame(rows).astype({"rank": "Int64", "epochs": "Int64"})
    return frame if frame["note"].any() else frame.drop(columns="note")


def filtered(found: list[Record], expression: str) -> list[Record]:
    """Return the runs whose row of the table satisfies an expression, as `optimizer == 'adamw'`.

    Raises:
        UserError: No expression, a column that is not there, or no run left.
    """
    frame = table(found)
    names = sorted(frame.columns, key=len, reverse=True)
    quoted = re.sub("|".join(rf"(?<![\w.]){re.escape(n)}(?![\w.])" for n in names), r"`\g<0>`", expression)
    try:
        left = set(frame.query(quoted, engine="python")["folder"])
    except Exception as error:  # pandas raises many kinds
        known = ", ".join(frame.columns)
        raise UserError(f"--filter {expression!r}: {str(error).splitlines()[0]}; columns: {known}") from error
    if not left:
        raise UserError(f"--filter {expression!r}: no run is left")
    return [record for record in found if str(record.run.folder) in left]


def shape(frame: pd.DataFrame, sort: str | None, descending: bool, top: int | None) -> pd.DataFrame:
    """Sort by a column, keep the first rows.

    Raises:
        UserError: A column that is not there.
    """
    if sort:
        if sort not in frame.columns:
            known = ", ".join(frame.columns)
            raise UserError(f"--sort {sort}: no such column{closest(sort, frame.columns)}; choose from {known}")
        frame = frame.sort_values(sort, ascending=not descending, kind="stable")
    return frame.head(top) if top else frame


def by_setting(found: list[Record], name: str) -> pd.DataFrame:
    """Return mean, standard deviation, best and count of the objective for each value of a setting.

    Raises:
        UserError: No run has the setting.
    """
    known = {key for record in found for key in record.settings}
    if name not in known:
        raise UserError(f"--group-by {name}: no run has this setting{closest(name, known)}")
    objective = records.objectives_of(found)[0]
    values = [(str(r.settings.get(name)), r.value(objective)) for r in found if r.finished]
    frame = pd.DataFrame(values, columns=[name, objective]).dropna()
    maximize = OBJECTIVES[objective] == "maximize"
    groups = frame.groupby(name)[objective].agg(["mean", "std", "max" if maximize else "min", "count"])
    groups.columns = ["mean", "std", "best", "count"]
    return groups.sort_values("mean", ascending=not maximize).reset_index()


def configurations(found: list[Record], objective: str) -> list[Configuration]:
    """Group finished runs that differ in seed and fold only; best mean first."""
    groups: dict[str, Configuration] = {}
    for record in records.best_first(found, objective):
        group = groups.setdefault(record.configuration, Configuration([], {}))
        group.runs.append(record)
        for key, value in record.samples(objective).items():
            group.samples.setdefault(key, value)
    sign = -1 if OBJECTIVES.get(objective) == "maximize" else 1
    return sorted(groups.values(), key=lambda group: sign * group.mean)


def difference(first: Configuration, second: Configuration, objective: str) -> tuple[bool | None, str]:
    """Say whether the second is really worse than the first.

    With two or more repetitions of each: Student's paired t interval over the seeds and folds
    that both have, if they validate on the same images, else Welch's. Of one run each, the cross entropies
    of the same validation images are paired, which leaves the luck of the seed out.

    Returns:
        Whether they differ (None: nothing to judge by), and a sentence.
    """
    alike = first.validated_on == second.validated_on
    common = sorted(set(first.samples) & set(second.samples), key=str) if alike else []
    if len(common) > 1:
        gaps = [second.samples[key] - first.samples[key] for key in common]
        gap, half, how = float(np.mean(gaps)), _half_width(gaps), f"paired over {len(common)} seeds or folds"
    elif min(len(first.samples), len(second.samples)) > 1:
        a, b = (np.array(list(group.samples.values())) for group in (first, second))
        interval = stats.ttest_ind(b, a, equal_var=False).confidence_interval(CONFIDENCE)
        gap, half = float(b.mean() - a.mean()), float(interval.high - interval.low) / 2
        how = f"over {len(a)} and {len(b)} runs"
    elif max(len(first.samples), len(second.samples)) > 1:
        return None, "only one of the two was repeated; repeat both with `confirm`"
    elif objective == "val_loss" and (images := _image_gaps(first.runs[0], second.runs[0])) is not None:
        gap, half = float(np.mean(images)), _half_width(images)
        how = f"over {len(images):,} validation images, one run each: another seed may turn it round"
    else:
        return None, "one run each: their difference may be luck; repeat them with `confirm`"
    worse = -gap if OBJECTIVES[objective] == "maximize" else gap
    # Accuracies come in steps of one image: a few equal differences say nothing of their spread.
    differ = worse > half and not (objective == "val_accuracy" and half < 1e-9)
    verdict = "are apart" if differ else "cannot be told apart"
    return differ, f"first and second {verdict}: {objective} differs by {abs(gap):.2g} ± {half:.2g} ({how})"


def as_text(frame: pd.DataFrame) -> str:
    """Return the table for a terminal."""
    shown = frame.copy()
    for name in shown.columns:
        if name in ("seconds",):
            shown[name] = [f"{value:.0f}" if pd.notna(value) else "" for value in shown[name]]
        else:
            shown[name] = [_cell(value) for value in shown[name]]
    return shown.to_string(index=False, max_colwidth=60)


def as_csv(frame: pd.DataFrame) -> str:
    """Return the table as CSV, with full precision."""
    text = io.StringIO()
    frame.to_csv(text, index=False, quoting=csv.QUOTE_MINIMAL)
    return text.getvalue()


def as_json(frame: pd.DataFrame) -> str:
    """Return the table as a JSON list of objects; what a run has not is null."""
    rows = [{k: None if _is_missing(v) else v for k, v in row.items()} for row in frame.to_dict("records")]
    return json.dumps(rows, indent=2, default=str) + "\n"


def _half_width(values: Sequence[float] | np.ndarray) -> float:
    if len(values) < 2:
        return float("nan")
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return float(quantile * np.std(values, ddof=1) / np.sqrt(len(values)))


def _image_gaps(first: Record, second: Record) -> np.ndarray | None:
    try:
        a, b = first.run.read_validation(), second.run.read_validation()
    except UserError:
        return None
    same = first.settings.get("data") == second.settings.get("data") and np.array_equal(a.images, b.images)
    return b.losses - a.losses if same and np.array_equal(a.labels, b.labels) else None


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _cell(value: Any) -> str:
    if _is_missing(value):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
