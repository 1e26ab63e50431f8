"""What the trials of a study say: which are done, which are best, which are tried again."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.screen import printable
from sweeper_digits.sweep import attributes

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
# Optuna's own attribute of a queued trial: the parameters that it was queued with.
QUEUED_WITH = attributes.kept("fixed_params", attributes.POINT)
# Characters of an error that a screen shows; its log has all.
LONGEST_ERROR = 500
# User attribute of a trial of a study that lists its runs: the values of its run, by key.
LISTED = attributes.kept("point", attributes.mapping())
# User attribute of a trial: the signature of the process that answers for it.
WORKER = "worker"
# System attributes of a trial: the numbers of those that were cut off and that it continues, the latest last, and how
# many of their workers died.
CONTINUES = attributes.kept("retry_history", attributes.list_of(attributes.COUNT))
DEATHS = attributes.kept("deaths", attributes.COUNT)
# User attribute of a trial that another program ran, as it is read.
FOREIGN = "foreign"
# User attribute of a complete trial: the standard error of its objective over the validation images.
STANDARD_ERROR = attributes.kept("standard_error", attributes.NUMBER)
# User attribute of a trial that was cut off: how. A trial that was stopped with its sweep is always tried again.
CUT_OFF = "cut_off"
STOPPED, DIED = "stopped", "died"


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


def continued_by(trial: FrozenTrial) -> list[int]:
    """Return the numbers of the trials that this one continues, the latest first."""
    return [int(number) for number in reversed(trial.system_attrs.get(CONTINUES, []))]


def tried_points(trials: Iterable[FrozenTrial]) -> int:
    """Return how many points the trials are of: a trial that was cut off and the one that continues it are one."""
    trials = [trial for trial in trials if FOREIGN not in trial.user_attrs]
    return len({trial.number for trial in trials} - {number for trial in trials for number in continued_by(trial)})


def deaths(trial: FrozenTrial) -> int:
    """Return how many workers of a trial's point have died, its own among them."""
    died = trial.state == TrialState.FAIL and is_cut_off(trial) and trial.user_attrs.get(CUT_OFF) != STOPPED
    return int(trial.system_attrs.get(DEATHS, 0)) + died


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
    if trial.state != TrialState.FAIL or FOREIGN in trial.user_attrs:
        return False
    return not _is_tried_again(trial, max_retries)


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


def error_of(trial: FrozenTrial) -> str:
    """Return what went wrong with a trial, in a line that a screen can show."""
    return printable(" ".join(str(trial.user_attrs.get("error", "")).split()))[:LONGEST_ERROR]
