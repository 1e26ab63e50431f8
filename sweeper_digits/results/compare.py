"""`compare`: runs side by side in a table, the best of them, and the command that repeats it."""

import argparse
import csv
import io
import json
import os
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra.errors import HydraException

from sweeper_digits import command_line, program, screen
from sweeper_digits.errors import UserError, closest
from sweeper_digits.results.mixture import describe_mixture
from sweeper_digits.results.statistics import (
    Configuration,
    describe_winner,
    format_value,
    group_repetitions,
    with_error,
)
from sweeper_digits.runs import recipe
from sweeper_digits.runs.noise import OVER_IMAGES, standard_error
from sweeper_digits.runs.origin import Origin, origin_of
from sweeper_digits.runs.record import Record, best_first, differing_settings, direction_of, find_runs, objectives_of

# A folder's name need not be text, and pyarrow, where it is installed, holds nothing else.
pd.set_option("mode.string_storage", "python")
ONE_ERROR = "one standard error over a run's validation images"


def main(arguments: argparse.Namespace) -> None:
    """Print the table, the best run and its command; write the report."""
    if (arguments.csv or arguments.json or arguments.group_by) and (arguments.promote or arguments.report):
        raise UserError("--csv, --json and --group-by print a table, nothing else; leave --promote and --report out")
    found = find_runs(arguments.paths)
    if arguments.filter:
        found = filter_runs(found, arguments.filter)
    frame = sort_and_limit(build_table(found), arguments.sort, arguments.descending, arguments.top)
    if arguments.csv or arguments.json:
        print((as_csv if arguments.csv else as_json)(frame), end="")
        return
    if arguments.group_by:
        print(as_text(group_by_setting(found, arguments.group_by)))
        _warn(found)
        return
    table = as_text(frame)
    print(table)
    if "±" in table:
        print(f"\n± is {ONE_ERROR}")
    _warn(found)
    objective = objectives_of(found)[0]
    groups = group_repetitions(found, objective)
    if not groups:
        print("\nno run has finished")
        return
    best = groups[0].runs[0]
    command = _command_of(best)
    verdicts = describe_winner(groups, objective)
    _show_best(groups[0], verdicts, objective)
    print("\nthe best again, and with another seed:\n" + textwrap.indent(command, "  "))
    if arguments.promote:
        file, flags = _promote(best, arguments.promote, arguments.force)
        again = program.command("train", *flags, f"experiment={arguments.promote}")
        print(f"\nwritten    {os.path.relpath(file)}: {again}")
    if not arguments.no_report:
        _report(arguments, found, command, verdicts)


def _warn(found: list[Record]) -> None:
    for line in describe_mixture(found):
        print(f"\nwarning    {line}")


def build_table(found: list[Record]) -> pd.DataFrame:
    """Return a row per run: rank, objectives, the settings that differ, accuracy, epochs, seconds, state, folder.

    Beside val_loss and val_accuracy stand their standard errors over the validation images, `val_loss_se` and
    `val_accuracy_se`. Finished runs come first, best first; `rank` is empty for the others.
    """
    objectives = objectives_of(found)
    ranked = best_first(found, objectives[0])
    ranks = {id(record): rank for rank, record in enumerate(ranked, 1)}
    rest = [record for record in found if id(record) not in ranks]
    settings = differing_settings(found)
    rows = []
    for record in ranked + rest:
        row: dict[str, Any] = {"rank": ranks.get(id(record))}
        for name in objectives:
            row |= _measured(record, name)
        row |= {name: record.settings.get(name) for name in settings}
        # An objective or a setting of the same name takes the place of what every run has.
        for name, value in _measured(record, "val_accuracy").items():
            row.setdefault(name, value)
        row.setdefault("epochs", record.metrics.get("epochs"))
        row.setdefault("seconds", record.value("run_seconds"))
        row |= {"state": record.state, "folder": str(record.run.folder), "note": record.note}
        rows.append(row)
    frame = pd.DataFrame(rows).astype({"rank": "Int64", "epochs": "Int64"})
    empty = [name for name in frame.columns if name.endswith("_se") and frame[name].isna().all()]
    return frame.drop(columns=empty if frame["note"].any() else [*empty, "note"])


def _measured(record: Record, name: str) -> dict[str, float | None]:
    found = {name: record.value(name)}
    return found | {f"{name}_se": standard_error(record, name)} if name in OVER_IMAGES else found


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


