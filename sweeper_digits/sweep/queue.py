"""The queue of a study: one budget over all workers, asking, failing, and trials whose worker died."""

import importlib.util
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
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.errors import UserError
from sweeper_digits.sweep.space import Sweep

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
# Packages that Optuna imports only when such a sampler draws.
SAMPLER_NEEDS = {"CmaEsSampler": "cmaes", "GPSampler": "torch"}
# A worker signs its trial milliseconds after it has asked for it.
UNSIGNED_SECONDS = 30


def trials_of(study: optuna.Study) -> list[FrozenTrial]:
    """Return all trials, not to be changed (copying them all takes longer than reading them)."""
    return study.get_trials(deepcopy=False)


def counts(study: optuna.Study) -> Counter[TrialState]:
    """Return how many trials are in each state."""
    return Counter(trial.state for trial in trials_of(study))


def is_enumerated(sweep: Sweep) -> bool:
    """Return whether each point of the space is tried once, instead of sampling it.

    Raises:
        UserError: The grid sampler was asked for and a parameter is continuous.
    """
    grid = str(OmegaConf.select(sweep.options, "sampler._target_")).endswith("GridSampler")
    if grid and math.isinf(sweep.size()):
        raise UserError("hydra/sweeper/sampler=grid: a parameter is continuous; use choice(...) or range(...)")
    return grid or not sweep.distributions or sweep.size() <= sweep.options.n_trials


def fill(study: optuna.Study, sweep: Sweep) -> None:
    """Queue the points that are to be tried first, or all of a finite space, unless they were already.

    A point that failed is tried again when the command is given again.
    """
    if listed := sweep.runs_listed():
        known = [trial.user_attrs.get("point") for trial in trials_of(study) if trial.state != TrialState.FAIL]
        for point in (point for point in listed if point not in known):
            attributes: dict[str, Any] = {"fixed_params": {}}
            study.add_trial(
                optuna.create_trial(state=TrialState.WAITING, user_attrs={"point": point}, system_attrs=attributes)
            )
        return
    points = sweep.points_first()
    if is_enumerated(sweep):
        points += itertools.islice(sweep.points(), sweep.options.n_trials)
    # enqueue_trial(skip_if_exists=True) reads the whole study for each point.
    alive = [trial for trial in trials_of(study) if trial.state != TrialState.FAIL]
    queued = {repr(sorted((trial.system_attrs.get("fixed_params") or trial.params).items())) for trial in alive}
    for point in points:
        if (key := repr(sorted(point.items()))) not in queued:
            queued.add(key)
            study.enqueue_trial(point)


def is_finished(study: optuna.Study, sweep: Sweep) -> bool:
    """Return whether nothing is left to run.

    By one look: between two, a waiting trial could be begun and be in neither.
    """
    trials = trials_of(study)
    if is_enumerated(sweep):
        return not _queued(trials) and not any(trial.state == TrialState.RUNNING for trial in trials)
    return sum(trial.state in DONE for trial in trials) >= sweep.options.n_trials


def ask(study: optuna.Study, sweep: Sweep) -> optuna.Trial | None:
    """Begin a trial, or return None while no place is free.

    Counting and asking are two steps, so that several workers can ask for the last place at
    once: each counts again and gives back what is too much.
    """
    if is_enumerated(sweep):
        return _pop(study)
    places = sweep.options.n_trials
    if _taken(study) >= places:
        return None
    trial = _begin(study, sweep)
    if _taken(study, before=trial.number) >= places:
        study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        return None
    return trial


def _begin(study: optuna.Study, sweep: Sweep) -> optuna.Trial:
    """Begin a trial as study.ask does, with a sampler seeded by the trial's number.

    Whichever worker or supervisor draws it, on whichever machine, before or after a restart: no two
    trials are drawn with the same random numbers, and a trial's own are always the same.
    """
    study._thread_local.cached_all_trials = None
    trial_id = study._pop_waiting_trial_id()
    if trial_id is None:
        trial_id = study._storage.create_new_trial(study._study_id)
    seed(study, sweep, study._storage.get_trial_number_from_id(trial_id))
    return optuna.Trial(study, trial_id)


def seed(study: optuna.Study, sweep: Sweep, trial: int) -> None:
    """Give the study the sampler that draws the trial of this number."""
    study.sampler = sampler_of(sweep, trial)


def sign(study: optuna.Study, trial: optuna.Trial, runs_here: bool = True) -> None:
    """Write down which process answers for the trial and, if it runs here too, its first sign of life.

    A job that waits in a scheduler's queue must not count as dead: its own process sends the first.
    """
    if runs_here:
        heartbeat(study, trial)
    trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}")


def heartbeat(study: optuna.Study, trial: optuna.Trial) -> None:
    """Tell the storage that the trial's process lives, where the storage has heartbeats."""
    record = getattr(study._storage, "record_heartbeat", None)
    if record and optuna.storages._heartbeat.is_heartbeat_enabled(study._storage):
        record(trial._trial_id)


