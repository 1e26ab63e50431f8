"""A sweep on the screen: rows of the trials that have ended, and a table of those that run."""

import logging
import math
from collections.abc import Iterable, Sequence

from optuna.trial import FrozenTrial, TrialState
from rich.table import Table
from rich.text import Text

from sweeper_digits.live import ROW, Region, bar
from sweeper_digits.screen import brief, counted, minutes, printable
from sweeper_digits.sweep.budget import EPOCHS
from sweeper_digits.sweep.finite import Point
from sweeper_digits.sweep.trials import STANDARD_ERROR, error_of, is_cut_off
from sweeper_digits.sweep.view import Running, View, point_of, short_names

log = logging.getLogger(__name__)

# Columns of a terminal from which a column of the table is shown.
SHOWN_FROM = {"worker": 100, "loss": 90, "rank": 60, "images/s": 76, "parameters": 60}
BAR_FROM, BAR_WIDTH = 70, 10
# Lines of a terminal that the table leaves for what stands below it and above it.
OTHER_LINES = 7
# Characters of a value that are shown.
LONGEST_VALUE = 80


def row(trial: FrozenTrial, objectives: Sequence[str], names: Iterable[str], is_best: bool) -> str:
    """Return the line of a trial that has ended, its parameters last.

    Args:
        trial: The trial.
        objectives: Their names.
        names: All parameters of the study, among which a short name must be unambiguous.
        is_best: Whether it is the best so far.
    """
    if trial.state == TrialState.FAIL:
        what = "cut off" if is_cut_off(trial) else "failed "
        return f"#{trial.number:<4d} {what} {error_of(trial)}"
    what = "pruned"
    if trial.state == TrialState.COMPLETE:
        pairs = zip(objectives, trial.values, strict=True)
        what = "  ".join(f"{name} {value_text(value, trial)}" for name, value in pairs)
    epochs = counted(int(trial.user_attrs.get(EPOCHS, len(trial.intermediate_values))), "epoch")
    took = f"{trial.duration.total_seconds():,.0f} s" if trial.duration else ""
    best = "best" if is_best else ""
    width = len(f"{objectives[0]} {0.123456:.5g} ± {0.0012:.2g}")
    return (
        f"#{trial.number:<4d} {what:{width}s} {epochs:>10s} {took:>7s}  {best:4s}  {point_text(trial, names)}".rstrip()
    )


def value_text(value: float, trial: FrozenTrial) -> str:
    """Write the value of a complete trial, with its standard error where that is known."""
    error = trial.user_attrs.get(STANDARD_ERROR)
    return f"{value:.5g}" if error is None else f"{value:.5g} ± {error:.2g}"


def point_text(trial: FrozenTrial, names: Iterable[str]) -> str:
    """Write the parameters of a trial."""
    return _written(point_of(trial), names)


def _written(point: Point, names: Iterable[str]) -> str:
    short = short_names({*names, *point})
    return printable(" ".join(f"{short[name]}={brief(value):.{LONGEST_VALUE}}" for name, value in point.items()))


def summary(view: View) -> list[str]:
    """Return the lines below the table: the totals, what is left of the budget, and the best trial."""
    states = view.states
    done = states[TrialState.COMPLETE] + states[TrialState.PRUNED]
    of_all = f"/{view.used['n_trials'][1]:,.0f}" if "n_trials" in view.used else ""
    parts = [f"{done:,}{of_all} done"]
    failed = states[TrialState.FAIL] - view.cut_off - view.foreign
    counted_as = {"pruned": states[TrialState.PRUNED], "failed": failed, "cut off": view.cut_off}
    counted_as |= {"running": states[TrialState.RUNNING], "waiting": states[TrialState.WAITING]}
    counted_as |= {"of another program": view.foreign}
    parts += [f"{number:,} {word}" for word, number in counted_as.items() if number]
    if "timeout" in view.used:
        used, limit = view.used["timeout"]
        parts.append(f"{minutes(used)} of {minutes(limit)} minutes")
    if "n_epochs" in view.used:
        used, limit = view.used["n_epochs"]
        parts.append(f"{used:,.0f} of {counted(int(limit), 'epoch')}")
    if math.isfinite(view.seconds_left):
        parts.append(f"{minutes(view.seconds_left)} left")
    lines = [", ".join(parts)]
    if view.best is not None:
        value = value_text(view.best.values[0], view.best)
        point = point_text(view.best, view.names)
        lines.append(f"best #{view.best.number}: {view.objectives[0]} {value}  {point}")
    if view.front:
        lines.append(f"Pareto front of {counted(len(view.front), 'trial')}: {', '.join(f'#{n}' for n in view.front)}")
    return lines


