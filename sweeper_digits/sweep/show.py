"""The screen of a sweep: a look at its study, the rows and the table, the summary at its end."""

import functools
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table
from rich.text import Text

from sweeper_digits import program, text
from sweeper_digits.live import ROW, Region, bar
from sweeper_digits.runs.judge import describe_noise, standard_error
from sweeper_digits.runs.record import read_metrics_alone, read_run
from sweeper_digits.sweep import dashboard
from sweeper_digits.sweep.budget import (
    Budget,
    SupervisorHeartbeat,
    epochs_of,
    is_supervised,
    last_watched,
    watched_seconds,
)
from sweeper_digits.sweep.choose_pruner import scouts_of, why_unpruned
from sweeper_digits.sweep.points import Point
from sweeper_digits.sweep.pruning import PeerPruner, best_so_far, sign_of
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.record import (
    DONE,
    PROGRESS_KEYS,
    TrialRecord,
    best_trials,
    counts,
    failures,
    trials_of,
    tried_points,
)
from sweeper_digits.sweep.results_file import write_results as _write_results
from sweeper_digits.sweep.space import MOST_ENUMERATED, Sweep
from sweeper_digits.text import brief, counted, minutes, printable
from sweeper_digits.url import without_password


@dataclass(frozen=True)
class Running:
    """A trial that runs.

    Attributes:
        number: The number of the trial.
        worker: `host/number` of a worker process, `host` of a job, or empty before the trial has begun.
        epoch: Epochs that have ended.
        epochs: Planned epochs, over all folds; None before the first has ended.
        measured: What the last epoch measured: `loss`, `val_loss`, `images_per_second`.
        rank: Place among all trials at the same epoch by their best values so far, from 1; None where it is not known.
        of: Number of these trials.
        bar: The worst value that the pruner lets go on at this epoch; None where the pruner has none.
        point: Values by parameter.
    """

    number: int
    worker: str
    epoch: int
    epochs: int | None
    measured: dict[str, float]
    rank: int | None
    of: int
    bar: float | None
    point: Point


@dataclass(frozen=True)
class View:
    """A sweep at one moment.

    Attributes:
        objectives: Their names.
        states: How many trials are in each state.
        running: The trials that run, by number.
        ended: Trials that have ended since the look before, in the order in which they ended.
        cut_off: How many of the failed trials were cut off; others continue these.
        foreign: How many of the failed trials another program ran.
        best: The best complete trial; None with several objectives, without one, or if values do not compare.
        front: Numbers of the Pareto front; none with one objective, or if values do not compare.
        names: All parameters that a trial has.
        varied: Parameters of which two trials have different values.
        used: For each part of the budget, by key of hydra.sweeper: how much is used, and how much there is.
        seconds_left: Until the budget is used up at the pace so far; infinity where nothing tells.
    """

    objectives: list[str]
    states: Counter[TrialState]
    running: list[Running]
    ended: list[FrozenTrial]
    cut_off: int
    foreign: int
    best: FrozenTrial | None
    front: list[int]
    names: list[str]
    varied: set[str]
    used: dict[str, tuple[float, float]]
    seconds_left: float


