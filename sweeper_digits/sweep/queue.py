"""The queue of a study: one budget over all workers, asking, failing, and trials whose worker died."""

import itertools
import math
import os
import socket
import warnings
from collections import Counter
from datetime import datetime
from typing import Any

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.storage import RetryingStorage

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
# A worker records itself milliseconds after it has asked for a trial.
UNRECORDED_SECONDS = 30
# Optuna's own attribute of a queued trial: the parameters that it was queued with.
QUEUED_WITH = "fixed_params"


class Queue:
    """The trials of a study as its workers share them, addressed by number.

    Args:
        study: The study.
        storage: The storage of the study.
    """

    def __init__(self, study: optuna.Study, storage: RetryingStorage) -> None:
        self.study, self.storage = study, storage
        self.study_id = storage.get_study_id_from_name(study.study_name)

    def read(self, number: int) -> FrozenTrial:
        """Return a trial as the storage has it now."""
        return self.storage.get_trial(self._id(number))

    def attach(self, number: int) -> optuna.Trial:
        """Return a running trial to report to."""
        return optuna.Trial(self.study, self._id(number))

    def fill(self, sweep: Sweep) -> None:
        """Queue the points that are to be tried first, or all of a finite space, unless they were already.

        A point that failed is tried again when the command is given again.
        """
        alive = [trial for trial in trials_of(self.study) if trial.state != TrialState.FAIL]
        if listed := sweep.runs_listed():
            known = [trial.user_attrs.get("point") for trial in alive]
            for point in (point for point in listed if point not in known):
                attributes: dict[str, Any] = {QUEUED_WITH: {}}
                self.study.add_trial(
                    optuna.create_trial(state=TrialState.WAITING, user_attrs={"point": point}, system_attrs=attributes)
                )
            return
        points = sweep.points_first()
        if sweep.is_enumerated:
            points += itertools.islice(sweep.points(), sweep.options.n_trials)
        # enqueue_trial(skip_if_exists=True) reads the whole study for each point.
        queued = {repr(sorted((trial.system_attrs.get(QUEUED_WITH) or trial.params).items())) for trial in alive}
        for point in points:
            if (key := repr(sorted(point.items()))) not in queued:
                queued.add(key)
                self.study.enqueue_trial(point)

    def is_finished(self, sweep: Sweep) -> bool:
        """Return whether nothing is left to run.

        By one look: between two, a waiting trial could be begun and be in neither.
        """
        trials = trials_of(self.study)
        if sweep.is_enumerated:
            return not _with_point(trials) and not any(trial.state == TrialState.RUNNING for trial in trials)
        return sum(trial.state in DONE for trial in trials) >= sweep.options.n_trials

    def ask(self, sweep: Sweep) -> optuna.Trial | None:
        """Begin a trial, or return None while no place is free.

        Counting and asking are two steps, so that several workers can ask for the last place at
        once: each counts again and gives back what is too much.
        """
        if sweep.is_enumerated:
            return self._begin_queued()
        places = sweep.options.n_trials
        if self._taken() >= places:
            return None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with Study.optimize")
            trial = self.study.ask()
        if self._taken(before=trial.number) >= places:
            self.storage.set_trial_state_values(self._id(trial.number), TrialState.WAITING)
            return None
        return trial

    def record_worker(self, trial: optuna.Trial, runs_here: bool = True) -> None:
        """Write down which process answers for the trial and, if it runs here too, its first heartbeat.

        A job that waits in a scheduler's queue must not count as dead: its own process sends the first.
        """
        if runs_here:
            self.heartbeat(trial.number)
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}")

    def heartbeat(self, number: int) -> None:
        """Tell the storage that the trial's process lives."""
        self.storage.record_heartbeat(self._id(number))

    def reap(self, max_retries: int | None, reason: str = "its worker died") -> list[FrozenTrial]:
        """Fail the running trials whose process is gone, and queue them again.

        A process of this machine is looked up; beyond that, a trial whose heartbeats have stopped is failed, wherever
        it runs.

        Args:
            max_retries: How often a worker of one point may die; None: always queue the point again.
            reason: For the trial's `error`.

        Returns:
            The trials that were failed, without those whose heartbeats have stopped.
        """
        running = [trial for trial in trials_of(self.study) if trial.state == TrialState.RUNNING]
        dead = [trial for trial in running if is_dead(trial)]
        failed = [trial for trial in dead if self.fail_and_requeue(trial, reason, max_retries)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)
        return failed

    def fail_and_requeue(self, trial: FrozenTrial, reason: str, max_retries: int | None) -> bool:
        """Fail a trial that was cut off and queue its point again; False if it is finished already."""
        trial_id = self._id(trial.number)
        try:
            self.storage.set_trial_user_attr(trial_id, "cut_off", True)
            self.storage.set_trial_user_attr(trial_id, "error", reason)
            failed = self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        if failed:
            requeue(self.study, trial, max_retries)
        return failed

    def _id(self, number: int) -> int:
        """Return the storage's id of a trial; from the cache, once the trial was read or begun here."""
        return self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)

    def _begin_queued(self) -> optuna.Trial | None:
        for waiting in _with_point(trials_of(self.study)):
            try:
                if self.storage.set_trial_state_values(self._id(waiting.number), TrialState.RUNNING):
                    return self.attach(waiting.number)
            except optuna.exceptions.UpdateFinishedTrialError:
                continue
        return None

    def _taken(self, before: float = math.inf) -> int:
        """Return how many trials are done, or are running with a smaller number."""
        return sum(
            trial.state in DONE or (trial.state == TrialState.RUNNING and trial.number < before)
            for trial in trials_of(self.study)
        )


