"""A sweep, read from top to bottom: ask for a trial, launch it, tell the study how it ended; until the budget is used.

Each command is one such process. A second terminal, or another machine, is a second one on the same study.
"""

import contextlib
import errno
import functools
import logging
import math
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from hydra.core.utils import JobReturn, JobStatus, env_override
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits import live, text
from sweeper_digits.config import STORAGE_KEY
from sweeper_digits.errors import OtherData, UserError
from sweeper_digits.overrides import override_key, override_text
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.sweep.budget import SupervisorHeartbeat
from sweeper_digits.sweep.choose_pruner import scouts_of
from sweeper_digits.sweep.ending import Limits, described, take_over_finished, tell, tell_from_folder
from sweeper_digits.sweep.frozen import Copy, warn_of_changed_code
from sweeper_digits.sweep.local import Lost
from sweeper_digits.sweep.queue import UNSIGNED_SECONDS, Queue
from sweeper_digits.sweep.record import StudyRecord, TrialRecord, best_trials, failures, owed, stored_error, trials_of
from sweeper_digits.sweep.show import Progress, typed_words
from sweeper_digits.sweep.slots import Slots
from sweeper_digits.sweep.space import Sweep, check_values
from sweeper_digits.sweep.storage import StorageError, interruption_requested, study_lock
from sweeper_digits.sweep.study import check_claim, set_up

log = logging.getLogger(__name__)

# Seconds between two looks at the study. A look takes a while where the study is long, and the trials need the cores:
# the pause is so many times as long that looking takes 2 % of a core.
LEAST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
PAUSE_FOR_A_LOOK = 50.0
# Seconds between two looks for trials whose process is gone.
REAP_SECONDS = 2.0
# The error of a trial that ran when its sweep was stopped.
STOPPED = "stopped with the sweep; queued again"
# So many trials that ran out of memory count as one failure in a row: the next point may need less.
SCARCITIES = 10
# Errors of a disk that a person must mend.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def search(sweep: Sweep, launcher: Launcher, context: HydraContext, task: TaskFunction) -> None:
    """Run a sweep to its end.

    Args:
        sweep: The sweep, composed from conf/ as it is now.
        launcher: Runs the jobs, and composes them from the sweep's own copy of conf/.
        context: Hydra's.
        task: The function of the jobs.

    Raises:
        UserError: Too many failures in a row, a study of another sweep, or what no trial can mend.
        KeyboardInterrupt: Ctrl-C, SIGTERM or `stop`; the trials that ran are queued again.
    """
    _check_options(sweep)
    _interrupt_between_steps()
    # Jobs find the study by it, and no file has its password; the next sweep of this process has another.
    with env_override({"OPTUNA_STORAGE": sweep.options.storage}):
        _search(sweep, launcher, context, task)


def _search(sweep: Sweep, launcher: Launcher, context: HydraContext, task: TaskFunction) -> None:
    copy = Copy(sweep)
    sweep = copy.composed() if copy.exists else sweep
    queue = set_up(sweep)
    slots = Slots(sweep, launcher)  # their processes import Keras meanwhile
    try:
        # Not the URL, which may hold a password in whatever form.
        words = [word for word in typed_words(sweep.options.storage) if not word.startswith(f"{STORAGE_KEY}=")]
        StudyRecord(queue.study).write(command={"words": words, "folder": str(Path.cwd())})
        warn_of_changed_code(queue.study)
        if copy.exists:
            copy.warn_of_changes()
        else:
            copy.make()
            sweep = copy.composed()
        context = HydraContext(sweep.loader, context.callbacks, context.execution_whitelist)
        launcher.setup(hydra_context=context, task_function=task, config=sweep.config)
        progress = Progress(queue, sweep)
        progress.begin()
        has_told = functools.partial(tell_from_folder, queue, sweep)
        if orphans := queue.reap(max_retries=None, has_told=has_told):
            log.info("queued again: %s of processes that are gone", text.counted(len(orphans), "trial"))
        best = BestModels(queue, sweep)
        if not queue.is_finished(sweep):
            with _shown(queue, progress):
                Loop(sweep, queue, slots, progress, best).run()
    finally:
        slots.kill()
    best.tidy()
    progress.end()
    _raise_without_result(queue, progress)


