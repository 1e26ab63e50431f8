"""The process that the user started: starts workers, replaces dead ones, shows progress, sums up."""

import csv
import hashlib
import io
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits import screen
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import Run, replacing
from sweeper_digits.sweep import study as studies
from sweeper_digits.sweep import worker
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.storage import stop

log = logging.getLogger(__name__)

POLL_SECONDS = 0.4
# A worker that ends without having asked for a trial, this often in a row, ends the sweep.
MAX_DEAD_STARTS = 3


def supervise(sweep: Sweep) -> None:
    """Run the sweep to its end.

    Raises:
        UserError: Too many failures in a row; a study of another sweep.
        KeyboardInterrupt: Ctrl-C or SIGTERM; workers are gone and their trials queued again.
    """
    at_least_one = ("n_trials", "n_jobs", "max_failures", "keep_models", "workers_per_gpu", "heartbeat_seconds")
    for key in at_least_one:
        if sweep.options[key] is not None and sweep.options[key] < 1:
            raise UserError(f"hydra.sweeper.{key}={sweep.options[key]}: must be at least 1")
    if OmegaConf.select(sweep.config, "split.validation_size") is None and "folds" not in sweep.config.split:
        raise UserError("split=all: a sweep needs a validation part for its objective; use split=holdout or kfold")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    study = studies.set_up(sweep)
    _warn_of_changed_code(study)
    conf = _freeze_conf(sweep)
    progress = _Progress(study, sweep)
    progress.begin()
    if orphans := studies.reap(study, max_retries=None):
        log.info("%d trial(s) of workers that are gone are queued again", len(orphans))
    if not studies.is_finished(study, sweep):
        _stop_at_safe_points()
        crew = _Crew(sweep, conf)
        try:
            _watch(study, sweep, crew, progress)
        except KeyboardInterrupt:
            progress.interrupted = True
            raise
        finally:
            crew.kill()
            studies.reap(study, max_retries=None, reason="stopped with the sweep; queued again")
            progress.stopped()
    progress.end()


def _stop_at_safe_points() -> None:
    """Let Ctrl-C and SIGTERM end the sweep between two steps of `_watch`; the second one ends it at once.

    Raised in the middle of a query, an exception leaves a transaction open, and SQLite locked against this very
    process, which then cannot write down that its trials were cut off.
    """

    def ask(number: int, frame: object) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, ask)


def _watch(study: optuna.Study, sweep: Sweep, crew: "_Crew", progress: "_Progress") -> None:
    reaped, awake = 0.0, time.time()
    beat = sweep.options.heartbeat_seconds
    while not studies.is_finished(study, sweep):
        if stop.asked:
            raise KeyboardInterrupt
        crew.tend(study)
        if time.time() - awake > 3 * beat:  # this machine slept: first let its workers speak
            reaped = time.monotonic() + 2 * beat
        awake = time.time()
        if time.monotonic() - reaped > 2:
            studies.reap(study, sweep.options.max_retries)
            reaped = time.monotonic()
        progress.show()
        _stop_at_failures(progress, sweep.options)
        time.sleep(POLL_SECONDS)
    progress.show()


def _stop_at_failures(progress: "_Progress", options: Any) -> None:
    streak: list[FrozenTrial] = []
    for trial in progress.seen:
        if trial.state != TrialState.FAIL:
            streak = []
        elif studies.is_own_failure(trial, options.max_retries):  # not those of a machine that left
            streak.append(trial)
    if len(streak) >= options.max_failures:
        first = streak[0]
        log_file = progress.sweep.folder / str(first.number) / "train.log"
        where = log_file if log_file.exists() else progress.sweep.folder / "worker-0.log"
        raise UserError(
            f"{len(streak)} trials in a row failed, the first was #{first.number}: {first.user_attrs.get('error')} "
            f"(log: {screen.relative(where)})"
        )


