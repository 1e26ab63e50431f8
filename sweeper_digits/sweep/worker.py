"""A worker process: asks for trials, runs each in Hydra's way, tells how it ended."""

import contextlib
import errno
import functools
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import optuna
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from optuna.trial import TrialState

from sweeper_digits.errors import OtherData, UserError
from sweeper_digits.overrides import override_key, override_text
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.judge import standard_error
from sweeper_digits.runs.record import read_metrics_alone
from sweeper_digits.sweep import dashboard
from sweeper_digits.sweep.job import Heartbeats, running_trial
from sweeper_digits.sweep.private import share_folder_of_jobs, start_ray
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.record import TrialRecord, best_trials, owed, trials_of
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.storage import StorageError, study_lock
from sweeper_digits.sweep.study import open_study
from sweeper_digits.training import reporting

log = logging.getLogger(__name__)

# Set by the supervisor: this process is worker number ...
NUMBER = "SWEEPER_DIGITS_WORKER"
# Set by the supervisor: its process id. Once the imports are done, it may be dead and this process another's child.
SUPERVISOR = "SWEEPER_DIGITS_SUPERVISOR"
# Set by the supervisor: how often the number of workers had been changed when it began.
CHANGES = "SWEEPER_DIGITS_CHANGES"
# Errors of a disk that a person must mend, and the exit status of a worker that meets one.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# Exit status of a worker whose trial has read other data than the study's; the cause is the trial's error.
OTHER_DATA = 65
# Between looks at whether a job elsewhere is still the trial's.
LOOK_SECONDS = 3.0
# Samplers and Hydra's composing are not made for several threads.
_asking = threading.Lock()


def is_worker() -> bool:
    """Return whether the supervisor started this process."""
    return NUMBER in os.environ


def runs_elsewhere(sweep: Sweep) -> bool:
    """Return whether a launcher such as submitit's or Ray's runs the trials, not the workers themselves."""
    return not str(sweep.config.hydra.launcher._target_).endswith("BasicLauncher")


def work(sweep: Sweep, launcher: Launcher) -> None:
    """Run trials until the study has enough of them.

    Where a launcher runs them elsewhere, this one process keeps n_jobs of them in flight, a thread for each.
    """
    queue = open_study(sweep)
    parent = int(os.environ.get(SUPERVISOR, os.getppid()))
    heartbeats = Heartbeats(queue, sweep.options.heartbeat_seconds, parent)
    if not runs_elsewhere(sweep):
        _run_trials(queue, sweep, launcher, heartbeats)
        return
    if hasattr(launcher, "ray_cfg"):  # its threads would each start a cluster
        start_ray(launcher.ray_cfg.init)
    share_folder_of_jobs(launcher)
    _keep_in_flight(queue, sweep, launcher)


def _keep_in_flight(queue: Queue, sweep: Sweep, launcher: Launcher) -> None:
    """Keep n_jobs trials in flight, or as many as a person wants since; a slot that is too many ends with its trial."""
    changes, wanted = int(os.environ[CHANGES]), sweep.options.n_jobs
    slots: dict[int, threading.Thread] = {}
    ended: list[int] = []  # statuses with which a slot wants to end this process

    def run(slot: int) -> None:
        try:
            _run_trials(queue, sweep, launcher, None, functools.partial(is_wanted, slot))
        except SystemExit as end:
            ended.append(int(end.code or 0))

    def is_wanted(slot: int) -> bool:
        return slot < wanted

    while not slots or any(slot.is_alive() for slot in slots.values()):
        steering = queue.shared.steering()
        if steering.n_jobs and steering.changes != changes:
            wanted = steering.n_jobs
        for number in [number for number, slot in slots.items() if number >= wanted and not slot.is_alive()]:
            del slots[number]
        for number in set(range(wanted)) - slots.keys():
            slots[number] = threading.Thread(target=run, args=(number,))
            slots[number].start()
        time.sleep(0.5)
        if ended:
            os._exit(ended[0])  # not by an exception: Python would wait for the other slots


