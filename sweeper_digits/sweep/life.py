"""Heartbeats of a running trial, and the end of a worker that nobody supervises any more."""

import contextlib
import os
import threading
import time

import optuna

from sweeper_digits.sweep import study as studies


class SignOfLife(threading.Thread):
    """Send heartbeats while a trial runs, and end the process when the one that started it is gone.

    Args:
        study: Of the trial.
        interval: Seconds between heartbeats.
    """

    def __init__(self, study: optuna.Study, interval: float) -> None:
        super().__init__(daemon=True)
        self.study, self.interval = study, interval
        self.trial: optuna.Trial | None = None
        self.parent = os.getppid()
        self.stopped = threading.Event()
        self.start()

    def run(self) -> None:
        """Look every half second."""
        last = 0.0
        while not self.stopped.wait(0.5):
            if os.getppid() != self.parent:
                os._exit(1)  # the trial is failed and queued again by whoever continues the sweep
            trial = self.trial
            if trial is not None and time.monotonic() - last > self.interval:
                last = time.monotonic()
                with contextlib.suppress(Exception):  # a database that is away must not end a training
                    studies.heartbeat(self.study, trial)

    def stop(self) -> None:
        """End the thread."""
        self.stopped.set()
