"""What a sweep shows on the screen, and its result files."""

import logging
import sys
import time
from collections.abc import Iterable
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits import program, screen
from sweeper_digits.live import ROW, Region
from sweeper_digits.runs.folder import replacing
from sweeper_digits.runs.noise import describe_noise, standard_error
from sweeper_digits.runs.record import read_metrics_alone, read_run
from sweeper_digits.schema import distinct
from sweeper_digits.sweep import dashboard
from sweeper_digits.sweep.pruners import scouts_of, why_unpruned
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.space import MOST_ENUMERATED, Sweep
from sweeper_digits.sweep.table import row, show
from sweeper_digits.sweep.trials import (
    DONE,
    FOREIGN,
    best_first,
    counts,
    failures,
    is_own_failure,
    trials_of,
    tried_points,
)
from sweeper_digits.sweep.url import without_password
from sweeper_digits.sweep.view import Spotter, point_of

log = logging.getLogger(__name__)


class Progress:
    """What the screen shows: a line per finished trial, on a terminal a table of those that run, and the result.

    Args:
        queue: The queue of the study.
        sweep: The sweep.

    Attributes:
        seen: Trials that have finished since this process began, in that order.
        interrupted: Whether a person has stopped the sweep.
        region: Where the table goes; None without a terminal.
    """

    def __init__(self, queue: Queue, sweep: Sweep) -> None:
        self.study, self.sweep = queue.study, sweep
        self.started = time.monotonic()
        self.spotter = Spotter(queue, sweep.is_enumerated)
        self.known = sum(trial.state in DONE for trial in self.spotter.look().ended)
        self.seen: list[FrozenTrial] = []
        self.interrupted = False
        self.region: Region | None = None

    def begin(self) -> None:
        """Show what is searched."""
        sweep = self.sweep
        objectives = ", ".join(f"{d} {name}" for name, d in zip(sweep.objectives, sweep.directions, strict=True))
        enumerated = sweep.is_enumerated
        how = "each point once" if enumerated else str(self.study.sampler)
        pruner = type(self.study.pruner).__name__.replace("NopPruner", "no pruning")
        queued = tried_points(trials_of(self.study))
        total = screen.counted(queued, "trial") if enumerated else ""
        of = f" of {sweep.size:,}" if sweep.size else ""
        how = f"{queued:,}{of} points, each once" if sweep.is_cut else how
        budget = ", or ".join(filter(None, (total, self.spotter.queue.helm.budget().describe())))
        log.info("study      %s: %s, %s", self.study.study_name, budget, objectives)
        listed = "listed runs" if sweep.config.search.points else "nothing; one run"
        log.info("space      %s", ", ".join(sweep.distributions) or listed)
        log.info("search     %s, %s, %s", how, pruner, screen.counted(sweep.options.n_jobs, "worker"))
        if scouts := scouts_of(sweep):
            log.info("           the first %d trials stop early; then the best of them begins anew", scouts)
        if reason := why_unpruned(sweep):
            log.info("           no pruning: %s", reason)
        self._say_if_images_differ()
        log.info("folder     %s", screen.relative(sweep.folder))
        if self.known:
            log.info("continued  %s finished already", screen.counted(self.known, "trial"))
        failed = failures(trials_of(self.study), sweep.options.max_retries)
        if failed and enumerated and not sweep.options.retry_failed:
            log.info("           %d of them failed; hydra.sweeper.retry_failed=true tries these again", len(failed))
        if foreign := [f"#{trial.number}" for trial in trials_of(self.study) if FOREIGN in trial.user_attrs]:
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
            done = screen.counted(sum(trial.state in DONE for trial in trials_of(self.study)), "trial")
            log.info("\nstopped after %s; the same command continues:\n  %s", done, again)

    def end(self) -> None:
        """Show the result and write it down."""
        complete = best_first(self.study)
        best = complete if self.spotter.compares else []
        states = counts(self.study)
        summary = [f"{states[TrialState.COMPLETE]} complete"]
        summary += [f"{states[TrialState.PRUNED]} pruned"] if states[TrialState.PRUNED] else []
        failed = len(failures(trials_of(self.study), self.sweep.options.max_retries))
        summary += [f"{failed} failed"] if failed else []
        log.info("\ntrials     %s, in %s", ", ".join(summary), screen.minutes(time.monotonic() - self.started))
        if rest := self._rest():
            log.info("           %s", rest)
        self._say_if_images_differ()
        _write_results(self.study, self.sweep, best)
        if len(self.sweep.objectives) > 1 and self.spotter.compares:
            front = self.study.best_trials
            log.info("Pareto front of %s:", screen.counted(len(front), "trial"))
            for trial in sorted(front, key=lambda trial: trial.values):
                log.info("  %s", row(trial, self.sweep.objectives, self.sweep.distributions, is_best=False), extra=ROW)
        elif best:
            self._show_best(best)
            log.info("command    %s", self.sweep.command(best[0]))
            model = self.sweep.folder / str(best[0].number) / "model.keras"
            log.info("model      %s%s", screen.relative(model), "" if model.exists() else " (it is not there any more)")
        log.info("results    %s, trials.csv", screen.relative(self.sweep.folder / "optimization_results.yaml"))
        for what, command in self._next(len(complete)):
            log.info("%-10s %s", what, command)
        if self.sweep.options.storage.startswith("sqlite"):
            log.info("dashboard  %s", dashboard.command(self.sweep))

    def _say_if_images_differ(self) -> None:
        if keys := self.spotter.queue.helm.other_images():
            differ = f"{', '.join(keys)} differ{'s' if len(keys) == 1 else ''}"
            log.info("images     the values are of other images where %s: they do not rank", differ)

    def _rest(self) -> str | None:
        """Return how much was tried where something is left, and how to go on."""
        trials, sweep = trials_of(self.study), self.sweep
        used_up = self.spotter.queue.helm.budget().used_up(self.study, trials)
        larger = f"hydra.sweeper.{used_up} is used up; the same command with a larger one goes on" if used_up else None
        every = sweep.size if sweep.distributions else _points_in(trials)
        if every is None or not (sweep.is_enumerated or every <= MOST_ENUMERATED):
            return larger or ("the same command with a larger hydra.sweeper.n_trials goes on" if sweep.is_cut else None)
        tried = _points_in(t for t in trials if t.state in DONE or is_own_failure(t, sweep.options.max_retries))
        if tried >= every or not (used_up or sweep.is_cut):
            return None
        more = f"the same command with hydra.sweeper.n_trials={every} goes on"
        return f"{tried:,} of {screen.counted(every, 'point')}; {larger if used_up not in (None, 'n_trials') else more}"

    def _next(self, complete: int) -> list[tuple[str, str]]:
        """Return what a person does next, and the command for it."""
        folder = str(screen.relative(self.sweep.folder))
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