class Loop:
    """Ask, launch, tell.

    Args:
        sweep: The sweep.
        queue: The queue of its study.
        slots: Where its jobs run.
        progress: The screen.
        best: Keeps the best weights.
    """

    def __init__(self, sweep: Sweep, queue: Queue, slots: Slots, progress: Progress, best: "BestModels") -> None:
        self.sweep, self.queue, self.slots, self.progress = sweep, queue, slots, progress
        self.trials: dict[int, optuna.Trial] = {}  # by slot
        self.best, self.limits = best, Limits(queue, sweep)
        self.has_told = functools.partial(tell_from_folder, queue, sweep)
        steering = queue.shared.steering()
        self.stops, self.changes = steering.stops, steering.changes
        self.slots.resize(steering.n_jobs or sweep.options.n_jobs)
        self.reaped, self.beat, self.awake = 0.0, 0.0, time.time()

    def run(self) -> None:
        """Go on until nothing is left to run."""
        try:
            while True:
                begun = time.process_time()  # not by the clock: waiting for a core, or for a server, costs no core
                self._tell_ended()
                if self.queue.is_finished(self.sweep):
                    break
                self._steer()
                self._ask_and_launch()
                self._end_overdue()
                self._reap()
                self.progress.show()
                _raise_at_failures(self.progress, self.sweep.options)
                look = time.process_time() - begun
                self.slots.rest(pause_after(look))
            self.progress.show()
        finally:
            self.slots.kill()
            self._queue_again()

    def _ask_and_launch(self) -> None:
        for slot in self.slots.idle():
            trial = self.queue.ask(self.sweep)
            if trial is None:  # the last ones run elsewhere; one of them may yet die
                return
            if not self.queue.record_worker(trial):
                continue
            self.trials[slot] = trial
            try:
                if take_over_finished(self.queue, self.sweep, trial):
                    del self.trials[slot]
                    continue
                with self._drawing():
                    overrides = self.sweep.suggest(trial)
            except StorageError:
                raise
            except Exception as error:  # by the sampler, or while composing
                with (self.sweep.folder / f"worker-{slot}.log").open("a", errors="replace") as log_file:
                    traceback.print_exc(file=log_file)
                self._tell(slot, TrialState.FAIL, error=described(error))
                continue
            extra = [] if "figures" in map(override_key, overrides) else ["figures=false"]
            resumed = self._checkpoint(trial)
            extra += [f"resume={override_text(str(resumed))}"] if resumed else []
            self.slots.launch(slot, [*overrides, *extra], trial.number)

    def _drawing(self) -> contextlib.AbstractContextManager[None]:
        """Keep other processes from drawing at the same time where a point could be drawn twice.

        A point is drawn value by value, and no value can be taken back: once two processes have drawn the same point,
        it is too late for one of them to draw another.
        """
        alone = self.sweep.may_repeat
        return study_lock(self.queue.storage, self.queue.study.study_name) if alone else contextlib.nullcontext()

    def _checkpoint(self, trial: optuna.Trial) -> Path | None:
        """Return the folder of the latest trial that this one continues and that left something to continue."""
        for number in TrialRecord(self.queue.read(trial.number)).continues:
            before = RunFolder(self.sweep.folder / str(number))
            if before.checkpoint.exists() or before.folds():
                return before.folder
        return None

    def _tell_ended(self) -> None:
        for slot, ended in self.slots.ended():
            trial = self.trials.get(slot)
            if trial is None:
                continue
            if self.queue.read(trial.number).state.is_finished():  # overdue, or its heartbeats had stopped
                del self.trials[slot]
            elif isinstance(ended, Lost) and not (ended.is_tried_again or self.has_told(trial.number)):
                self._tell(slot, TrialState.FAIL, error=ended.reason)
            elif isinstance(ended, Lost):
                del self.trials[slot]
                self._give_up(trial, ended.reason, self.sweep.options.max_retries)
            else:
                self._end_if_none_can_run(slot, trial, ended._return_value)
                self._tell(slot, *outcome(ended, len(self.sweep.objectives)))
            self.best.tidy()

    def _tell(self, slot: int, state: TrialState, values: list[float] | None = None, error: str | None = None) -> None:
        tell(self.queue, self.sweep, self.trials.pop(slot), state, values, error)

    def _end_if_none_can_run(self, slot: int, trial: optuna.Trial, result: object) -> None:
        """End the sweep if a trial could not write, read other data or reach the database: the next one could not too.

        Its point is tried again once a person has mended the cause.
        """
        if isinstance(result, StorageError):
            raise result
        full = isinstance(result, OSError) and any(os.strerror(code) in str(result) for code in DISK_ERRORS)
        if not full and not isinstance(result, OtherData):
            return
        log.error("trial %d: %s", trial.number, result)
        del self.trials[slot]
        folder = RunFolder(self.sweep.folder / str(trial.number))
        if not full and folder.folder.is_dir() and not folder.metrics.exists():
            folder.write_metrics({"state": "failed", "error": stored_error(str(result))})
        self.queue.fail_and_requeue(self.queue.read(trial.number), str(result), max_retries=None)
        if isinstance(result, OtherData):
            raise UserError(str(result))
        cause = next(os.strerror(code) for code in DISK_ERRORS if os.strerror(code) in str(result))
        raise UserError(
            f"{text.relative(self.sweep.folder)}: {cause}; what is written is whole; once that is mended, the same "
            "command continues"
        )

    def _steer(self) -> None:
        """Heed what a person wants, and say that this process is there."""
        steering = self.queue.shared.steering()
        if interruption_requested.is_set() or steering.stops != self.stops:
            raise KeyboardInterrupt
        if steering.n_jobs and steering.changes != self.changes:
            self.changes = steering.changes
            for slot in self.slots.resize(steering.n_jobs):
                if trial := self.trials.pop(slot, None):
                    self._give_up(trial, "its worker was one too many; queued again")
        check_claim(self.sweep.folder)
        self.progress.presence.tick(steering.budget["timeout"])

    def _end_overdue(self) -> None:
        for trial in self.limits.overdue():
            for slot in [slot for slot, one in self.trials.items() if one.number == trial.number]:
                del self.trials[slot]
                self.slots.free(slot)

    def _reap(self) -> None:
        """Queue again the trials of processes that are gone; answer for jobs that wait in a scheduler."""
        for slot, trial in list(self.trials.items()):
            frozen = self.queue.read(trial.number)
            if frozen.state.is_finished():  # its heartbeats have stopped: another has it
                del self.trials[slot]
                self.slots.free(slot)
            elif not TrialRecord(frozen).attached and time.monotonic() > self.beat:
                self.queue.heartbeat(trial.number)
        if time.monotonic() > self.beat:
            self.beat = time.monotonic() + self.sweep.options.heartbeat_seconds / 2
        if time.time() - self.awake > 3 * self.sweep.options.heartbeat_seconds:
            # This machine slept: first let its jobs speak.
            self.reaped = time.monotonic() + 2 * self.sweep.options.heartbeat_seconds
        self.awake = time.time()
        if time.monotonic() - self.reaped > REAP_SECONDS:
            self.queue.reap(self.sweep.options.max_retries, has_told=self.has_told)
            self.reaped = time.monotonic()

    def _queue_again(self) -> None:
        """Queue the trials that ran in this process's slots again."""
        for trial in self.trials.values():
            self._give_up(trial, STOPPED)
        self.trials.clear()
        end = time.monotonic() + UNSIGNED_SECONDS
        while self.queue.has_unsigned() and time.monotonic() < end:  # another process is about to sign it
            time.sleep(0.1)
        self.queue.reap(None, STOPPED, has_told=self.has_told)

    def _give_up(self, trial: optuna.Trial, reason: str, max_retries: int | None = None) -> None:
        if not self.has_told(trial.number):
            self.queue.fail_and_requeue(self.queue.read(trial.number), reason, max_retries)


