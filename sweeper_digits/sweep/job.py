"""The process in which a trial runs: its heartbeats, and its connection to the study where a launcher started it."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from sweeper_digits.schema import is_study_sweeper
from sweeper_digits.training import reporting

if TYPE_CHECKING:  # a single run does without Optuna
    import optuna

    from sweeper_digits.sweep.queue import Queue


@contextlib.contextmanager
def attached() -> Iterator[None]:
    """Connect this job to its trial in the study, by its number, unless its worker is this process.

    While it lasts the trial's heartbeats come from here.

    Raises:
        optuna.TrialPruned: At the end of a trial that was pruned, for the worker to see.
    """
    hydra = HydraConfig.get()
    if reporting.current_trial() is not None or hydra.mode != RunMode.MULTIRUN or not is_study_sweeper(hydra.sweeper):
        yield
        return
    import optuna

    from sweeper_digits.sweep import attributes
    from sweeper_digits.sweep.study import load

    queue = load(hydra.sweeper)
    trial = queue.attach(int(hydra.job.num))
    queue.heartbeat(trial.number)
    attributes.keep_with_trial(trial, reporting.ATTACHED, True)
    running = running_trial(queue, trial, socket.gethostname())
    heartbeats = Heartbeats(queue, hydra.sweeper.heartbeat_seconds, os.getppid())
    heartbeats.number = trial.number
    reporting.set_current_trial(running)
    try:
        yield
    finally:
        heartbeats.stop()
        reporting.set_current_trial(None)
    if running.pruned:
        raise optuna.TrialPruned()


def running_trial(queue: "Queue", trial: "optuna.Trial", worker: str) -> reporting.RunningTrial:
    """Return a trial as the training in this process reports to it.

    Args:
        queue: The queue of the study.
        trial: The trial.
        worker: Names the process for a person.
    """
    from optuna.pruners import NopPruner, WilcoxonPruner

    from sweeper_digits.sweep.following import Follower
    from sweeper_digits.sweep.front import FrontPruner, FrontReports

    pruner, prunes = queue.study.pruner, len(queue.study.directions) == 1
    ends_hopeless = not isinstance(pruner, NopPruner)
    front = FrontReports(queue, trial) if isinstance(pruner, FrontPruner) else None
    link = Follower(queue, trial.number, worker)
    link.begin()
    return reporting.RunningTrial(trial, isinstance(pruner, WilcoxonPruner), prunes, ends_hopeless, front, link)


class Heartbeats(threading.Thread):
    """Send heartbeats while a trial runs, and end the process when the one that started it is gone.

    Args:
        queue: The queue of the trial.
        interval: Seconds between heartbeats.
        parent: The process that started this one.

    Attributes:
        number: Of the trial that runs now, or None.
    """

    def __init__(self, queue: "Queue", interval: float, parent: int) -> None:
        super().__init__(daemon=True)
        self.queue, self.interval = queue, interval
        self.number: int | None = None
        self.parent = parent
        self.stopped = threading.Event()
        self.start()

    def run(self) -> None:
        """Look every half second."""
        last = 0.0
        while not self.stopped.wait(0.5):
            if os.getppid() != self.parent:
                os._exit(1)  # the trial is failed and queued again by the next supervisor of the sweep
            number = self.number
            if number is not None and time.monotonic() - last > self.interval:
                last = time.monotonic()
                with contextlib.suppress(Exception):  # a database that is away must not end a training
                    self.queue.heartbeat(number)

    def stop(self) -> None:
        """End the thread."""
        self.stopped.set()