@dataclass
class StudyReader:
    """Looks at a study again and again, and reads of each ended trial only once.

    Args:
        queue: The queue of the study.
        is_enumerated: Whether each point of the space is tried once.
    """

    queue: Queue
    is_enumerated: bool
    best: FrozenTrial | None = None
    cut_off: int = 0
    foreign: int = 0
    front: list[int] = field(default_factory=list)
    settled: int = 0  # so many trials, the first ones, have ended
    ended: set[int] = field(default_factory=set)  # of the later ones
    states: Counter[TrialState] = field(default_factory=Counter)  # of all that have ended
    values: dict[str, Any] = field(default_factory=dict)  # by parameter, of the first trial that has it
    varied: set[str] = field(default_factory=set)
    # By step: the best values so far of the trials that have ended.
    peers: dict[int, list[float]] = field(default_factory=dict)

    @functools.cached_property
    def compares(self) -> bool:
        """Return whether the trials validate on the same images."""
        return not self.queue.shared.other_images()

    def look(self) -> View:
        """Return what the study says now."""
        study, trials = self.queue.study, trials_of(self.queue.study)
        later = trials[self.settled :]
        new = [trial for trial in later if trial.state.is_finished() and trial.number not in self.ended]
        for trial in new:
            self._end(trial)
        while self.settled in self.ended:
            self.ended.remove(self.settled)
            self.settled += 1
        going_on = [trial for trial in later if not trial.state.is_finished()]
        running = [trial for trial in going_on if trial.state == TrialState.RUNNING]
        for trial in running:
            self._note(point_of(trial))
        if len(study.directions) > 1 and new and self.compares:
            self.front = [trial.number for trial in study.best_trials]
        used, left = self._budget(trials)
        return View(
            objectives=objectives_of(study),
            states=self.states + Counter(trial.state for trial in going_on),
            running=[self._running(trial, running) for trial in running],
            ended=sorted(new, key=lambda trial: (trial.datetime_complete, trial.number)),
            cut_off=self.cut_off,
            foreign=self.foreign,
            best=self.best,
            front=self.front,
            names=list(self.values),
            varied=self.varied,
            used=used,
            seconds_left=left,
        )

    def _end(self, trial: FrozenTrial) -> None:
        self.ended.add(trial.number)
        self.states[trial.state] += 1
        self.cut_off += trial.state == TrialState.FAIL and TrialRecord(trial).is_cut_off
        self.foreign += bool(TrialRecord(trial).foreign)
        self._note(point_of(trial))
        study = self.queue.study
        if trial.state == TrialState.COMPLETE and len(study.directions) == 1 and self.compares:
            sign = sign_of(study)
            if self.best is None or sign * trial.values[0] < sign * self.best.values[0]:
                self.best = trial
        if trial.state in DONE:
            for step, value in _best_by_step(trial, sign_of(study)):
                self.peers.setdefault(step, []).append(value)

    def _note(self, point: Point) -> None:
        for name, value in point.items():
            if self.values.setdefault(name, value) != value:
                self.varied.add(name)

    def _running(self, trial: FrozenTrial, running: list[FrozenTrial]) -> Running:
        told, rank, bar, others = TrialRecord(trial).progress or {}, None, None, np.zeros(0)
        if trial.last_step is not None and self.compares:
            sign, step = sign_of(self.queue.study), trial.last_step
            beside = [one for one in running if one.number != trial.number and step in one.intermediate_values]
            others = np.array(self.peers.get(step, []) + [best_so_far(one, sign, last=step) for one in beside])
            rank = int(np.sum(others < best_so_far(trial, sign))) + 1
            if isinstance(pruner := self.queue.study.pruner, PeerPruner) and (found := pruner.bar(others)) is not None:
                bar = sign * found
        return Running(
            number=trial.number,
            worker=str(told.get("worker", "")),
            epoch=int(told.get("epoch", len(trial.intermediate_values))),
            epochs=told.get("epochs"),
            measured={name: float(value) for name, value in told.items() if name not in PROGRESS_KEYS},
            rank=rank,
            of=len(others) + 1,
            bar=bar,
            point=point_of(trial),
        )

    def _budget(self, trials: list[FrozenTrial]) -> tuple[dict[str, tuple[float, float]], float]:
        """Return how much of the budget is used, and in how many seconds the sweep ends at its pace so far."""
        study = self.queue.study
        budget = self.queue.shared.budget()
        if self.is_enumerated:
            budget = Budget(tried_points(trials), budget.timeout, budget.n_epochs)
        watched = watched_seconds(study)
        if runs := is_supervised(study):  # it writes its time each few seconds only
            watched += max(0.0, time.time() - (last_watched(study) or 0.0))
        used = budget.used(study, trials)
        if budget.timeout is not None:
            used["timeout"] = watched, budget.timeout
        done = sum(self.states[state] for state in DONE)
        if watched <= 0 or not runs:
            return used, math.inf
        epochs = sum(epochs_of(trials)) if budget.n_epochs is not None else 0
        rates = {"n_trials": done / watched, "n_epochs": epochs / watched}
        return used, budget.seconds_left(study, trials, rates)


def objectives_of(study: optuna.Study) -> list[str]:
    """Return the names of the objectives of a study, as a person is to see them."""
    return list(map(printable, study.metric_names or ["objective"]))


def point_of(trial: FrozenTrial) -> Point:
    """Return the values of a trial by parameter, or those of its listed point."""
    return dict(trial.params or TrialRecord(trial).listed or {})


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return each parameter's name without its group where the rest is the name of no other parameter."""
    names = list(names)
    ends = Counter(name.rpartition(".")[2] for name in names)
    return {name: end if ends[end := name.rpartition(".")[2]] == 1 else name for name in names}


