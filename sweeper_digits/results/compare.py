"""`compare`: runs side by side in a table, the best of them, and the command that repeats it."""

import argparse
import csv
import io
import os
import re
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sweeper_digits import program, screen
from sweeper_digits.errors import UserError, closest
from sweeper_digits.results.document import as_json
from sweeper_digits.results.grouping import describe_columns, differing_settings, group_by_setting
from sweeper_digits.results.mixture import SHOWN, describe_mixture
from sweeper_digits.results.repeat import command_of, promote
from sweeper_digits.results.repetitions import Configuration, describe_mean, group_repetitions, with_error
from sweeper_digits.results.rows import verdict_of
from sweeper_digits.results.statistics import Winner, judge_winner
from sweeper_digits.results.watch import watch
from sweeper_digits.runs.noise import ONE_ERROR, OVER_IMAGES, standard_error
from sweeper_digits.runs.record import Record, best_first, find_runs, objectives_of
from sweeper_digits.schema import distinct

# A folder's name need not be text, and pyarrow, where it is installed, holds nothing else.
pd.set_option("mode.string_storage", "python")
# What --watch does not do.
UNWATCHED = ["csv", "json", "group_by", "verdict", "sort", "descending", "top", "promote", "force", "no_report"]


def main(arguments: argparse.Namespace) -> None:
    """Print the table, the best run and its command; write the report."""
    _check(arguments)
    if arguments.watch:
        path = report_file(arguments)
        watch(arguments.paths, path, lambda live: _rewrite(arguments, path, live))
    found = _find(arguments)
    objective = objectives_of(found)[0]
    groups = group_repetitions(found, objective)
    if arguments.verdict and arguments.json:
        commands = command_of(groups[0].runs[0]).splitlines() if groups else []
        print(as_json(verdict_of(found, groups, objective) | {"commands": commands}), end="")
        return
    if not arguments.verdict and not _print_table(arguments, found):
        return
    _warn(found)
    if not groups:
        print("\nno run has finished")
        return
    best = groups[0].runs[0]
    winner = judge_winner(groups, objective)
    print("\n".join(["", *winner.lines, f"best       {objective} {describe_mean(groups[0], objective)}"]))
    print("\nthe best again, and with another seed:\n" + textwrap.indent(command_of(best), "  "))
    if arguments.promote:
        file, flags = promote(best, arguments.promote, arguments.force)
        again = program.command("train", *flags, f"experiment={arguments.promote}")
        print(f"\nwritten    {os.path.relpath(file)}: {again}")
    if not (arguments.no_report or arguments.verdict):
        path = report_file(arguments)
        _report(arguments, path, found, groups, winner)
        print(f"\nreport     {path}")


def _check(arguments: argparse.Namespace) -> None:
    if arguments.watch and (
        others := [f"--{name.replace('_', '-')}" for name in UNWATCHED if getattr(arguments, name)]
    ):
        raise UserError(f"--watch rewrites the report, nothing else; leave {' and '.join(others)} out")
    alone = arguments.csv or arguments.json or arguments.group_by or arguments.verdict
    if alone and (arguments.promote or arguments.report):
        raise UserError("--csv, --json, --group-by and --verdict print, nothing else; leave --promote and --report out")
    if arguments.verdict and arguments.csv:
        raise UserError("--verdict --csv: a verdict is no table; use --json")


def _find(arguments: argparse.Namespace) -> list[Record]:
    found = find_runs(arguments.paths)
    return filter_runs(found, arguments.filter) if arguments.filter else found


def _rewrite(arguments: argparse.Namespace, path: Path, live: bool) -> str:
    """Write the report anew, if a run has finished; return what there is, in a line."""
    found = _find(arguments)
    objective = objectives_of(found)[0]
    states = ", ".join(states_of(found))
    if not (groups := group_repetitions(found, objective)):
        return f"{states}; no run has finished"
    _report(arguments, path, found, groups, judge_winner(groups, objective), live)
    return f"{states}; best {objective} {describe_mean(groups[0], objective)}"