def _write_results(study: optuna.Study, sweep: Sweep, best: list[FrozenTrial]) -> None:
    """Write optimization_results.yaml, with the stock plugin's keys and ours, and trials.csv."""

    def about(trial: FrozenTrial) -> dict[str, Any]:
        return {
            "number": trial.number,
            "folder": str(sweep.folder / str(trial.number)),
            "command": sweep.command(trial),
        }

    results: dict[str, Any] = {"name": "optuna"}
    if len(sweep.objectives) > 1 and best:
        results["solutions"] = [{"params": t.params, "values": t.values, **about(t)} for t in study.best_trials]
    elif best:
        results |= {"best_params": best[0].params, "best_value": best[0].value, "best_trial": about(best[0])}
    results |= {
        "study_name": study.study_name,
        "objectives": sweep.objectives,
        "directions": sweep.directions,
        "trials": {state.name.lower(): count for state, count in counts(study).items()},
    }
    with replacing(sweep.folder / "optimization_results.yaml") as temporary:
        OmegaConf.save(OmegaConf.create(results), temporary)
    _write_table(study, sweep)


def _write_table(study: optuna.Study, sweep: Sweep) -> None:
    """Write trials.csv, a row for each trial."""
    every = {"number": "number", "state": "state", "datetime_start": "started", "user_attrs_error": "error"}
    objectives = distinct(sweep.objectives, every.values(), "objective_")
    parameters = distinct(sweep.distributions, {*every.values(), *objectives.values()}, "params_")
    time = distinct(["seconds"], {*every.values(), *objectives.values(), *parameters.values()}, "trial_")
    titles = {"number": "number", "state": "state"}
    titles |= {f"values_{name}": title for name, title in objectives.items()}
    titles |= {"duration": time["seconds"], "datetime_start": "started"}
    titles |= {f"params_{name}": title for name, title in parameters.items()}
    titles |= {"user_attrs_error": "error"}
    attributes = ("number", "state", "values", "duration", "datetime_start", "params", "user_attrs")
    table = study.trials_dataframe(attributes).reindex(columns=list(titles))
    table["duration"] = table["duration"].astype("timedelta64[ns]").dt.total_seconds()
    # An integer stays one where other trials do not have its parameter.
    table = table.convert_dtypes().map(screen.no_formula)
    with replacing(sweep.folder / "trials.csv") as temporary:
        table.to_csv(temporary, header=list(titles.values()), index=False, errors="replace")


def typed_words(storage: str) -> list[str]:
    """Return what the user typed behind `python`, without the password of the database."""
    return [without_password(argument, storage) for argument in sys.orig_argv[1:]]