def _best_by_step(trial: FrozenTrial, sign: float) -> list[tuple[int, float]]:
    """Return, for each step that a trial has reported, its best value so far times the sign."""
    best, found = math.inf, []
    for step, value in sorted(trial.intermediate_values.items()):
        if not math.isnan(value):
            best = min(best, sign * value)
        found.append((step, best))
    return found


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
        what = "cut off" if TrialRecord(trial).is_cut_off else "failed "
        return f"#{trial.number:<4d} {what} {TrialRecord(trial).error_line}"
    what = "pruned"
    if trial.state == TrialState.COMPLETE:
        pairs = zip(objectives, trial.values, strict=True)
        what = "  ".join(f"{name} {value_text(value, trial)}" for name, value in pairs)
    epochs = counted(int(TrialRecord(trial).epochs or len(trial.intermediate_values)), "epoch")
    took = f"{trial.duration.total_seconds():,.0f} s" if trial.duration else ""
    best = "best" if is_best else ""
    width = len(f"{objectives[0]} {0.123456:.5g} ± {0.0012:.2g}")
    return (
        f"#{trial.number:<4d} {what:{width}s} {epochs:>10s} {took:>7s}  {best:4s}  {point_text(trial, names)}".rstrip()
    )


def value_text(value: float, trial: FrozenTrial) -> str:
    """Write the value of a complete trial, with its standard error where that is known."""
    error = TrialRecord(trial).standard_error
    return f"{value:.5g}" if error is None else f"{value:.5g} ± {error:.2g}"


def point_text(trial: FrozenTrial, names: Iterable[str]) -> str:
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
        width: The width of the terminal, in columns.
        height: The height of the terminal, in lines; trials that have no room are counted.
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