class _Crew:
    """The worker processes."""

    def __init__(self, sweep: Sweep, conf: Path) -> None:
        self.sweep, self.conf = sweep, conf
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.dead_starts = 0
        self.elsewhere = worker.runs_elsewhere(sweep)
        self.gpus = [] if self.elsewhere else _deal(_gpus(), sweep.options)
        for number in range(1 if self.elsewhere else sweep.options.n_jobs):
            self._start(number)

    def tend(self, study: optuna.Study) -> None:
        """Replace workers that have ended."""
        for number, process in list(self.processes.items()):
            status = process.poll()
            if status is None:
                continue
            failed = studies.reap(study, self.sweep.options.max_retries)
            if status != 0 and not failed:
                self.dead_starts += 1
                if self.dead_starts >= MAX_DEAD_STARTS:
                    log_file = self._log(number)
                    lines = [line for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
                    last = lines[-1] if lines else "it printed nothing"
                    raise UserError(
                        f"worker {number} ended with status {status}: {last} (log: {screen.relative(log_file)})"
                    )
            else:
                self.dead_starts = 0
            self._start(number)

    def kill(self) -> None:
        """End all workers at once; their files are whole at any moment."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
        for process in self.processes.values():
            process.wait()

    def _start(self, number: int) -> None:
        environment = os.environ | {worker.NUMBER: str(number)}
        if self.sweep.options.n_jobs > 1 and not self.elsewhere:
            threads = str(max(1, _cores() // self.sweep.options.n_jobs))
            names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
            environment |= {name: threads for name in names if name not in os.environ}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[number]
        # The total may have been raised in conf/, of which the workers have the copy of the first day.
        total = f"hydra.sweeper.n_trials={self.sweep.options.n_trials}"
        command = [sys.executable, *sys.orig_argv[1:], total, "--config-path", str(self.conf)]
        with self._log(number).open("ab") as output:
            # A session of its own: Ctrl-C reaches the supervisor alone.
            self.processes[number] = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def _log(self, number: int) -> Path:
        return self.sweep.folder / f"worker-{number}.log"


class _Progress:
    """What the screen shows: a line per finished trial, a live line on a terminal, the result."""

    def __init__(self, study: optuna.Study, sweep: Sweep) -> None:
        self.study, self.sweep = study, sweep
        self.started = time.monotonic()
        self.seen: list[FrozenTrial] = []  # finished since this process began, in that order
        self.known = {trial.number for trial in studies.trials_of(study) if trial.state.is_finished()}
        self.live = sys.stderr.isatty()
        self.done = 0
        self.interrupted = False
        self.width = shutil.get_terminal_size().columns

    def begin(self) -> None:
        """Show what is searched."""
        sweep = self.sweep
        objectives = ", ".join(f"{d} {name}" for name, d in zip(sweep.objectives, sweep.directions, strict=True))
        enumerated = studies.is_enumerated(sweep)
        how = "each point once" if enumerated else type(self.study.sampler).__name__
        pruner = type(self.study.pruner).__name__
        total = len(studies.trials_of(self.study)) if enumerated else sweep.options.n_trials
        log.info("study      %s: %s trials, %s", self.study.study_name, total, objectives)
        listed = "listed runs" if sweep.config.search.points else "nothing; one run"
        log.info("space      %s", ", ".join(sweep.distributions) or listed)
        log.info("search     %s, %s, %d worker(s)", how, pruner, sweep.options.n_jobs)
        if not sweep.prunes:
            log.info("           no pruning: it needs val_loss or val_accuracy as the only objective")
        log.info("folder     %s", screen.relative(sweep.folder))
        if self.known:
            log.info("continued  %d trials are finished already", len(self.known))
        log.info("")

    def show(self) -> None:
        """Show what has happened since the last call."""
        trials = studies.trials_of(self.study)
        finished = [trial for trial in trials if trial.state.is_finished() and trial.number not in self.known]
        self._clear()
        for trial in sorted(finished, key=lambda trial: (trial.datetime_complete, trial.number)):
            self.known.add(trial.number)
            self.seen.append(trial)
            log.info("%s", self._line(trial))
        self.done = sum(trial.state in studies.DONE for trial in trials)
        if self.live:
            sys.stderr.write(self._status(trials)[: self.width - 1])
            sys.stderr.flush()

    def stopped(self) -> None:
        """After Ctrl-C, say how to go on."""
        self.show()
        self._clear()
        if self.interrupted:
            log.info("\nstopped after %d trials; the same command continues:\n  %s", self.done, _command_again())

    def end(self) -> None:
        """Show the result and write it down."""
        self._clear()
        best = studies.best_first(self.study)
        states = studies.counts(self.study)
        summary = [f"{states[TrialState.COMPLETE]} complete"]
        summary += [f"{states[TrialState.PRUNED]} pruned"] if states[TrialState.PRUNED] else []
        summary += [f"{states[TrialState.FAIL]} failed or cut off"] if states[TrialState.FAIL] else []
        log.info("\ntrials     %s, in %s", ", ".join(summary), screen.minutes(time.monotonic() - self.started))
        _write_results(self.study, self.sweep, best)
        if len(self.sweep.objectives) > 1:
            front = self.study.best_trials
            log.info("Pareto front of %d trials:", len(front))
            for trial in sorted(front, key=lambda trial: trial.values):
                log.info("  %s", self._line(trial))
        elif best:
            log.info("best       #%d: %s %.5g", best[0].number, self.sweep.objectives[0], best[0].value)
            log.info("command    %s", command_of(best[0]))
            log.info("model      %s", screen.relative(self.sweep.folder / str(best[0].number) / "model.keras"))
        log.info("results    %s, trials.csv", screen.relative(self.sweep.folder / "optimization_results.yaml"))
        if self.sweep.options.storage.startswith("sqlite"):
            log.info("dashboard  optuna-dashboard %s", self.sweep.options.storage)

    def _line(self, trial: FrozenTrial) -> str:
        epochs = Run(self.sweep.folder / str(trial.number)).epochs()
        took = f"{trial.duration.total_seconds():.0f} s" if trial.duration else ""
        point = trial.params or trial.user_attrs.get("point", {})
        parameters = " ".join(f"{name}={screen.brief(value)}" for name, value in point.items())
        if trial.state == TrialState.FAIL:
            return f"#{trial.number:<4d} failed  {trial.user_attrs.get('error', '')}"[:300]
        if trial.state == TrialState.PRUNED:
            return f"#{trial.number:<4d} pruned after {epochs} epoch(s)  {took}  {parameters}"
        names = zip(self.sweep.objectives, trial.values, strict=True)
        values = "  ".join(f"{name} {value:.5g}" for name, value in names)
        marks = ""
        if len(self.sweep.objectives) == 1 and studies.best_first(self.study)[0].number == trial.number:
            marks = "  best so far"
        return f"#{trial.number:<4d} {values}  {epochs} epochs  {took}  {parameters}{marks}"

    def _status(self, trials: list[FrozenTrial]) -> str:
        states = studies.counts(self.study)
        total = len(trials) if studies.is_enumerated(self.sweep) else self.sweep.options.n_trials
        text = (
            f"{self.done}/{total} done, {states[TrialState.PRUNED]} pruned, {states[TrialState.FAIL]} failed, "
            f"{states[TrialState.RUNNING]} running"
        )
        here = [trial for trial in self.seen if trial.state in studies.DONE]
        if here:
            left = (time.monotonic() - self.started) / len(here) * max(0, total - self.done)
            text += f", {screen.minutes(left)} left"
        if len(self.sweep.objectives) == 1 and (best := studies.best_first(self.study)):
            values = " ".join(f"{name}={screen.brief(value)}" for name, value in best[0].params.items())
            text += f"; best {best[0].value:.5g} #{best[0].number} {values}"
        return text

    def _clear(self) -> None:
        if self.live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def command_of(trial: FrozenTrial) -> str:
    """Return the command that repeats a trial, without what only a sweep reads."""
    overrides = trial.user_attrs.get("overrides", [])
    kept = [text for text in overrides if text.split("=")[0] not in ("study", "search.points")]
    return shlex.join(["python", "train.py", *kept])


def _write_results(study: optuna.Study, sweep: Sweep, best: list[FrozenTrial]) -> None:
    """Write optimization_results.yaml, with the stock plugin's keys and ours, and trials.csv."""

    def about(trial: FrozenTrial) -> dict[str, Any]:
        return {"number": trial.number, "folder": str(sweep.folder / str(trial.number)), "command": command_of(trial)}

    results: dict[str, Any] = {"name": "optuna"}
    if len(sweep.objectives) > 1:
        results["solutions"] = [{"params": t.params, "values": t.values, **about(t)} for t in study.best_trials]
    elif best:
        results |= {"best_params": best[0].params, "best_value": best[0].value, "best_trial": about(best[0])}
    results |= {
        "study_name": study.study_name,
        "objectives": sweep.objectives,
        "directions": sweep.directions,
        "trials": {state.name.lower(): count for state, count in studies.counts(study).items()},
    }
    with replacing(sweep.folder / "optimization_results.yaml") as temporary:
        OmegaConf.save(OmegaConf.create(results), temporary)
    table = io.StringIO()
    names = list(sweep.distributions)
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["number", "state", *sweep.objectives, "seconds", "started", *names, "error"])
    for trial in studies.trials_of(study):
        values = trial.values or [""] * len(sweep.objectives)
        seconds = trial.duration.total_seconds() if trial.duration else ""
        drawn = [trial.params.get(name, "") for name in names]
        error = trial.user_attrs.get("error", "")
        writer.writerow([trial.number, trial.state.name, *values, seconds, trial.datetime_start, *drawn, error])
    with replacing(sweep.folder / "trials.csv") as temporary:
        temporary.write_text(table.getvalue())


