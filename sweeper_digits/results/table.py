"""The table of runs: built, filtered, sorted, grouped and written, with a warning where its ranks do not compare."""

import csv
import io
import os
import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from sweeper_digits.config import GROUPS, INCIDENTAL, distinct
from sweeper_digits.errors import UserError, closest
from sweeper_digits.runs.judge import OVER_IMAGES, standard_error
from sweeper_digits.runs.record import REPEATED, Record, best_first, direction_of, objectives_of
from sweeper_digits.sweep.owner import find_copies
from sweeper_digits.text import counted, no_formula, printable, with_error

# A folder's name need not be text, and pyarrow, where it is installed, holds nothing else.
pd.set_option("mode.string_storage", "python")
# Groups of runs that a line names.
MOST_GROUPS = 4
# Digits of a fingerprint that a person sees.
SHOWN = 8


def build_table(found: list[Record]) -> pd.DataFrame:
    """Return a row per run: rank, objectives, the settings that differ, accuracy, epochs, seconds, state, folder.

    Beside val_loss and val_accuracy stand their standard errors over the validation images, `val_loss_se` and
    `val_accuracy_se`. `content` tells the data set where there are several. Finished runs come first, best first;
    `rank` is empty for the others.
    """
    objectives = objectives_of(found)
    ranked = best_first(found, objectives[0])
    ranks = {id(record): rank for rank, record in enumerate(ranked, 1)}
    rest = [record for record in found if id(record) not in ranks]
    of_several = len({record.fingerprint for record in ranked}) > 1
    own = ("rank", "state", "folder", "note", *(["content"] if of_several else []))
    titles = distinct(objectives, own, "objective_")
    settings = distinct(differing_settings(found), (*own, *titles.values()), "params_")
    rows = []
    for record in ranked + rest:
        row: dict[str, Any] = {"rank": ranks.get(id(record))}
        for name, title in titles.items():
            row |= {f"{title}{end}": value for end, value in _measured(record, name).items()}
        row |= {title: record.used.get(name) for name, title in settings.items()}
        row |= {"content": (record.fingerprint or "")[:SHOWN]} if of_several else {}
        # An objective or a setting of the same name takes the place of what every run has.
        for end, value in _measured(record, "val_accuracy").items():
            row.setdefault(f"val_accuracy{end}", value)
        row.setdefault("epochs", record.metrics.get("epochs"))
        row.setdefault("seconds", record.value("run_seconds"))
        row |= {"state": record.state, "folder": str(record.run.folder), "note": record.note}
        rows.append(row)
    frame = pd.DataFrame(rows).astype({"rank": "Int64", "epochs": "Int64"})
    empty = [name for name in frame.columns if name.endswith("_se") and frame[name].isna().all()]
    return frame.drop(columns=empty if frame["note"].any() else [*empty, "note"])


def _measured(record: Record, name: str) -> dict[str, float | None]:
    """Return the value, and its standard error if it can have one, by the end of their columns' names."""
    found = {"": record.value(name)}
    return found | {"_se": standard_error(record, name)} if name in OVER_IMAGES else found


