"""`confirm`: the finalists of a sweep trained on seeds or folds that the search did not see."""

import argparse
import contextlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sweeper_digits import command_line, program
from sweeper_digits.data.dataset import load
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_text
from sweeper_digits.predict.images import change_since
from sweeper_digits.results.rows import configuration_row, difference_row, run_row
from sweeper_digits.runs import recipe
from sweeper_digits.runs.folder import replacing
from sweeper_digits.runs.judge import (
    ONE_ERROR,
    Configuration,
    format_value,
    group_repetitions,
    interval_text,
    judge_difference,
    mean_text,
)
from sweeper_digits.runs.record import direction_of, find_runs, objectives_of, saved_option
from sweeper_digits.text import as_json

# Exit status of a sweep that a person has stopped.
STOPPED = 130


def main(arguments: argparse.Namespace) -> None:
    """Train the finalists and print their ranking; exit with the status of a sweep that failed."""
    finalists = find_finalists(arguments.sweep, arguments.top)
    objective = objectives_of([record for group in finalists for record in group.runs])[0]
    for group in finalists:  # raises for one that cannot be repeated, before anything is trained
        recipe.recipe_of_folder(group.runs[0].run.folder, recipe.composer(command_line.CONF), arguments.overrides)
    points = plan_points(finalists, arguments.seeds, arguments.folds)
    for note in dict.fromkeys(map(_change_since, finalists)):
        print(note, end="", file=sys.stderr if arguments.json else sys.stdout, flush=True)
    with _on_stderr() if arguments.json else contextlib.nullcontext():
        folder, status = train_points(arguments.sweep, points, arguments.n_jobs, arguments.overrides)
    if status == STOPPED:  # the sweep has named its own command, which does not rank
        again = program.same_command(sys.orig_argv[1:])
        print(f"\nthis command continues, and ranks the finalists:\n  {again}", file=sys.stderr)
    if status:
        sys.exit(status)
    groups = group_points(folder, points, objective)
    if arguments.json:
        print(as_json(document_of(groups, finalists, objective)), end="")
    else:
        print("\n" + "\n".join(rank_finalists(groups, finalists, objective)))


def find_finalists(sweep: Path, top: int) -> list[Configuration]:
    """Return the best configurations of a sweep, best first.

    Raises:
        UserError: Nothing finished there.
    """
    found = find_runs([sweep])
    best = group_repetitions(found, objectives_of(found)[0])[:top]
    if not best:
        raise UserError(f"{sweep}: no finished run in it")
    return best


def plan_points(finalists: list[Configuration], seeds: int | None, folds: int | None) -> list[dict[str, object]]:
    """Return the settings of the runs to train: each finalist on new seeds, or once on all folds.

    The seed of the search is left out: the finalist was chosen for its value there. Where the search had each fold as a
    run, every seed is trained on every fold that it had of this data: each finalist's best run is on its easiest fold,
    and finalists on different folds do not compare.
    """
    searched: dict[str, set[int]] = {}
    for group in finalists:
        chosen = {record.settings.get("split.fold") for record in group.runs}
        searched.setdefault(group.data, set()).update(fold for fold in chosen if isinstance(fold, int))
    points: list[dict[str, object]] = []
    for group in finalists:
        run = os.path.relpath(group.runs[0].run.folder)
        if folds:
            points.append({"from_run": run, "split": "kfold", "split.folds": folds})
            continue
        used = {record.settings.get("seed") for record in group.runs}
        fresh = islice((seed for seed in count(1) if seed not in used), seeds or 0)
        by_fold = group.runs[0].settings.get("split.fold") is not None
        places = [{"split.fold": fold} for fold in sorted(searched[group.data])] if by_fold else [{}]
        points += [{"from_run": run, "seed": seed} | place for seed in fresh for place in places]
    return points


def train_points(sweep: Path, points: list[dict[str, object]], n_jobs: int, overrides: list[str]) -> tuple[Path, int]:
    """Train the points that are missing, in a sweep of its own beside the first; return its folder and exit status."""
    name = f"{sweep.resolve().name}_confirm"
    folder = sweep.parent / name
    file = folder / "points.yaml"
    with replacing(file) as temporary:
        OmegaConf.save(OmegaConf.create(points), temporary)
    objectives = objectives_of(find_runs([sweep]))
    command = [
        *(sys.executable, "-m", "sweeper_digits", "train", "--multirun"),
        *(
            f"study={override_text(name)}",
            f"hydra.sweep.dir={override_text(str(folder))}",
            f"search.points={override_text(str(file))}",
        ),
        f"objective={override_text(objectives)}",
        *(f"hydra.sweeper.n_jobs={n_jobs}", f"hydra.sweeper.keep_models={len(points)}", "hydra/sweeper/pruner=none"),
        *overrides,
    ]
    return folder, _passing_signals_on(command)