def table(view: View, width: int, height: int) -> Table:
    """Return the trials that run, a row for each, and the summary below.

    Args:
        view: The sweep.
        width: Of the terminal, in columns.
        height: Of the terminal, in lines; trials that have no room are counted.
    """
    metric = "val_accuracy" if view.objectives == ["val_accuracy"] else "val_loss"
    titles = ["trial", "worker", "epoch", "loss", metric, "rank", "images/s", "parameters"]
    titles = [title for title in titles if width >= SHOWN_FROM.get(title, 0)]
    inner = Table(box=None, pad_edge=False, header_style="dim", width=width if "parameters" in titles else None)
    for title in titles:
        last = title == "parameters"
        right = title in ("loss", metric, "images/s")
        inner.add_column(
            title, justify="right" if right else "left", no_wrap=True, overflow="ellipsis", ratio=1 if last else None
        )
    room = max(1, height - OTHER_LINES)
    hosts = {one.worker.partition("/")[0] for one in view.running if one.worker}
    for one in view.running[:room]:
        cells = _cells(one, metric, view, len(hosts) > 1, width)
        inner.add_row(*(cells[title] for title in titles))
    grid = Table.grid()
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=width)
    if view.running:
        grid.add_row(inner)
    if len(view.running) > room:
        grid.add_row(Text(f"and {len(view.running) - room} more", style="dim"))
    for line in summary(view):
        grid.add_row(Text(line))
    return grid


def show(view: View, region: Region | None) -> None:
    """Log the trials that have ended since the last look, and draw the table where there is a terminal."""
    for trial in view.ended:
        is_best = view.best is not None and view.best.number == trial.number
        log.info("%s", row(trial, view.objectives, view.names, is_best), extra=ROW)
    if region:
        region.update(table(view, *region.size))


def _cells(one: Running, metric: str, view: View, with_host: bool, width: int) -> dict[str, str | Text]:
    """Return the cells of a trial that runs, by the title of the column."""
    number = one.worker.partition("/")[2]
    worker = printable(one.worker if with_host or not number else number)
    value = one.measured.get(metric)
    shown = Text("" if value is None else f"{value:.5g}")
    if one.bar is not None and value is not None and view.objectives == [metric]:
        better = value > one.bar if metric == "val_accuracy" else value < one.bar
        shown.stylize("green" if better else "yellow")
    rank = "" if one.rank is None else f"{one.rank}/{one.of}"
    rank += "" if one.bar is None else f" bar {one.bar:.4g}"
    varied = {name: value for name, value in one.point.items() if name in view.varied or not view.varied}
    return {
        "trial": f"#{one.number}",
        "worker": Text(worker),
        "epoch": _bar(one, width),
        "loss": _number(one.measured.get("loss"), ".5g"),
        metric: shown,
        "rank": rank,
        "images/s": _number(one.measured.get("images_per_second"), ",.0f"),
        "parameters": Text(_written(varied, view.names)),
    }


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _bar(one: Running, width: int) -> Text:
    """Return how far a trial is, as a bar where there is room, and in numbers."""
    if not one.epochs:
        return Text("starts", style="dim")
    numbers = f"{one.epoch}/{one.epochs}"
    if width < BAR_FROM:
        return Text(numbers)
    return Text.assemble(bar(one.epoch / one.epochs, BAR_WIDTH), f" {numbers}")