def _print_table(arguments: argparse.Namespace, found: list[Record]) -> bool:
    """Print the table; return whether more is to be printed."""
    if arguments.group_by:
        frame = group_by_setting(found, arguments.group_by)
    else:
        frame = build_table(found)
    frame = sort_and_limit(frame, arguments.sort, arguments.descending, arguments.top)
    if arguments.csv or arguments.json:
        print(
            as_csv(frame)
            if arguments.csv
            else as_json(frame.astype(object).where(frame.notna(), None).to_dict("records")),
            end="",
        )
        return False
    table = as_text(frame)
    print(table)
    if "±" in table:
        print(f"\n± is {ONE_ERROR}")
    if arguments.group_by:
        print(f"\n{describe_columns(frame, objectives_of(found)[0])}")
        _warn(found)
    return not arguments.group_by


def _warn(found: list[Record]) -> None:
    for line in describe_mixture(found):
        print(f"\nwarning    {line}")


def build_table(found: list[Record]) -> pd.DataFrame:
    """Return a row per run: rank, objectives, the settings that differ, accuracy, epochs, seconds, state, folder.

    Beside val_loss and val_accuracy stand their standard errors over the validation images, `val_loss_se` and
    `val_accuracy_se`. Of runs on several data sets, `content` tells which. Finished runs come first, best first; `rank`
    is empty for the others.
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
            row |= {f"{title}{what}": value for what, value in _measured(record, name).items()}
        row |= {title: record.used.get(name) for name, title in settings.items()}
        row |= {"content": (record.fingerprint or "")[:SHOWN]} if of_several else {}
        # An objective or a setting of the same name takes the place of what every run has.
        for what, value in _measured(record, "val_accuracy").items():
            row.setdefault(f"val_accuracy{what}", value)
        row.setdefault("epochs", record.metrics.get("epochs"))
        row.setdefault("seconds", record.value("run_seconds"))
        row |= {"state": record.state, "folder": str(record.run.folder), "note": record.note}
        rows.append(row)
    frame = pd.DataFrame(rows).astype({"rank": "Int64", "epochs": "Int64"})
    empty = [name for name in frame.columns if name.endswith("_se") and frame[name].isna().all()]
    return frame.drop(columns=empty if frame["note"].any() else [*empty, "note"])


def _measured(record: Record, name: str) -> dict[str, float | None]:
    """Return the value, and its standard error where there can be one, by the end of the name of their columns."""
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
    frame = frame.map(screen.no_formula).rename(columns=screen.no_formula)
    frame.to_csv(text, index=False, quoting=csv.QUOTE_MINIMAL)
    return text.getvalue()


def cell_text(value: Any) -> str:
    """Return a cell for people: floats in five digits, no control characters, nothing for a missing value."""
    if _is_missing(value):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else screen.printable(str(value))


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def states_of(found: list[Record]) -> list[str]:
    """Return how many runs are in each state, the most first."""
    return [f"{count} {state}" for state, count in Counter(record.state for record in found).most_common()]


def report_file(arguments: argparse.Namespace) -> Path:
    """Return where the report goes.

    Raises:
        UserError: A folder.
    """
    paths = arguments.paths
    folder = paths[0] if len(paths) == 1 else os.path.commonpath([Path(path).resolve() for path in paths])
    path: Path = arguments.report or Path(folder) / "report.html"
    if path.is_dir():
        raise UserError(f"{path}: a folder; name a file, for example --report {path.parent / 'runs.html'}")
    return path


def _report(
    arguments: argparse.Namespace,
    path: Path,
    found: list[Record],
    groups: list[Configuration],
    winner: Winner,
    live: bool = False,
) -> None:
    from sweeper_digits.results.report import write_report  # with Optuna and Plotly, which take seconds
    from sweeper_digits.results.steps import next_steps
    from sweeper_digits.sweep.study import known_distributions

    names = {record.run.folder.resolve().parent.name for record in found}
    storage, known = arguments.storage, {}
    try:
        known = known_distributions(storage, names)
    except UserError as error:
        # What a driver says of a URL with a password may have the password in it, or pieces.
        reason = "--storage: the database cannot be read" if "@" in storage else error
        print(f"\nwarning    {reason}; the axes of the report are taken from the runs")
        storage = None
    steps = next_steps(arguments.paths, bool(arguments.filter), found, groups, winner, storage)
    write_report(path, found, winner, steps, known, live)
