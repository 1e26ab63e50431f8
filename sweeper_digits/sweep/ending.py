"""How a trial ends: what its process tells the study, and what is told of a trial whose process is gone or too slow."""

import contextlib
import math
import signal
import time
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.judge import standard_error
from sweeper_digits.runs.record import read_metrics_alone
from sweeper_digits.sweep import dashboard
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.record import OUT_OF_MEMORY, TrialRecord, stored_error, trials_of
from sweeper_digits.sweep.space import Sweep

# A trial that a person stops ends with its epoch, or after so many seconds.
SECONDS_TO_STOP = 3.0


def tell(
    queue: Queue,
    sweep: Sweep,
    trial: optuna.Trial,
    state: TrialState,
    values: Sequence[float] | None = None,
    error: str | None = None,
) -> None:
    """Tell the study how a trial ended, unless it knows already.

    Args:
        queue: The queue of the study.
        sweep: The sweep.
        trial: The trial.
        state: How it ended.
        values: The values of its objectives, if it is complete.
        error: What went wrong, if it failed.
    """
    folder = RunFolder(sweep.folder / str(trial.number))
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        if error:
            error = stored_error(error)
            TrialRecord.write(trial, error=error)
            if folder.folder.is_dir() and not folder.metrics.exists():
                folder.write_metrics({"state": "failed", "error": error})
        TrialRecord.write(trial, epochs=folder.epochs())
        if state == TrialState.COMPLETE and len(sweep.objectives) == 1:
            chance = standard_error(read_metrics_alone(folder.folder), sweep.objectives[0])
            if chance is not None:
                TrialRecord.write(trial, standard_error=chance)
        dashboard.show(queue, trial, sweep)
        queue.study.tell(trial, values, state=state, skip_if_finished=True)


def tell_from_folder(queue: Queue, sweep: Sweep, number: int) -> bool:
    """Tell the study how the run of a trial ended whose process died before it could; False: the run has not ended.

    Args:
        queue: The queue of the study.
        sweep: The sweep.
        number: The number of the trial, which the study takes for running.
    """
    record = read_metrics_alone(sweep.folder / str(number))
    values = [record.value(name) for name in sweep.objectives]
    if record.state == "finished" and all(value is not None and math.isfinite(value) for value in values):
        tell(queue, sweep, queue.attach(number), TrialState.COMPLETE, [float(value or 0.0) for value in values])
        return True
    if record.state in ("pruned", "diverged"):
        tell(queue, sweep, queue.attach(number), TrialState.PRUNED)
        return True
    return False


def take_over_finished(queue: Queue, sweep: Sweep, trial: optuna.Trial) -> bool:
    """End a trial at once whose predecessor had finished when its process was lost; return whether there is one.

    The run's folder becomes the trial's own.
    """
    for number in TrialRecord(queue.read(trial.number)).continues:
        before, own = sweep.folder / str(number), sweep.folder / str(trial.number)
        if read_metrics_alone(before).state in ("finished", "pruned", "diverged") and not own.exists():
            before.rename(own)
            return tell_from_folder(queue, sweep, trial.number)
    return False


def described(error: object) -> str:
    """Return what the study keeps of an error that a job raised."""
    said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    if OUT_OF_MEMORY.search(said):
        return f"out of memory; a smaller batch_size or hydra.sweeper.n_jobs needs less: {said}"
    return said


def described_end(status: int) -> str:
    """Return what the exit status of a worker says of its end, as `Popen.poll` gives it."""
    if status >= 0:
        return f"its worker died: it ended with exit status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return f"its worker died: killed by {name}" + (
        ", as the kernel does where memory runs out" if status == -signal.SIGKILL else ""
    )


class Limits:
    """Ends trials that a person stopped, or whose time is over, even where they sleep in C code.

    Args:
        queue: The queue of the study.
        sweep: The sweep, with `hydra.sweeper.trial_timeout`.
    """

    def __init__(self, queue: Queue, sweep: Sweep) -> None:
        self.queue, self.seconds = queue, sweep.options.trial_timeout
        # By trial: when this process first saw it run, and first saw that a person stopped it; by its own clock.
        self.seen: dict[int, float] = {}
        self.stopped: dict[int, float] = {}

    def overdue(self) -> list[FrozenTrial]:
        """End the trials that are overdue, in the study; return them: their processes are to be killed."""
        now, found = time.monotonic(), []
        for trial in trials_of(self.queue.study):
            if trial.state != TrialState.RUNNING:
                continue
            begun = self.seen.setdefault(trial.number, now)
            if TrialRecord(trial).stop:
                if now - self.stopped.setdefault(trial.number, now) >= SECONDS_TO_STOP and self._prune(trial):
                    found.append(trial)
            elif self.seconds is not None and now - begun >= self.seconds and self._fail(trial):
                found.append(trial)
        return found

    def _prune(self, trial: FrozenTrial) -> bool:
        try:
            self.queue.study.tell(trial.number, state=TrialState.PRUNED)
            return True
        except ValueError:  # it has just ended
            return False

    def _fail(self, trial: FrozenTrial) -> bool:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            error = f"it ran longer than hydra.sweeper.trial_timeout={self.seconds:g} seconds"
            self.queue.write(trial.number, error=error)
            return self.queue.set_state(trial.number, TrialState.FAIL)
        return False