def pause_after(look: float) -> float:
    """Return how many seconds to wait after a look at the study that took so many of a core."""
    return min(LONGEST_PAUSE, max(LEAST_PAUSE, PAUSE_FOR_A_LOOK * look))


@contextlib.contextmanager
def _shown(queue: Queue, progress: Progress) -> Iterator[None]:
    """Show the sweep while the block lasts, and let others see that this process is there."""
    progress.presence = SupervisorHeartbeat(queue.study)
    try:
        with live.region() as progress.region:
            yield
    except KeyboardInterrupt:
        progress.interrupted = True
        raise
    finally:
        progress.region = None
        progress.presence.end()
        progress.stopped()


def _check_options(sweep: Sweep) -> None:
    check_values(sweep)
    scouts_of(sweep)  # raises


def _interrupt_between_steps() -> None:
    """Let Ctrl-C and SIGTERM end the sweep between two steps of the loop; the second one ends it at once.

    Raised in the middle of a query, an exception leaves a transaction open, and SQLite locked against this very
    process, which then cannot write down that its trials were cut off. The end of the terminal (SIGHUP), and of the
    program that reads the output (SIGPIPE, for example with `| head`), count too.
    """

    def request(number: int, frame: object) -> None:
        if interruption_requested.is_set() and number == signal.SIGINT:
            os.write(2, b"\nstopped at once; the same command queues the trials that were running again\n")
            os._exit(130)  # slots end by themselves when this process is gone
        interruption_requested.set()

    def request_if_unread(number: int, frame: object) -> None:
        with contextlib.suppress(OSError, ValueError):
            for stream in (sys.stdout, sys.stderr):  # it may also be a connection to the database
                poll = select.poll()
                poll.register(stream.fileno(), 0)
                if any(event & select.POLLERR for _, event in poll.poll(0)):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                    logging.raiseExceptions = False  # or it prints a traceback for this line
                    interruption_requested.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, request)
    signal.signal(signal.SIGPIPE, request_if_unread)