def _freeze_conf(sweep: Sweep) -> Path:
    """Copy conf/ into the sweep's folder, from where the workers compose, once for the whole sweep."""
    source = Path(next(s.path for s in HydraConfig.get().runtime.config_sources if s.provider == "main"))
    frozen = sweep.folder / "conf"
    if not frozen.exists():
        copy = frozen.with_name(f".conf-{socket.gethostname()}-{os.getpid()}")
        shutil.rmtree(copy, ignore_errors=True)  # of a container that was killed while it copied
        shutil.copytree(source, copy)
        try:
            copy.rename(frozen)
        except OSError:  # another supervisor of the same study was faster
            shutil.rmtree(copy)
    elif changed := _differences(source, frozen):
        log.info(
            "warning: %s changed since the sweep began; it goes on with its own copy in %s",
            ", ".join(changed),
            screen.relative(frozen),
        )
    return frozen


def _warn_of_changed_code(study: optuna.Study) -> None:
    """Say so if the package is another than when the sweep began: its trials may not compare."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    code = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    began = study.user_attrs.get("code")
    if began is None:
        study.set_user_attr("code", code)
    elif began != code:
        log.info("warning: the code changed since the sweep began; its earlier trials may not compare with new ones")


def _differences(a: Path, b: Path) -> list[str]:
    files = {path.relative_to(root) for root in (a, b) for path in root.rglob("*.yaml")}
    return sorted(
        str(file)
        for file in files
        if not ((a / file).is_file() and (b / file).is_file() and (a / file).read_bytes() == (b / file).read_bytes())
    )


def _cores() -> int:
    """Return how many cores this process may use: a scheduler may have given it a part of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _deal(gpus: list[str], options: Any) -> list[str]:
    """Return the GPU of each worker, dealt out in turn; nothing where there are none."""
    most = options.workers_per_gpu
    if gpus and most is not None and options.n_jobs > most * len(gpus):
        raise UserError(
            f"hydra.sweeper.n_jobs={options.n_jobs}: {len(gpus)} GPU(s) take {most * len(gpus)} workers with "
            f"hydra.sweeper.workers_per_gpu={most}; ask for fewer, or let more share a GPU"
        )
    return [gpus[number % len(gpus)] for number in range(options.n_jobs)] if gpus else []


def _gpus() -> list[str]:
    """Return the ids of the GPUs to deal out: those that CUDA_VISIBLE_DEVICES names, or all."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(index) for index in range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines()))]


def _command_again() -> str:
    return shlex.join(["python", *sys.orig_argv[1:]])
