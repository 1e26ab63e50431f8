"""The process that the user started: starts workers, replaces dead ones, shows progress, sums up."""

import contextlib
import functools
import logging
import os
import select
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from sweeper_digits import live, text
from sweeper_digits.errors import INFINITY, UserError, check_range
from sweeper_digits.sweep.budget import SupervisorHeartbeat
from sweeper_digits.sweep.choose_pruner import scouts_of
from sweeper_digits.sweep.ending import tell_from_folder
from sweeper_digits.sweep.frozen import freeze_conf, warn_of_changed_code
from sweeper_digits.sweep.local import STORAGE, LocalWorkers
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.record import StudyRecord, TrialRecord, failures, trials_of
from sweeper_digits.sweep.show import Progress, typed_words
from sweeper_digits.sweep.space import Sweep, check_values
from sweeper_digits.sweep.steering import Steering
from sweeper_digits.sweep.storage import interruption_requested
from sweeper_digits.sweep.study import check_claim, set_up
from sweeper_digits.sweep.worker import BestModels

log = logging.getLogger(__name__)

# Seconds between two looks at the study. A look takes a while where the study is long, and the workers need the cores:
# the pause is so many times as long that looking takes 2 % of a core.
LEAST_PAUSE, LONGEST_PAUSE = 0.4, 2.0
PAUSE_FOR_A_LOOK = 50.0
# How long a worker of another supervisor may take to sign its trial when this sweep ends.
SIGNING_SECONDS = 3.0


def supervise(sweep: Sweep) -> None:
    """Run the sweep to its end.

    Raises:
        UserError: Too many failures in a row; a study of another sweep.
        KeyboardInterrupt: Ctrl-C or SIGTERM; workers are gone and their trials queued again.
    """
    at_least_one = ("n_jobs", "max_failures", "keep_models", "workers_per_gpu", "heartbeat_seconds")
    for key in at_least_one:
        if sweep.options[key] is not None and sweep.options[key] < 1:
            raise UserError(f"hydra.sweeper.{key}={sweep.options[key]}: must be at least 1")
    check_range("hydra.sweeper.max_retries", sweep.options.max_retries, 0, INFINITY)
    if sweep.options.trial_timeout is not None:
        check_range("hydra.sweeper.trial_timeout", sweep.options.trial_timeout, 0, INFINITY, open_low=True)
    check_values(sweep)
    scouts_of(sweep)  # raises
    _interrupt_between_steps()
    queue = set_up(sweep)
    # Not the URL, which may hold a password in whatever form.
    words = [word for word in typed_words(sweep.options.storage) if not word.startswith(STORAGE)]
    StudyRecord(queue.study).write(command={"words": words, "folder": str(Path.cwd())})
    warn_of_changed_code(queue.study)
    conf = freeze_conf(sweep)
    progress = Progress(queue, sweep)
    progress.begin()
    has_told = functools.partial(tell_from_folder, queue, sweep)
    if orphans := queue.reap(max_retries=None, has_told=has_told):
        log.info("queued again: %s of workers that are gone", text.counted(len(orphans), "trial"))
    if not queue.is_finished(sweep):
        steering = queue.shared.steering()
        sweep.options.n_jobs = steering.n_jobs or sweep.options.n_jobs
        crew = LocalWorkers(sweep, queue, conf, steering.changes)
        presence = SupervisorHeartbeat(queue.study)
        try:
            with live.region() as progress.region:
                _watch(queue, sweep, crew, progress, presence, steering)
        except KeyboardInterrupt:
            progress.interrupted = True
            raise
        finally:
            progress.region = None
            crew.kill()
            presence.end()
            _queue_again(queue, sweep)
            progress.stopped()
    BestModels(queue, sweep).tidy()  # the worker of the last trial is ended when the trial is, often before it does
    progress.end()
    _raise_without_result(queue, progress)


def _interrupt_between_steps() -> None:
    """Let Ctrl-C and SIGTERM end the sweep between two steps of `_watch`; the second one ends it at once.

    Raised in the middle of a query, an exception leaves a transaction open, and SQLite locked against this very
    process, which then cannot write down that its trials were cut off. The end of the terminal (SIGHUP), and of the
    program that reads the output (SIGPIPE, for example with `| head`), count too.
    """

    def request(number: int, frame: object) -> None:
        if interruption_requested.is_set() and number == signal.SIGINT:
            os.write(2, b"\nstopped at once; the same command queues the trials that were running again\n")
            os._exit(130)  # workers end by themselves when their supervisor is gone
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


def _queue_again(queue: Queue, sweep: Sweep) -> None:
    """Queue the trials of the workers that were ended with the sweep."""
    end = time.monotonic() + SIGNING_SECONDS
    while queue.has_unsigned() and time.monotonic() < end:  # a worker elsewhere is about to sign it, or ours is gone
        time.sleep(0.1)
    queue.reap(
        max_retries=None,
        reason="stopped with the sweep; queued again",
        unsigned_seconds=SIGNING_SECONDS,
        has_told=functools.partial(tell_from_folder, queue, sweep),
    )


def _watch(
    queue: Queue,
    sweep: Sweep,
    crew: LocalWorkers,
    progress: Progress,
    presence: SupervisorHeartbeat,
    begun_with: Steering,
) -> None:
    reaped, awake = 0.0, time.time()
    beat = sweep.options.heartbeat_seconds
    while True:
        begun = time.process_time()  # not by the clock: waiting for a busy core, or for a server, costs no core
        if queue.is_finished(sweep):
            break
        steering = queue.shared.steering()
        if interruption_requested.is_set() or steering.stops != begun_with.stops:
            raise KeyboardInterrupt
        if steering.n_jobs and steering.changes != begun_with.changes:
            crew.resize(steering.n_jobs, queue)
            begun_with = replace(begun_with, changes=steering.changes)
        check_claim(sweep.folder)
        presence.tick(steering.budget["timeout"])
        crew.tend(queue)
        crew.end_overdue(queue)
        if time.time() - awake > 3 * beat:  # this machine slept: first let its workers speak
            reaped = time.monotonic() + 2 * beat
        awake = time.time()
        if time.monotonic() - reaped > 2:
            queue.reap(sweep.options.max_retries, has_told=functools.partial(tell_from_folder, queue, sweep))
            reaped = time.monotonic()
        progress.show()
        _raise_at_failures(progress, sweep.options)
        crew.rest(_pause(time.process_time() - begun))
    progress.show()


def _pause(look: float) -> float:
    """Return how many seconds to wait after a look at the study that took so many of a core."""
    return min(LONGEST_PAUSE, max(LEAST_PAUSE, PAUSE_FOR_A_LOOK * look))


def _raise_at_failures(progress: Progress, options: Any) -> None:
    streak: list[FrozenTrial] = []
    for trial in progress.seen:
        if trial.state != TrialState.FAIL:
            streak = []
        elif TrialRecord(trial).is_own_failure(options.max_retries):  # not those of a machine that left
            streak.append(trial)
    if len(streak) >= options.max_failures:
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