def outcome(done: JobReturn, objectives: int) -> tuple[TrialState, list[float] | None, str | None]:
    """Return the state of a trial, its values if it is complete, and what went wrong if it failed."""
    result: Any = done._return_value
    if done.status != JobStatus.COMPLETED:
        if isinstance(result, optuna.TrialPruned):
            return TrialState.PRUNED, None, None
        return TrialState.FAIL, None, described(result)
    try:
        values = [float(value) for value in (result if isinstance(result, list | tuple) else [result])]
    except (TypeError, ValueError):
        values = []
    if len(values) != objectives or not all(math.isfinite(value) for value in values):
        return TrialState.FAIL, None, f"the objective is {result}"
    return TrialState.COMPLETE, values, None


class BestModels:
    """Keeps the weights of the best trials: of `keep_models`, and of the whole Pareto front.

    Where trials validate on other images, all keep theirs. Several processes may delete the same; each looks once at a
    trial that has left the best.

    Args:
        queue: The queue of the study.
        sweep: The sweep.
    """

    def __init__(self, queue: Queue, sweep: Sweep) -> None:
        self.queue, self.sweep = queue, sweep
        self.deleted: set[int] = set()
        self.ranks = not queue.shared.other_images()

    def tidy(self) -> None:
        """Delete the weights of finished trials that are not among the best.

        Those of a trial that was cut off stay until it has been continued: they are of its finished folds.
        """
        study, options = self.queue.study, self.sweep.options
        if not self.ranks:
            return
        trials = trials_of(study)
        front = len(study.best_trials) if len(study.directions) > 1 else 0
        kept = {trial.number for trial in best_trials(study)[: max(front, options.keep_models)]}
        kept.update(trial.number for trial in owed(trials, options.max_retries))
        kept.update(*(TrialRecord(trial).continues for trial in trials if not trial.state.is_finished()))
        finished = {trial.number for trial in trials if trial.state.is_finished()}
        for number in finished - kept - self.deleted:
            folder = self.sweep.folder / str(number)
            for model in [folder / "model.keras", *folder.glob("fold_*/model.keras")]:
                model.unlink(missing_ok=True)
        self.deleted |= finished - kept


def _raise_at_failures(progress: Progress, options: Any) -> None:
    streak: list[FrozenTrial] = []
    for trial in progress.seen:
        if trial.state != TrialState.FAIL:
            streak = []
        elif TrialRecord(trial).is_own_failure(options.max_retries):  # not those of a machine that left
            streak.append(trial)
    weights = [1 if TrialRecord(trial).ran_out_of_memory else SCARCITIES for trial in streak]
    if sum(weights) >= SCARCITIES * options.max_failures:
        many = text.counted(len(streak), "trial")
        raise UserError(f"{many} in a row failed, the first was {_cause(streak[0], progress.sweep)}")


def _raise_without_result(queue: Queue, progress: Progress) -> None:
    """Raise a UserError with the first cause if no trial of the study is complete."""
    trials = trials_of(queue.study)
    failed = failures(trials, progress.sweep.options.max_retries)
    if failed and not any(trial.state == TrialState.COMPLETE for trial in trials):
        raise UserError(
            f"no trial is complete, the first that failed was {_cause(failed[0], progress.sweep)}; once that is "
            "mended, the same command with hydra.sweeper.retry_failed=true tries them again"
        )


def _cause(trial: FrozenTrial, sweep: Sweep) -> str:
    log_file = sweep.folder / str(trial.number) / "train.log"
    where = log_file if log_file.exists() else sweep.folder / "worker-0.log"
    return f"#{trial.number}: {TrialRecord(trial).error_line} (log: {text.relative(where)})"
