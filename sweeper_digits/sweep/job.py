"""The process in which a trial runs: what it tells the study, its heartbeats, and the trial of a launcher's job."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping

import optuna
from hydra.core.hydra_config import HydraConfig
from optuna.pruners import NopPruner, WilcoxonPruner

from sweeper_digits.components import Data
from sweeper_digits.data.fingerprint import Content
from sweeper_digits.sweep.comparable import check_data
from sweeper_digits.sweep.pruning import FrontPruner
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.record import TrialRecord
from sweeper_digits.sweep.study import load
from sweeper_digits.training import reporting

# Set in a process of a local slot: the number of the slot.
SLOT = "SWEEPER_DIGITS_SLOT"
# Whether a job has a process of its own, which ends with its trial; the loop says otherwise where it runs jobs itself.
is_alone = True


@contextlib.contextmanager
def attached() -> Iterator[None]:
    """Connect this job, which a launcher started, to its trial in the study, by its number.

    While it lasts the trial's heartbeats come from here.

    Raises:
        optuna.TrialPruned: At the end of a trial that was pruned, for the worker to see.
    """
    hydra = HydraConfig.get()
    queue = load(hydra.sweeper)
    trial = queue.attach(int(hydra.job.num))
    queue.heartbeat(trial.number)
    TrialRecord.write(trial, attached=True)
    slot = os.environ.get(SLOT)
    running = running_trial(queue, trial, socket.gethostname() + (f"/{slot}" if slot else ""))
    heartbeats = Heartbeats(queue, trial.number, hydra.sweeper.heartbeat_seconds, os.getppid(), is_job=is_alone)
    reporting.set_current_trial(running)
    try:
        yield
    finally:
        heartbeats.stop()
        reporting.set_current_trial(None)
    if running.pruned:
        raise optuna.TrialPruned()


def running_trial(queue: Queue, trial: optuna.Trial, worker: str) -> reporting.RunningTrial:
    """Return a trial as the training in this process reports to it.

    Args:
        queue: The queue of the study.
        trial: The trial.
        worker: Names the process for a person.
    """
    pruner, prunes = queue.study.pruner, len(queue.study.directions) == 1
    stops_chance = not isinstance(pruner, NopPruner)
    front = FrontReports(queue, trial) if isinstance(pruner, FrontPruner) else None
    link = ProgressWriter(queue, trial.number, worker)
    link.begin()
    return reporting.RunningTrial(trial, isinstance(pruner, WilcoxonPruner), prunes, stops_chance, front, link)


# Between looks at whether the study has ended a job's trial.
LOOK_SECONDS = 2.0


class Heartbeats(threading.Thread):
    """Send heartbeats while a trial runs, and end the process when the one that started it is gone.

    Args:
        queue: The queue of the trial.
        number: The number of the trial.
        interval: Seconds between heartbeats.
        parent: The process that started this one.
        is_job: Whether this process has the trial alone, and ends once the study says that the trial has ended: a
            person stopped it, or its time is over.
    """

    def __init__(self, queue: Queue, number: int, interval: float, parent: int, is_job: bool) -> None:
        super().__init__(daemon=True)
        self.queue, self.number, self.interval, self.parent, self.is_job = queue, number, interval, parent, is_job
        self.stopped = threading.Event()
        self.start()

    def run(self) -> None:
        """Look every half second."""
        last = looked = 0.0
        while not self.stopped.wait(0.5):
            if os.getppid() != self.parent:
                os._exit(1)  # the trial is failed and queued again by the next supervisor of the sweep
            if self.is_job and time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                with contextlib.suppress(Exception):
                    if self.queue.read(self.number).state.is_finished() and not self.stopped.is_set():
                        os._exit(1)
            if time.monotonic() - last > self.interval:
                last = time.monotonic()
                with contextlib.suppress(Exception):  # a database that is away must not end a training
                    self.queue.heartbeat(self.number)

    def stop(self) -> None:
        self.stopped.set()


class ProgressWriter:
    """Tells the study of a trial how far the trial is.

    Args:
        queue: The queue of the study.
        number: The number of the trial.
        worker: Names the worker for a person: its number, or the machine of a job.

    Attributes:
        trained: Epochs that the trial trained itself.
        taken_over: Epochs that it took over from a trial that was cut off.
    """

    def __init__(self, queue: Queue, number: int, worker: str) -> None:
        self.queue, self.number, self.worker = queue, number, worker
        self.trained = self.taken_over = 0

    def begin(self) -> None:
        """Tell the study which worker has the trial."""
        self._write({})

    def take_over(self, epochs: int) -> None:
        """Tell the study of epochs that the trial took over."""
        self.taken_over += epochs
        self._write({})

    def check_data(self, option: Data, content: Content) -> None:
        """Compare what the trial has read with what earlier trials of the study have; see `comparable.check_data`."""
        check_data(self.queue, option, content)

    def tell(self, progress: Mapping[str, float]) -> bool:
        """Tell the study of an epoch; return whether a person has stopped the trial.

        Args:
            progress: `epoch`, counted from 1, `epochs`, and what the epoch measured.
        """
        self.trained += 1
        self._write(progress)
        return bool(TrialRecord(self.queue.read(self.number)).stop)

    def _write(self, progress: Mapping[str, float]) -> None:
        about = {"worker": self.worker, "trained": self.trained, "taken_over": self.taken_over}
        self.queue.write(self.number, progress={**about, **progress})


class FrontReports:
    """The reports of a trial with several objectives: see `training.reporting.Front`.

    Args:
        queue: The queue of the trial.
        trial: The trial.
    """

    def __init__(self, queue: Queue, trial: optuna.Trial) -> None:
        self.queue, self.trial = queue, trial
        self.names = list(queue.study.metric_names or [])
        self.curve: list[list[float]] = []

    def report(self, measured: Mapping[str, float]) -> bool:
        """Store the objectives after an epoch; return whether the trial is to stop."""
        self.curve.append([measured[name] for name in self.names])
        TrialRecord.write(self.trial, curve=self.curve)
        study = self.queue.study
        return study.pruner.prune(study, self.queue.read(self.trial.number))
