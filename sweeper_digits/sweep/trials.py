"""What the trials of a study say: which are done, which are best, which are tried again."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits import program
from sweeper_digits.runs.origin import Origin
from sweeper_digits.schema import override_key
from sweeper_digits.sweep import attributes

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
# Optuna's own attribute of a queued trial: the parameters that it was queued with.
QUEUED_WITH = "fixed_params"
# User attribute of a complete trial: the standard error of its objective over the validation images.
STANDARD_ERROR = "standard_error"
# User attribute of a trial that was cut off: how. A trial that was stopped with its sweep is always tried again.
CUT_OFF = "cut_off"
STOPPED, DIED = "stopped", "died"
# Attribute of a trial: the overrides that it was composed from.
OVERRIDES = "overrides"


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


def with_point(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return the waiting trials that have a point; one that was given back has none."""
    return [trial for trial in trials if trial.state == TrialState.WAITING and has_point(trial)]


def has_point(trial: FrozenTrial) -> bool:
    """Return whether a trial was queued with a point, or has drawn a parameter."""
    return bool(trial.params) or QUEUED_WITH in trial.system_attrs


def command_from(trial: FrozenTrial, origin: Origin) -> str:
    """Return the command that repeats a trial, without what only a sweep reads.

    Args:
        trial: The trial.
        origin: What it is composed from.
    """
    overrides = attributes.of_trial(trial).get(OVERRIDES, [])
    kept = [text for text in overrides if override_key(text) not in ("study", "search.points")]
    return program.command("train", *origin.flags(), *kept)


def continued_by(trial: FrozenTrial) -> list[int]:
    """Return the numbers of the trials that this one continues, the latest first."""
    return [int(number) for number in reversed(trial.system_attrs.get("retry_history", []))]


def tried_points(trials: Iterable[FrozenTrial]) -> int:
    """Return how many points the trials are of: a trial that was cut off and the one that continues it are one."""
    trials = list(trials)
    return len({trial.number for trial in trials} - {number for trial in trials for number in continued_by(trial)})


def deaths(trial: FrozenTrial) -> int:
    """Return how many workers of a trial's point have died, its own among them."""
    died = trial.state == TrialState.FAIL and is_cut_off(trial) and trial.user_attrs.get(CUT_OFF) != STOPPED
    return int(trial.system_attrs.get("deaths", 0)) + died


def owed(trials: list[FrozenTrial], max_retries: int | None) -> list[FrozenTrial]:
    """Return the trials that were cut off, are to be tried again, and that none continues yet.

    Args:
        trials: All trials of a study.
        max_retries: How often the workers of one point may die; None: only trials that were stopped.
    """
    continued = {number for trial in trials for number in continued_by(trial)}
    failed = (trial for trial in trials if trial.state == TrialState.FAIL and trial.number not in continued)
    return [trial for trial in failed if _is_tried_again(trial, max_retries)]


def failures(trials: Iterable[FrozenTrial], max_retries: int) -> list[FrozenTrial]:
    """Return the trials that failed by themselves, or were cut off so often that they are not tried again."""
    return [trial for trial in trials if is_own_failure(trial, max_retries)]


def is_own_failure(trial: FrozenTrial, max_retries: int) -> bool:
    """Return whether a trial failed by itself, or was cut off so often that it is not tried again."""
    return trial.state == TrialState.FAIL and not _is_tried_again(trial, max_retries)


def _is_tried_again(trial: FrozenTrial, max_retries: int | None) -> bool:
    if not is_cut_off(trial):
        return False
    if trial.user_attrs.get(CUT_OFF) == STOPPED:
        return True
    return max_retries is not None and deaths(trial) <= max_retries


def is_cut_off(trial: FrozenTrial) -> bool:
    """Return whether a trial that did not end by itself was cut off."""
    # Where heartbeats stopped, Optuna set it to FAIL and nothing wrote why.
    return CUT_OFF in trial.user_attrs or "error" not in trial.user_attrs