class Progress:
    """The screen: a line per finished trial, on a terminal a table of those that run, and the result.

    Args:
        queue: The queue of the study.
        sweep: The sweep.

    Attributes:
        seen: Trials that have finished since this process began, in that order.
        presence: Says that this process is there, while the sweep runs.
        interrupted: Whether a person has stopped the sweep.
        region: Where the table goes; None without a terminal.
    """

    def __init__(self, queue: Queue, sweep: Sweep) -> None:
        self.study, self.sweep = queue.study, sweep
        self.started = time.monotonic()
        self.spotter = StudyReader(queue, sweep.is_enumerated)
        self.known = sum(trial.state in DONE for trial in self.spotter.look().ended)
        self.seen: list[FrozenTrial] = []
        self.interrupted = False
        self.region: Region | None = None
        self.presence: SupervisorHeartbeat

    def begin(self) -> None:
        sweep = self.sweep
        objectives = ", ".join(f"{d} {name}" for name, d in zip(sweep.objectives, sweep.directions, strict=True))
        enumerated = sweep.is_enumerated
        how = "each point once" if enumerated else str(self.study.sampler)
        pruner = type(self.study.pruner).__name__.replace("NopPruner", "no pruning")
        queued = tried_points(trials_of(self.study))
        total = text.counted(queued, "trial") if enumerated else ""
        of = f" of {sweep.size:,}" if sweep.size else ""
        how = f"{queued:,}{of} points, each once" if sweep.is_cut else how
        budget = ", or ".join(filter(None, (total, self.spotter.queue.shared.budget().describe())))
        log.info("study      %s: %s, %s", self.study.study_name, budget, objectives)
        listed = "listed runs" if sweep.config.search.points else "nothing; one run"
        log.info("space      %s", ", ".join(sweep.distributions) or listed)
        log.info("search     %s, %s, %s", how, pruner, text.counted(sweep.options.n_jobs, "worker"))
        if scouts := scouts_of(sweep):
            log.info("           the first %d trials stop early; then the best of them begins anew", scouts)
        if reason := why_unpruned(sweep):
            log.info("           no pruning: %s", reason)
        self._say_if_images_differ()
        log.info("folder     %s", text.relative(sweep.folder))
        if self.known:
            log.info("continued  %s finished already", text.counted(self.known, "trial"))
        failed = failures(trials_of(self.study), sweep.options.max_retries)
        if failed and enumerated and not sweep.options.retry_failed:
            log.info("           %d of them failed; hydra.sweeper.retry_failed=true tries these again", len(failed))
        if foreign := [f"#{trial.number}" for trial in trials_of(self.study) if TrialRecord(trial).foreign]:
            numbers = ", ".join(foreign[:10]) + (", ..." if len(foreign) > 10 else "")
            log.info("warning    another program ran %s: not counted, not ranked", numbers)
        log.info("")

    def show(self) -> None:
        """Show what has happened since the last call."""
        view = self.spotter.look()
        self.seen += view.ended
        show(view, self.region)

    def stopped(self) -> None:
        """After Ctrl-C, say how to go on."""
        self.show()
        if self.interrupted:
            again = program.same_command(typed_words(self.sweep.options.storage))
            done = text.counted(sum(trial.state in DONE for trial in trials_of(self.study)), "trial")
            log.info("\nstopped after %s; the same command continues:\n  %s", done, again)

    def end(self) -> None:
        """Show the result and write it down."""
        complete = best_trials(self.study)
        best = complete if self.spotter.compares else []
        states = counts(self.study)
        summary = [f"{states[TrialState.COMPLETE]} complete"]
        summary += [f"{states[TrialState.PRUNED]} pruned"] if states[TrialState.PRUNED] else []
        failed = len(failures(trials_of(self.study), self.sweep.options.max_retries))
        summary += [f"{failed} failed"] if failed else []
        log.info("\ntrials     %s, in %s", ", ".join(summary), text.minutes(time.monotonic() - self.started))
        if rest := self._rest():
            log.info("           %s", rest)
        self._say_if_images_differ()
        _write_results(self.study, self.sweep, best)
        if len(self.sweep.objectives) > 1 and self.spotter.compares:
            front = self.study.best_trials
            log.info("Pareto front of %s:", text.counted(len(front), "trial"))
            for trial in sorted(front, key=lambda trial: trial.values):
                log.info("  %s", row(trial, self.sweep.objectives, self.sweep.distributions, is_best=False), extra=ROW)
        elif best:
            self._show_best(best)
            log.info("command    %s", self.sweep.command(best[0]))
            model = self.sweep.folder / str(best[0].number) / "model.keras"
            log.info("model      %s%s", text.relative(model), "" if model.exists() else " (it is not there any more)")
        log.info("results    %s, trials.csv", text.relative(self.sweep.folder / "optimization_results.yaml"))
        for what, command in self._next(len(complete)):
            log.info("%-10s %s", what, command)
        if self.sweep.options.storage.startswith("sqlite"):
            log.info("dashboard  %s", dashboard.command(self.sweep))

    def _say_if_images_differ(self) -> None:
        if keys := self.spotter.queue.shared.other_images():
            differ = f"{', '.join(keys)} differ{'s' if len(keys) == 1 else ''}"
            log.info("images     the values are of other images where %s: they do not rank", differ)

    def _rest(self) -> str | None:
        """Return how much was tried where something is left, and how to go on."""
        trials, sweep = trials_of(self.study), self.sweep
        used_up = self.spotter.queue.shared.budget().used_up(self.study, trials)
        larger = f"hydra.sweeper.{used_up} is used up; the same command with a larger one goes on" if used_up else None
        every = sweep.size if sweep.distributions else _points_in(trials)
        if every is None or not (sweep.is_enumerated or every <= MOST_ENUMERATED):
            return larger or ("the same command with a larger hydra.sweeper.n_trials goes on" if sweep.is_cut else None)
        tried = _points_in(
            t for t in trials if t.state in DONE or TrialRecord(t).is_own_failure(sweep.options.max_retries)
        )
        if tried >= every or not (used_up or sweep.is_cut):
            return None
        more = f"the same command with hydra.sweeper.n_trials={every} goes on"
        return f"{tried:,} of {text.counted(every, 'point')}; {larger if used_up not in (None, 'n_trials') else more}"

    def _next(self, complete: int) -> list[tuple[str, str]]:
        """Return what a person does next, and the command for it."""
        folder = str(text.relative(self.sweep.folder))
        found = [("compare", program.command("compare", folder))]
        if len(self.sweep.objectives) == 1 and complete > 1 and self.spotter.compares:
            top = str(min(3, complete))
            found.append(("confirm", program.command("confirm", folder, "--top", top, "--seeds", "3")))
            top = str(min(complete, self.sweep.options.keep_models, 5))
            found.append(("average", program.command("predict", folder, "--top", top)))
        return found if complete else []

    def _show_best(self, best: list[FrozenTrial]) -> None:
        """Show the best value with its standard error over images, and how many trials it cannot be told from."""
        name = self.sweep.objectives[0]
        found = [read_metrics_alone(self.sweep.folder / str(trial.number)) for trial in best]
        found[0].settings = read_run(found[0].run.folder).settings  # they say how the validation part was chosen
        error = standard_error(found[0], name)
        bias = f"; optimistic: best of {len(best)}" if len(best) > 1 else ""  # the luck that made it first
        shown = f" ± {error:.2g} (one standard error over images{bias})" if error is not None else ""
        log.info("best       #%d: %s %.5g%s", best[0].number, name, best[0].value, shown)
        for line in describe_noise(found, name):
            log.info("           %s", line)


def _points_in(trials: Iterable[FrozenTrial]) -> int:
    return len({str(sorted(point_of(trial).items())) for trial in trials})


def typed_words(storage: str) -> list[str]:
    """Return what the user typed behind `python`, without the password of the database."""
    return [without_password(argument, storage) for argument in sys.orig_argv[1:]]
