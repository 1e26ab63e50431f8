"""The queue of a study: one budget over all workers, asking, failing, and trials whose worker died."""

import contextlib
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.runs import process
from sweeper_digits.sweep.points import points_to_queue
from sweeper_digits.sweep.pruning import BEST_SCOUT, NEAR_BEST
from sweeper_digits.sweep.record import DONE, TrialRecord, failures, owed, stored_error, trials_of, with_point
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.steering import SharedSettings
from sweeper_digits.sweep.storage import RetryingStorage, study_lock

# A worker signs its trial milliseconds after it has asked for it; another fails one that is not signed for so long.
UNSIGNED_SECONDS = 3.0


class Queue:
    """The trials of a study as its workers share them, addressed by number.

    Args:
        study: The study.
        storage: The storage of the study.
    """

    def __init__(self, study: optuna.Study, storage: RetryingStorage) -> None:
        self.study, self.storage = study, storage
        self.study_id = storage.get_study_id_from_name(study.study_name)
        self.shared = SharedSettings(study, storage)
        # By trial: when this process first saw it running without a signature, by its own clock.
        self.unsigned_since: dict[int, float] = {}

    def read(self, number: int) -> FrozenTrial:
        """Return a trial as the storage has it now."""
        return self.storage.get_trial(self._id(number))

    def attach(self, number: int) -> optuna.Trial:
        """Return a running trial to report to."""
        return optuna.Trial(self.study, self._id(number))

    def fill(self, sweep: Sweep) -> None:
        """Queue the points that are to be tried first, or all of a finite space, unless they were already.

        A point that failed would fail again: it is tried again only with hydra.sweeper.retry_failed=true.
        """
        trials = trials_of(self.study)
        alive = [trial for trial in trials if trial.state != TrialState.FAIL]
        alive += owed(trials, sweep.options.max_retries)  # `reap` queues these again
        if not sweep.options.retry_failed:
            alive += failures(trials, sweep.options.max_retries)
        if listed := sweep.runs_listed():
            known = [TrialRecord(trial).listed for trial in alive]
            for point in (point for point in listed if point not in known):
                kept = TrialRecord.of_new(listed=point, queued_with={})
                self.study.add_trial(optuna.create_trial(state=TrialState.WAITING, **kept))
            return
        for point in points_to_queue(sweep, alive, is_new=self.shared.record.steering is None):
            self.study.enqueue_trial(point)

    def is_finished(self, sweep: Sweep) -> bool:
        """Return whether nothing is left to run.

        By one look: between two, a waiting trial could be begun and be in neither.
        """
        trials = trials_of(self.study)
        running = any(trial.state == TrialState.RUNNING for trial in trials)
        if sweep.is_enumerated and not (running or with_point(trials) or owed(trials, sweep.options.max_retries)):
            return True
        used_up = self.shared.budget().used_up(self.study, trials) is not None
        return not running and (used_up or _taken(trials) >= _places(sweep, trials))

    def ask(self, sweep: Sweep) -> optuna.Trial | None:
        """Begin a trial, or return None while no place is free.

        Counting and asking are two steps, so that several workers can ask for the last place at
        once: each counts again and gives back what is too much.
        """
        budget, trials = self.shared.budget(), trials_of(self.study)
        if budget.used_up(self.study, trials):
            return None
        if sweep.is_enumerated:
            return self._begin_queued(trials)
        places = min(_places(sweep, trials), math.inf if budget.n_trials is None else budget.n_trials)
        # The place of a trial that was cut off is kept for the one that continues it, also before that one is queued.
        if _taken(trials) + len(owed(trials, sweep.options.max_retries)) >= places:
            return None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with Study.optimize")
            # Not Optuna's order, by number: one that was given back would take the place of one that is tried again.
            trial = self._begin_queued(trials) or self.study.ask()
        if _taken(trials_of(self.study), before=trial.number) >= places:
            self.set_state(trial.number, TrialState.WAITING)
            return None
        return trial

    def record_worker(self, trial: optuna.Trial) -> bool:
        """Write down that this process answers for the trial, and its first heartbeat; False: it took too long."""
        self.heartbeat(trial.number)
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            TrialRecord.write(trial, worker=process.identity())
            return True
        return False

    def write(self, number: int, **values: Any) -> None:
        """Write attributes of a trial, by their names in `TrialRecord`."""
        TrialRecord.write_to(self.storage, self._id(number), **values)

    def set_state(self, number: int, state: TrialState) -> bool:
        """Set the state of a trial; return False where another process was faster."""
        return self.storage.set_trial_state_values(self._id(number), state)

    def heartbeat(self, number: int) -> None:
        """Tell the storage that the trial's process lives."""
        self.storage.record_heartbeat(self._id(number))

    def reap(
        self,
        max_retries: int | None,
        reason: str = "its worker died",
        has_told: Callable[[int], bool] = lambda number: False,
    ) -> list[FrozenTrial]:
        """Fail the running trials whose process is gone, and queue again all that are to be tried again.

        A process of this machine is looked up; beyond that, a trial whose heartbeats have stopped is failed, wherever
        it runs.

        Args:
            max_retries: How often a worker of one point may die; None: always queue the point again.
            reason: For the trial's `error`.
            has_told: Tells the study of a trial, by its number, whose run had ended; returns whether it had.

        Returns:
            The trials that were failed, without those whose heartbeats have stopped.
        """
        dead = [trial for trial in trials_of(self.study) if self.is_dead(trial)]
        lost = [trial for trial in dead if not has_told(trial.number)]
        failed = [trial for trial in lost if self._fail(trial, reason, stopped=max_retries is None)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)
        # Also those of a process that died between failing them and queueing them again.
        for trial in owed(trials_of(self.study), max_retries):
            self._queue_again(trial)
        return failed

    def is_dead(self, trial: FrozenTrial) -> bool:
        """Return whether a trial is running but its process, one of this machine, is gone.

        A trial without a signature is judged by how long this process has seen it so: other clocks differ.
        """
        if trial.state != TrialState.RUNNING:
            return False
        if signature := TrialRecord(trial).worker:
            return process.is_gone(str(signature))
        now = time.monotonic()
        return now - self.unsigned_since.setdefault(trial.number, now) >= UNSIGNED_SECONDS

    def has_unsigned(self) -> bool:
        """Return whether a trial runs without the signature of a worker, and note since when."""
        running = (trial for trial in trials_of(self.study) if trial.state == TrialState.RUNNING)
        unsigned = [trial.number for trial in running if TrialRecord(trial).worker is None]
        for number in unsigned:
            self.unsigned_since.setdefault(number, time.monotonic())
        return bool(unsigned)

    def fail_and_requeue(self, trial: FrozenTrial, reason: str, max_retries: int | None) -> bool:
        """Fail a trial that was cut off and queue its point again; False if it is finished already.

        Args:
            trial: The trial.
            reason: For its `error`.
            max_retries: How often a worker of its point may die; None: it was stopped, which does not count.
        """
        failed = self._fail(trial, reason, stopped=max_retries is None)
        if failed and owed([now := self.read(trial.number)], max_retries):
            self._queue_again(now)
        return failed

    def _fail(self, trial: FrozenTrial, reason: str, stopped: bool) -> bool:
        trial_id = self._id(trial.number)
        try:
            how = TrialRecord.STOPPED if stopped else TrialRecord.DIED
            TrialRecord.write_to(self.storage, trial_id, cut_off=how, error=stored_error(reason))
            return self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def _queue_again(self, trial: FrozenTrial) -> None:
        """Queue the point of a trial that was cut off, unless another process has.

        The attributes are those of Optuna's RetryHeartbeatStaleTrialCallback, which would also copy the record of the
        dead worker.
        """
        record = TrialRecord(trial)
        history = [*reversed(record.continues), trial.number]
        kept = {name: getattr(record, name) for name in ("listed", "point_from", "scout", "queued_with", "stop")}
        # A near-best point that never started has no values to repeat: an empty trial is queued.
        if record.point_from == NEAR_BEST and not trial.params:
            kept = {}
        kept = {name: value for name, value in kept.items() if value is not None}
        again = optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            **TrialRecord.of_new(**kept, failed_trial=history[0], history=history, earlier_deaths=record.deaths),
        )
        with study_lock(self.storage, self.study.study_name):
            if not any(trial.number in TrialRecord(other).continues for other in trials_of(self.study)):
                self.study.add_trial(again)

    def _id(self, number: int) -> int:
        """Return the storage's id of a trial; from the cache, once the trial was read or begun here."""
        return self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)

    def _begin_queued(self, trials: list[FrozenTrial]) -> optuna.Trial | None:
        for waiting in with_point(trials):
            try:
                if self.set_state(waiting.number, TrialState.RUNNING):
                    return self.attach(waiting.number)
            except optuna.exceptions.UpdateFinishedTrialError:
                continue
        return None


def _places(sweep: Sweep, trials: list[FrozenTrial]) -> float:
    """Return how many trials a sampled finite space has room for: each point once, and that of the best scout anew."""
    if sweep.is_enumerated or sweep.size is None:
        return math.inf
    again = sum(TrialRecord(trial).point_from == BEST_SCOUT for trial in trials)
    return sweep.size + again - len(failures(trials, sweep.options.max_retries))


def _taken(trials: list[FrozenTrial], before: float = math.inf) -> int:
    """Return how many trials are done, or are running with a smaller number."""
    return sum(trial.state in DONE or (trial.state == TrialState.RUNNING and trial.number < before) for trial in trials)