def reap(study: optuna.Study, max_retries: int | None, reason: str = "its worker died") -> list[FrozenTrial]:
    """Fail the running trials whose process is gone, and queue them again.

    A process of this machine is looked up; beyond that, a trial whose heartbeats have stopped is failed, wherever
    it runs.

    Args:
        study: To be searched for such trials.
        max_retries: Of one point; None: always queue it again.
        reason: For the trial's `error`.

    Returns:
        The trials that were failed.
    """
    dead = [trial for trial in trials_of(study) if trial.state == TrialState.RUNNING and is_dead(trial)]
    failed = []
    for trial in dead:
        if fail(study, trial, reason):
            requeue(study, trial, max_retries)
            failed.append(trial)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    return failed


def fail(study: optuna.Study, trial: FrozenTrial, reason: str) -> bool:
    """Set a running trial that was cut off to FAIL; False if someone else has finished it."""
    try:
        study._storage.set_trial_user_attr(trial._trial_id, "cut_off", True)
        study._storage.set_trial_user_attr(trial._trial_id, "error", reason)
        return bool(study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL))
    except optuna.exceptions.UpdateFinishedTrialError:
        return False


def lose(study: optuna.Study, trial: optuna.Trial, reason: str, max_retries: int) -> None:
    """Fail a trial whose job was killed, and queue it again, unless its heartbeats have told so already."""
    frozen = study._storage.get_trial(trial._trial_id)
    if not frozen.state.is_finished() and fail(study, frozen, reason):
        requeue(study, frozen, max_retries)


def requeue(study: optuna.Study, trial: FrozenTrial, max_retries: int | None) -> None:
    """Queue the point of a trial that was cut off again, unless it was too often.

    The attributes are those of Optuna's RetryHeartbeatStaleTrialCallback, which would also copy
    the dead worker's signature.

    Args:
        study: Of the trial.
        trial: That failed.
        max_retries: How often its worker may die; None: it was stopped, which does not count.
    """
    history = [*trial.system_attrs.get("retry_history", []), trial.number]
    deaths = trial.system_attrs.get("deaths", 0) + (max_retries is not None)
    if max_retries is not None and deaths > max_retries:
        return
    kept = {name: value for name, value in trial.system_attrs.items() if name == "fixed_params"}
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
    # Where heartbeats stopped, Optuna set it to FAIL and nobody wrote why.
    cut_off = "cut_off" in trial.user_attrs or "error" not in trial.user_attrs
    return not cut_off or trial.system_attrs.get("deaths", 0) >= max_retries


def continued_by(trial: FrozenTrial) -> list[int]:
    """Return the numbers of the trials that this one continues, the latest first."""
    return [int(number) for number in reversed(trial.system_attrs.get("retry_history", []))]


def best_first(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials, best first; with several objectives the Pareto front before the rest."""
    complete = [trial for trial in trials_of(study) if trial.state == TrialState.COMPLETE]
    front = {trial.number for trial in study.best_trials} if len(study.directions) > 1 else set()
    signs = [1 if direction == optuna.study.StudyDirection.MINIMIZE else -1 for direction in study.directions]

    def key(trial: FrozenTrial) -> tuple[Any, ...]:
        values = [sign_ * value for sign_, value in zip(signs, trial.values, strict=True)]
        return trial.number not in front, values, trial.number

    return sorted(complete, key=key)


def is_dead(trial: FrozenTrial) -> bool:
    """Return whether a running trial's process, one of this machine, is gone."""
    worker = trial.user_attrs.get("worker")
    if worker is None:
        started = trial.datetime_start
        return started is not None and (datetime.now() - started).total_seconds() > UNSIGNED_SECONDS
    host, pid, created = worker.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        # A clock that is set moves the time of creation too; a process id is not used again within a minute.
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - float(created)) > 60
    except psutil.NoSuchProcess:
        return True


def _queued(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the waiting trials that have a point; one that was given back has none."""
    waiting = (trial for trial in trials if trial.state == TrialState.WAITING)
    return [trial for trial in waiting if trial.params or "fixed_params" in trial.system_attrs]


def _pop(study: optuna.Study) -> optuna.Trial | None:
    for waiting in _queued(trials_of(study)):
        try:
            if study._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING):
                return optuna.Trial(study, waiting._trial_id)
        except optuna.exceptions.UpdateFinishedTrialError:
            continue
    return None


def _taken(study: optuna.Study, before: float = math.inf) -> int:
    """Return how many trials are done, or are running with a smaller number."""
    return sum(
        trial.state in DONE or (trial.state == TrialState.RUNNING and trial.number < before)
        for trial in trials_of(study)
    )


def sampler_of(sweep: Sweep, trial: int = 0) -> optuna.samplers.BaseSampler:
    """Build the sampler, seeded for a trial.

    A quasi-random sequence is the exception: its position is in the study, its seed is the sequence.
    """
    options = OmegaConf.create(sweep.options.sampler)
    target = str(options._target_)
    name = target.rpartition(".")[2]
    if name in SAMPLER_NEEDS and importlib.util.find_spec(SAMPLER_NEEDS[name]) is None:
        needed = SAMPLER_NEEDS[name]
        raise UserError(f"hydra/sweeper/sampler: Optuna's {name} needs the package {needed}: pip install {needed}")
    if name == "GridSampler":
        return optuna.samplers.RandomSampler()
    if options.get("seed") is not None and name != "QMCSampler":
        options.seed = (int(options.seed) * 1_000_003 + trial) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        allowed = ("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*")
        sampler: optuna.samplers.BaseSampler = instantiate(options, _execution_whitelist_=allowed)
    return sampler
