"""The trial of a job that one of Hydra's launchers runs elsewhere, and the heartbeats of a running trial."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from sweeper_digits.training import reporting as trials

if TYPE_CHECKING:
    import optuna


@contextlib.contextmanager
def attached() -> Iterator[None]:
    """Connect this job to its trial in the study, by its number, unless its worker is this process.

    While it lasts the trial's heartbeats come from here.

    Raises:
        optuna.TrialPruned: At the end of a trial that was pruned, for the worker to see.
    """
    hydra = HydraConfig.get()
    ours = str(hydra.sweeper.get("_target_")).endswith("StudySweeper")
    if trials.running() is not None or hydra.mode != RunMode.MULTIRUN or not ours:
        yield
        return
    import optuna  # only here: most runs do without

    from sweeper_digits.sweep import queue
    from sweeper_digits.sweep.study import load

    study = load(hydra.sweeper)
    trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, int(hydra.job.num))
    trial = optuna.Trial(study, trial_id)
    queue.heartbeat(study, trial)
    trial.set_user_attr(trials.ATTACHED, True)
    by_fold = isinstance(study.pruner, optuna.pruners.WilcoxonPruner)
    running = trials.RunningTrial(trial, by_fold=by_fold, prunes=len(study.directions) == 1)
    life = SignOfLife(study, hydra.sweeper.heartbeat_seconds)
    life.trial = trial
    trials.set_running(running)
    try:
        yield
    finally:
        life.stop()
        trials.set_running(None)
    if running.pruned:
        raise optuna.TrialPruned()


class SignOfLife(threading.Thread):
    """Send heartbeats while a trial runs, and end the process when the one that started it is gone.

    Args:
        study: Of the trial.
        interval: Seconds between heartbeats.
    """

    def __init__(self, study: "optuna.Study", interval: float) -> None:
        super().__init__(daemon=True)
        self.study, self.interval = study, interval
        self.trial: optuna.Trial | None = None
        self.parent = os.getppid()
        self.stopped = threading.Event()
        self.start()

    def run(self) -> None:
        """Look every half second."""
        from sweeper_digits.sweep import queue

        last = 0.0
        while not self.stopped.wait(0.5):
            if os.getppid() != self.parent:
                os._exit(1)  # the trial is failed and queued again by whoever continues the sweep
            trial = self.trial
            if trial is not None and time.monotonic() - last > self.interval:
                last = time.monotonic()
                with contextlib.suppress(Exception):  # a database that is away must not end a training
                    queue.heartbeat(self.study, trial)

    def stop(self) -> None:
        """End the thread."""
        self.stopped.set()