def trials_of(study: optuna.Study) -> list[FrozenTrial]:
    """Return all trials, not to be changed (copying them all takes longer than reading them)."""
    return study.get_trials(deepcopy=False)


def counts(study: optuna.Study) -> Counter[TrialState]:
    """Return how many trials are in each state."""
    return Counter(trial.state for trial in trials_of(study))


def best_first(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials, best first; with several objectives the Pareto front before the rest."""
    complete = [trial for trial in trials_of(study) if trial.state == TrialState.COMPLETE]
    front = {trial.number for trial in study.best_trials} if len(study.directions) > 1 else set()
    signs = [1 if direction == optuna.study.StudyDirection.MINIMIZE else -1 for direction in study.directions]

    def key(trial: FrozenTrial) -> tuple[Any, ...]:
        values = [sign * value for sign, value in zip(signs, trial.values, strict=True)]
        return trial.number not in front, values, trial.number

    return sorted(complete, key=key)


def requeue(study: optuna.Study, trial: FrozenTrial, max_retries: int | None) -> None:
    """Queue the point of a trial that was cut off again, unless it was too often.

    The attributes are those of Optuna's RetryHeartbeatStaleTrialCallback, which would also copy the record of the
    dead worker.

    Args:
        study: The study of the trial.
        trial: The trial that failed.
        max_retries: How often its worker may die; None: it was stopped, which does not count.
    """
    history = [*reversed(continued_by(trial)), trial.number]
    deaths = trial.system_attrs.get("deaths", 0) + (max_retries is not None)
    if max_retries is not None and deaths > max_retries:
        return
    kept = {name: value for name, value in trial.system_attrs.items() if name == QUEUED_WITH}
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={name: value for name, value in trial.user_attrs.items() if name == "point"},
            system_attrs=kept | {"failed_trial": history[0], "retry_history": history, "deaths": deaths},
        )
    )


def is_own_failure(trial: FrozenTrial, max_retries: int) -> bool:
    """Return whether a trial failed by itself, or was cut off so often that it is not tried again."""
    # Where heartbeats stopped, Optuna set it to FAIL and nothing wrote why.
    cut_off = "cut_off" in trial.user_attrs or "error" not in trial.user_attrs
    return not cut_off or trial.system_attrs.get("deaths", 0) >= max_retries


def continued_by(trial: FrozenTrial) -> list[int]:
    """Return the numbers of the trials that this one continues, the latest first."""
    return [int(number) for number in reversed(trial.system_attrs.get("retry_history", []))]


def is_dead(trial: FrozenTrial) -> bool:
    """Return whether a running trial's process, one of this machine, is gone."""
    worker = trial.user_attrs.get("worker")
    if worker is None:
        started = trial.datetime_start
        return started is not None and (datetime.now() - started).total_seconds() > UNRECORDED_SECONDS
    host, pid, created = worker.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        # A clock that is set moves the time of creation too; a process id is not used again within a minute.
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - float(created)) > 60
    except psutil.NoSuchProcess:
        return True


def _with_point(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the waiting trials that have a point; one that was given back has none."""
    waiting = (trial for trial in trials if trial.state == TrialState.WAITING)
    return [trial for trial in waiting if trial.params or QUEUED_WITH in trial.system_attrs]