def _run_trials(
    queue: Queue,
    sweep: Sweep,
    launcher: Launcher,
    heartbeats: Heartbeats | None,
    is_wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Run trials one after the other; elsewhere, if this process sends no heartbeats for them."""
    best = BestModels(queue, sweep)
    while is_wanted() and not queue.is_finished(sweep):
        with _asking:
            trial = queue.ask(sweep)
        if trial is None:  # the last ones run elsewhere; one of them may yet die
            time.sleep(0.3)
            continue
        queue.record_worker(trial, runs_here=heartbeats is not None)
        if heartbeats:
            heartbeats.number = trial.number
        _run(queue, sweep, trial, launcher, here=heartbeats is not None)
        if heartbeats:
            heartbeats.number = None
        best.tidy()


def _run(queue: Queue, sweep: Sweep, trial: optuna.Trial, launcher: Launcher, here: bool) -> None:
    running = running_trial(queue, trial, f"{socket.gethostname()}/{os.environ[NUMBER]}") if here else None
    reporting.set_current_trial(running)
    try:
        with _asking, _drawing(queue, sweep):
            overrides = sweep.suggest(trial)
        extra = [] if "figures" in map(override_key, overrides) else ["figures=false"]
        resumed = _checkpoint(queue, sweep, trial)
        extra += [f"resume={override_text(str(resumed))}"] if resumed else []
        launch = functools.partial(launcher.launch, [[*overrides, *extra]], initial_job_idx=trial.number)
        (done,) = launch() if here else _watched(launch, queue, trial)
        if isinstance(done._return_value, StorageError):
            raise done._return_value
        _end_if_none_can_run(queue, sweep, trial, done._return_value)
        state, values, error = outcome(done, running, len(sweep.objectives))
    except StorageError:  # the next supervisor of the sweep fails the trial and queues it again
        raise
    except Exception as raised:  # by the sampler or while composing; elsewhere, by the scheduler: not our own failure
        log.exception("trial %d", trial.number)
        state, values, error = TrialState.FAIL, None, _described(raised)
        if not here:  # a job that fails by itself returns its error: this one was killed, or its node died
            lost = queue.read(trial.number)
            if not lost.state.is_finished():  # or its heartbeats have told so already
                queue.fail_and_requeue(lost, " ".join(error.split()), sweep.options.max_retries)
            return  # its folder stays as it is, to be continued
    finally:
        reporting.set_current_trial(None)
    if queue.read(trial.number).state.is_finished():
        return  # its heartbeats had stopped: another worker has it, and continues from its folder
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        if error:
            error = " ".join(error.split())
            TrialRecord.write(trial, error=error)
            _write_failure(sweep.folder / str(trial.number), error)
        TrialRecord.write(trial, epochs=RunFolder(sweep.folder / str(trial.number)).epochs())
        if state == TrialState.COMPLETE and len(sweep.objectives) == 1:
            record = read_metrics_alone(sweep.folder / str(trial.number))
            if (chance := standard_error(record, sweep.objectives[0])) is not None:
                TrialRecord.write(trial, standard_error=chance)
        dashboard.show(queue, trial, sweep)
        queue.study.tell(trial, values, state=state, skip_if_finished=True)


def _drawing(queue: Queue, sweep: Sweep) -> contextlib.AbstractContextManager[None]:
    """Keep other processes from drawing at the same time where a point could be drawn twice."""
    return study_lock(queue.storage, queue.study.study_name) if sweep.may_repeat else contextlib.nullcontext()


def _end_if_none_can_run(queue: Queue, sweep: Sweep, trial: optuna.Trial, result: object) -> None:
    """End this worker if a trial could not write, or read other data: no failure of its own, and the next one's too.

    Its point is tried again once a person has mended the cause.
    """
    if isinstance(result, OtherData):
        log.error("trial %d: %s", trial.number, result)
        _write_failure(sweep.folder / str(trial.number), str(result))
        queue.fail_and_requeue(queue.read(trial.number), str(result), max_retries=None)
        raise SystemExit(OTHER_DATA)
    status = next((code for code in DISK_ERRORS if os.strerror(code) in str(result)), None)
    if isinstance(result, OSError) and status:
        log.error("trial %d: %s", trial.number, result)
        queue.fail_and_requeue(queue.read(trial.number), str(result), max_retries=None)
        raise SystemExit(status)


def _watched(launch: Callable[[], Sequence[JobReturn]], queue: Queue, trial: optuna.Trial) -> Sequence[JobReturn]:
    """Wait for a job elsewhere, but not longer than its heartbeats: not every scheduler tells of a node's death."""
    job: Future[Sequence[JobReturn]] = Future()

    def run() -> None:
        try:
            job.set_result(launch())
        except BaseException as error:
            job.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # not of an executor, which would be waited for at the end
    while not wait([job], timeout=LOOK_SECONDS).done:
        frozen = queue.read(trial.number)
        if frozen.state.is_finished():
            raise RuntimeError("the job gave no sign of life any more")
        if not TrialRecord(frozen).attached:
            # It waits in a scheduler: this process answers for it.
            queue.heartbeat(trial.number)
    return job.result()


def outcome(
    done: JobReturn, running: reporting.RunningTrial | None, objectives: int
) -> tuple[TrialState, list[float] | None, str | None]:
    """Return the state of a trial, its values if complete, and what went wrong if failed."""
    if running and running.pruned:
        return TrialState.PRUNED, None, None
    result: Any = done._return_value
    if done.status != JobStatus.COMPLETED:
        if isinstance(result, optuna.TrialPruned):
            return TrialState.PRUNED, None, None
        return TrialState.FAIL, None, _described(result)
    try:
        values = [float(value) for value in (result if isinstance(result, list | tuple) else [result])]
    except (TypeError, ValueError):
        values = []
    if len(values) != objectives or not all(math.isfinite(value) for value in values):
        return TrialState.FAIL, None, f"the objective is {result}"
    return TrialState.COMPLETE, values, None


def _checkpoint(queue: Queue, sweep: Sweep, trial: optuna.Trial) -> Path | None:
    """Return the folder of the latest trial that this one continues and that left something to continue."""
    for number in TrialRecord(queue.read(trial.number)).continues:
        before = RunFolder(sweep.folder / str(number))
        if before.checkpoint.exists() or before.folds():
            return before.folder
    return None


class BestModels:
    """Keeps the weights of the best trials: of `keep_models`, and of the whole Pareto front.

    Where trials validate on other images, all keep theirs. Several workers may delete the same; each looks once at a
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


def _described(error: object) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _write_failure(folder: Path, error: str) -> None:
    if folder.is_dir() and not RunFolder(folder).metrics.exists():
        RunFolder(folder).write_metrics({"state": "failed", "error": error})
