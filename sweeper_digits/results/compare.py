"""`compare`: runs side by side in a table, the best of them, and the command that repeats it."""

import argparse
import os
import textwrap
from pathlib import Path

from sweeper_digits import program
from sweeper_digits.errors import UserError
from sweeper_digits.results.repeat import command_of, promote
from sweeper_digits.results.rows import verdict_of
from sweeper_digits.results.table import (
    as_csv,
    as_text,
    build_table,
    describe_columns,
    describe_mixture,
    filter_runs,
    group_by_setting,
    sort_and_limit,
    states_of,
)
from sweeper_digits.results.watch import watch
from sweeper_digits.runs.judge import (
    ONE_ERROR,
    Configuration,
    Winner,
    describe_mean,
    group_repetitions,
    judge_winner,
)
from sweeper_digits.runs.record import Record, find_runs, objectives_of
from sweeper_digits.text import as_json

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

    known = {}
    try:
        known = known_distributions(arguments.storage, {record.run.folder.resolve().parent for record in found})
    except UserError as error:
        # What a driver says of a URL with a password may have the password in it, or pieces.
        reason = "--storage: the database cannot be read" if "@" in (arguments.storage or "") else error
        print(f"\nwarning    {reason}; the axes of the report are taken from the runs")
    steps = next_steps(arguments.paths, bool(arguments.filter), found, groups, winner, arguments.storage)
    write_report(path, found, winner, steps, known, live)