def join_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with each value and its standard error in one cell of text."""
    errors = [name for name in frame.columns if name.removesuffix("_se") in OVER_IMAGES and name.endswith("_se")]
    joined = frame.drop(columns=errors)
    for name in errors:
        pairs = zip(frame[name.removesuffix("_se")], frame[name], strict=True)
        joined[name.removesuffix("_se")] = ["" if _is_missing(v) else with_error(v, e) for v, e in pairs]
    return joined


def filter_runs(found: list[Record], expression: str) -> list[Record]:
    """Return the runs whose row of the table satisfies an expression, for example `optimizer == 'adamw'`.

    Raises:
        UserError: No expression, a column that is not there, or no run left.
    """
    frame = build_table(found)
    names = sorted(frame.columns, key=len, reverse=True)
    quoted = re.sub("|".join(rf"(?<![\w.]){re.escape(n)}(?![\w.])" for n in names), r"`\g<0>`", expression)
    try:
        kept = frame.eval(quoted, engine="python")
        if not (isinstance(kept, pd.Series) and pd.api.types.is_bool_dtype(kept)):
            raise ValueError("not true or false of each run; for example \"optimizer == 'adamw'\"")
        left = set(frame["folder"][kept])
    except Exception as error:  # pandas raises many kinds
        known = ", ".join(frame.columns)
        raise UserError(f"--filter {expression!r}: {str(error).splitlines()[0]}; columns: {known}") from error
    if not left:
        raise UserError(f"--filter {expression!r}: no run is left")
    return [record for record in found if str(record.run.folder) in left]


def sort_and_limit(frame: pd.DataFrame, sort: str | None, descending: bool, top: int | None) -> pd.DataFrame:
    """Sort a table by a column, keep its first rows.

    Raises:
        UserError: A column that is not there.
    """
    if sort:
        if sort not in frame.columns:
            known = ", ".join(frame.columns)
            raise UserError(f"--sort {sort}: no such column{closest(sort, frame.columns)}; choose from {known}")
        try:
            frame = frame.sort_values(sort, ascending=not descending, kind="stable")
        except TypeError:  # numbers beside words
            frame = frame.sort_values(sort, ascending=not descending, kind="stable", key=lambda column: column.map(str))
    return frame.head(top) if top else frame


def as_text(frame: pd.DataFrame) -> str:
    frame = join_errors(frame)
    shown = {
        name: [f"{value:.0f}" if name == "seconds" and pd.notna(value) else cell_text(value) for value in frame[name]]
        for name in frame.columns
    }
    return pd.DataFrame(shown).to_string(index=False, max_colwidth=60)


def as_csv(frame: pd.DataFrame) -> str:
    """Return the table as CSV, with full precision."""
    text = io.StringIO()
    frame = frame.map(no_formula).rename(columns=no_formula)
    frame.to_csv(text, index=False, quoting=csv.QUOTE_MINIMAL)
    return text.getvalue()


def cell_text(value: Any) -> str:
    """Return a cell for people: floats in five digits, no control characters, nothing for a missing value."""
    if _is_missing(value):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else printable(str(value))


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def states_of(found: list[Record]) -> list[str]:
    """Return how many runs are in each state, the most first."""
    return [f"{count} {state}" for state, count in Counter(record.state for record in found).most_common()]


# States that count as worse than any value. An unfinished run may still become the best.
WORST = ["pruned", "diverged", "failed"]


def differing_settings(records: list[Record]) -> list[str]:
    """Return the settings in which the records differ.

    Left out are those that only follow from a choice: model.filters where each option of `model`
    has one value and no command gave another.
    """
    values: dict[str, set[str]] = {}
    for record in records:
        for name, value in record.used.items():
            values.setdefault(name, set()).add(str(value))
    overridden = set().union(*(record.overrides for record in records)) if records else set()
    names = []
    for name, found in values.items():
        if len(found) < 2 or name.split(".")[0] in INCIDENTAL or name.endswith("_target_"):
            continue
        if name in overridden or not _follows(records, name):
            names.append(name)
    return sorted(names, key=lambda name: (name.split(".")[0] not in GROUPS, name))


def group_by_setting(found: list[Record], name: str) -> pd.DataFrame:
    """Return a row for each value of a setting, ordered by the mean rank of its runs, finished or not.

    Mean, standard deviation, best and count of the objective are of finished runs. Where one value's bad runs were
    pruned, and another's were not, only ranks compare the two. A column follows for each other state that occurs.

    Raises:
        UserError: No run has the setting.
    """
    known = {key for record in found for key in record.used}
    if name not in known:
        raise UserError(f"--group-by {name}: no run has this setting{closest(name, known)}")
    objective = objectives_of(found)[0]
    maximize = direction_of(found, objective) == "maximize"
    values = pd.Series([record.value(objective) if record.finished else None for record in found], dtype=float)
    states = pd.Series([record.state for record in found])
    settings = pd.Series([str(record.used.get(name)) for record in found], name=name)
    # A run that cannot be read has no settings. A finished run without a value had no validation images.
    kept = pd.Series([bool(record.settings) for record in found]) & (values.notna() | (states != "finished"))
    settings = settings[kept]
    groups = values.groupby(settings).agg(["mean", "std", "max" if maximize else "min", "count"])
    groups.columns = ["mean", "std", "best", "count"]
    worst = float("-inf" if maximize else "inf")
    groups["mean_rank"] = values.mask(states.isin(WORST), worst).rank(ascending=not maximize).groupby(settings).mean()
    for state in [*WORST, "unfinished"]:
        if ((states == state) & kept).any():
            groups[state] = (states == state).groupby(settings).sum()
    return groups.sort_values("mean_rank", kind="stable").reset_index()


def describe_columns(groups: pd.DataFrame, objective: str) -> str:
    """Return the line that says what the columns are of, and over which runs if some did not finish."""
    worst = [state for state in WORST if state in groups]
    unfinished = "unfinished" in groups
    only = ", over finished runs only" if worst or unfinished else ""
    last = f"; mean_rank is over all, {', '.join(worst)} last" if worst else ""
    running = "; unfinished runs do not count" if unfinished else ""
    return f"mean, std and best are of {objective}{only}{last}{running}"


def _follows(records: list[Record], name: str) -> bool:
    group = name.partition(".")[0]
    if group == name or group not in GROUPS:
        return False
    by_option: dict[Any, set[str]] = {}
    for record in records:
        if name in record.settings:
            by_option.setdefault(record.settings.get(group), set()).add(str(record.settings[name]))
    return all(len(values) == 1 for values in by_option.values())


def describe_mixture(found: list[Record]) -> list[str]:
    """Return lines that say which runs are ranked together though their values do not compare."""
    return _describe_data(found) + _describe_copies(found)


def _describe_data(found: list[Record]) -> list[str]:
    groups: dict[str, list[Record]] = {}
    for record in (record for record in found if record.finished):
        groups.setdefault(str(sorted(record.data.items())), []).append(record)
    if len(groups) < 2:
        return []
    every = [_settings(runs[0]) for runs in groups.values()]
    contents = {runs[0].fingerprint for runs in groups.values()}
    mix = "may mix" if None in contents else "mix"
    left_out = ("data",) if len(contents) == 1 and None not in contents else ()  # of copies, the paths do not matter
    names = sorted({name for settings in every for name in settings if not name.endswith("_target_")})
    names = [name for name in names if name.split(".")[0] not in left_out]
    differing = [name for name in names if len({str(settings.get(name)) for settings in every}) > 1]
    shown = []
    for runs in sorted(groups.values(), key=len, reverse=True)[:MOST_GROUPS]:
        settings = _settings(runs[0])
        values = " ".join(printable(f"{name}={settings[name]}") for name in differing if name in settings)
        shown.append(f"{counted(len(runs), 'run')} with {values or 'another version of the options'}")
    more = f", and {counted(len(groups) - MOST_GROUPS, 'more group')}" if len(groups) > MOST_GROUPS else ""
    return [f"the ranks {mix} values of different images: {', '.join(shown)}{more}; choose one group with --filter"]


def _settings(record: Record) -> dict[str, object]:
    """Return the settings of a run's data and split, apart from the fold, and what tells its data."""
    settings = {k: v for k, v in record.settings.items() if k.split(".")[0] in ("data", "split") and k not in REPEATED}
    return settings | {"content": record.fingerprint[:SHOWN] if record.fingerprint else "unknown"}


def _describe_copies(found: list[Record]) -> list[str]:
    copies = find_copies({record.run.folder.parent for record in found})
    return [
        printable(f"{os.path.relpath(copy)} is a copy of {os.path.relpath(original)}: its runs are listed twice")
        for copy, original in copies.items()
    ]