def group_by_setting(found: list[Record], name: str) -> pd.DataFrame:
    """Return mean, standard deviation, best and count of the objective for each value of a setting.

    Raises:
        UserError: No run has the setting.
    """
    known = {key for record in found for key in record.settings}
    if name not in known:
        raise UserError(f"--group-by {name}: no run has this setting{closest(name, known)}")
    objective = objectives_of(found)[0]
    values = [(str(r.settings.get(name)), r.value(objective)) for r in found if r.finished]
    frame = pd.DataFrame(values, columns=[name, objective]).dropna()
    maximize = direction_of(found, objective) == "maximize"
    groups = frame.groupby(name)[objective].agg(["mean", "std", "max" if maximize else "min", "count"])
    groups.columns = ["mean", "std", "best", "count"]
    return groups.sort_values("mean", ascending=not maximize).reset_index()


def as_text(frame: pd.DataFrame) -> str:
    """Return the table for a terminal."""
    frame = join_errors(frame)
    shown = {
        name: [f"{value:.0f}" if name == "seconds" and pd.notna(value) else cell_text(value) for value in frame[name]]
        for name in frame.columns
    }
    return pd.DataFrame(shown).to_string(index=False, max_colwidth=60)


def as_csv(frame: pd.DataFrame) -> str:
    """Return the table as CSV, with full precision."""
    text = io.StringIO()
    frame.to_csv(text, index=False, quoting=csv.QUOTE_MINIMAL)
    return text.getvalue()


def as_json(frame: pd.DataFrame) -> str:
    """Return the table as a JSON list of objects; an empty cell is null."""
    rows = [{k: None if _is_missing(v) else v for k, v in row.items()} for row in frame.to_dict("records")]
    return json.dumps(rows, indent=2, default=str) + "\n"


def cell_text(value: Any) -> str:
    """Return a cell for people: floats in five digits, no control characters, nothing for a missing value."""
    if _is_missing(value):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else screen.printable(str(value))


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _show_best(first: Configuration, verdicts: list[str], objective: str) -> None:
    print("\n".join(["", *verdicts]))
    if first.covers:
        print(f"best       {objective} {first.mean:.5g} ± {first.interval:.2g} (95 %, {first.covers})")
    else:
        print(f"best       {objective} {format_value(first.runs[0], objective)}")


def _composed_from(best: Record) -> tuple[Origin, recipe.Compose]:
    origin = origin_of(best.run.folder)
    return origin, recipe.composer(command_line.CONF, origin, screen.printable(str(best.run.folder)))


def _command_of(best: Record) -> str:
    """Return the commands that repeat a run, one a line, or why there are none."""
    again = f"from_run={recipe.override_text(os.path.relpath(best.run.folder))}"
    try:
        origin, compose = _composed_from(best)
        return f"{recipe.command_of(best, compose, origin)}\n{program.command('train', again, 'seed=1')}"
    except (UserError, HydraException) as error:  # of a run that is older than today's conf/
        return f"not with today's conf/: {str(error).splitlines()[0]}"


def _promote(best: Record, name: str, replace: bool) -> tuple[Path, list[str]]:
    """Write a run's recipe as an experiment; return its file and the flags with which Hydra finds it.

    It goes into the user's folder that the run was composed from, or into conf/ of a checkout. An installed package
    stays as it is: conf/ in the current folder is used.
    """
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise UserError(f"--promote {name}: it names an option; use letters, digits and '_'")
    origin, compose = _composed_from(best)
    experiment = recipe.experiment_of(best, compose)
    if not origin.paths and not program.is_checkout():
        origin = Origin((str(Path("conf").resolve()), *origin.folders), origin.name)
    folder = origin.paths[0] if origin.paths else command_line.CONF
    file = folder / "experiment" / f"{name}.yaml"
    if file.exists() and not replace:
        raise UserError(f"--promote {name}: {file} exists; choose another name, or add --force")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(experiment, encoding="utf-8")
    return file, origin.flags()


def _report(arguments: argparse.Namespace, found: list[Record], command: str, verdicts: list[str]) -> None:
    from sweeper_digits.results.report import write_report  # with Optuna and Plotly, which take seconds
    from sweeper_digits.sweep.study import known_distributions

    paths = arguments.paths
    folder = paths[0] if len(paths) == 1 else os.path.commonpath([Path(path).resolve() for path in paths])
    path = arguments.report or Path(folder) / "report.html"
    if path.is_dir():
        raise UserError(f"{path}: a folder; name a file, for example --report {path.parent / 'runs.html'}")
    names = {record.run.folder.resolve().parent.name for record in found}
    try:
        known = known_distributions(arguments.storage, names)
    except UserError as error:
        # What a driver says of a URL with a password may have the password in it, or pieces.
        reason = "--storage: the database cannot be read" if "@" in arguments.storage else error
        print(f"\nwarning    {reason}; the axes of the report are taken from the runs")
        known = {}
    write_report(path, found, command, verdicts, known)
    print(f"\nreport     {path}")