def _passing_signals_on(command: list[str]) -> int:
    """Run a command to its end and return its exit status; pass Ctrl-C and SIGTERM on to it.

    The command has a process group of its own, so that a terminal does not interrupt it a second time.
    """
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]  # set by nohup
    with subprocess.Popen(command, env=program.importable(dict(os.environ)), process_group=0) as process:
        before = {number: signal.signal(number, lambda n, _: process.send_signal(n)) for number in numbers}
        try:
            return process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _on_stderr() -> Iterator[None]:
    sys.stdout.flush()
    screen = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(screen, 1)
        os.close(screen)


def group_points(folder: Path, points: list[dict[str, object]], objective: str) -> list[Configuration]:
    """Return the finalists as they were trained again, best mean first.

    Only runs at these points count: the folds of an earlier call are not mixed with seeds.
    """
    found = [
        record
        for record in find_runs([folder])
        if any(all(record.settings.get(name) == value for name, value in point.items()) for point in points)
    ]
    return group_repetitions(found, objective)


def document_of(groups: list[Configuration], finalists: list[Configuration], objective: str) -> dict[str, Any]:
    """Return what `--json` prints: each finalist on the new seeds or folds, best first, and in the search.

    Args:
        groups: The finalists as they were trained again.
        finalists: As the search had them.
        objective: What they are ranked by.
    """
    rows = []
    for rank, group in enumerate(groups, 1):
        difference = judge_difference(groups[0], group, objective, len(groups) - 1) if rank > 1 else None
        row = {"rank": rank} | configuration_row(group, objective) | difference_row(difference)
        rows.append(row | {"search": run_row(_origin(group, finalists).runs[0], objective)})
    direction = direction_of([record for group in groups for record in group.runs], objective)
    warnings = compare_data(groups, finalists)
    return {"objective": objective, "direction": direction, "finalists": rows, "warnings": warnings}


def _change_since(finalist: Configuration) -> str:
    """Return a line that says how the data changed since the search; "" if it is the same, or cannot be read here."""
    record = finalist.runs[0]
    if "data.path" not in record.settings:  # what another source gives may need Keras
        return ""
    try:
        change = change_since(record, load(saved_option(record, "data")))
    except (UserError, OSError):  # the trainings tell the cause
        return ""
    return change and f"warning    {change}; the finalists are trained on what it is now\n"


def compare_data(groups: list[Configuration], finalists: list[Configuration]) -> list[str]:
    """Return the lines that say that the search had other images or other code, or that nobody knows.

    Args:
        groups: The finalists as they were trained again.
        finalists: As the search had them.
    """
    pairs = {(_origin(group, finalists).runs[0].fingerprint, group.runs[0].fingerprint) for group in groups}
    if any(None in pair for pair in pairs):
        return ["it is not known whether the search read the same data: the runs do not say"]
    changed = any(before != now for before, now in pairs)
    codes = [[one.runs[0].used.get("code") for one in (_origin(group, finalists), group)] for group in groups]
    lines = ["the data changed since the search: its values are of other images than these"] if changed else []
    if any(before != now for before, now in codes):
        lines.append("your code changed since the search: its values are of other code than these")
    return lines


def _origin(group: Configuration, finalists: list[Configuration]) -> Configuration:
    """Return a finalist as the search had it."""
    by_run = {os.path.relpath(one.runs[0].run.folder): one for one in finalists}
    return by_run[str(group.runs[0].settings["from_run"])]


def rank_finalists(groups: list[Configuration], finalists: list[Configuration], objective: str) -> list[str]:
    """Return the lines of the result: mean and interval of each finalist, and which differences are noise."""
    lines = [f"rank  {objective + ', mean':20s} {'interval':24s} n   {'in the search':28s} run"]
    for rank, group in enumerate(groups, 1):
        origin = _origin(group, finalists)
        first = "" if rank == 1 else _verdict(groups[0], group, objective, len(groups) - 1)
        interval = "" if math.isnan(group.interval) else interval_text(group.mean, group.interval)
        lines.append(
            f"{rank:4d}  {mean_text(group, objective):20s} {interval:24s} {len(group.samples):<3d} "
            f"{format_value(origin.runs[0], objective):28s} {origin.runs[0].run.folder}  {first}"
        )
    covers = sorted({f"95 % intervals: {group.covers}" for group in groups if group.covers})
    error = [f"± is {ONE_ERROR}"] if "±" in "".join(lines) else []
    together = [f"worse than the first: 95 % for all {len(groups) - 1} comparisons together"] if len(groups) > 2 else []
    warnings = [f"warning    {text}" for text in compare_data(groups, finalists)]
    return [*lines, *error, *covers, *together, *warnings]


def _verdict(first: Configuration, other: Configuration, objective: str, comparisons: int) -> str:
    found = judge_difference(first, other, objective, comparisons)
    return {True: "worse", False: "not told apart from the first", None: found.text}[found.differ]
