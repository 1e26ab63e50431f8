"""Scouts: the first trials of a sweep. They stop when they are judged first, and the best of them begins anew."""

import math

from optuna.trial import FrozenTrial

from sweeper_digits.sweep.finite import Point
from sweeper_digits.sweep.peers import SCOUT, best_so_far
from sweeper_digits.sweep.trials import DONE

# User attribute of a trial: where its point comes from, if the sampler did not draw it.
POINT_FROM = "point_from"
RECIPE, NEAR_BEST, BEST_SCOUT = "recipe", "near the best", "the best scout"
# Of n_trials, the share that may be scouts is one of so many.
SHARE = 5


def number_of_scouts(most: int, epochs: int, first: int, n_trials: int | None) -> int:
    """Return how many scouts a sweep has: together they train one whole trial's epochs at most.

    Args:
        most: However long a trial is.
        epochs: Of a trial.
        first: Epochs of a scout.
        n_trials: Of the sweep, a fifth of which may be scouts; None: no limit.
    """
    number = min(most, epochs // first, math.inf if n_trials is None else n_trials // SHARE)
    return int(number) if number > 1 else 0


def is_open(trials: list[FrozenTrial]) -> bool:
    """Return whether no trial has begun with the point of the best scout."""
    return not any(trial.user_attrs.get(POINT_FROM) == BEST_SCOUT for trial in trials)


def best_scout(trials: list[FrozenTrial], sign: float) -> Point | None:
    """Return the point of the best scout, once all scouts have ended, and only once.

    Args:
        trials: All trials of the study.
        sign: -1 where the objective is maximized, else 1.
    """
    scouts = [trial for trial in trials if SCOUT in trial.user_attrs]
    if not is_open(trials) or not all(trial.state.is_finished() for trial in scouts):
        return None
    ended = [trial for trial in scouts if trial.state in DONE]
    best = min(ended, key=lambda trial: best_so_far(trial, sign), default=None)
    return None if best is None or math.isinf(best_so_far(best, sign)) else best.params
