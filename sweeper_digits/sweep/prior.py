"""Draws near the best point so far, which is the recipe at first."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.sweep.finite import Point
from sweeper_digits.sweep.peers import PEERS, best_so_far, sign_of
from sweeper_digits.sweep.trials import QUEUED_WITH, trials_of

# Samplers that learn from the trials. A person who chooses another wants its draws alone.
LEARNING = ("TPESampler", "GPSampler", "CmaEsSampler")
# Standard deviation of a draw near a point, as a share of the range; how often it keeps a choice. The draw is cut to
# the range, so that the ends of the range are tried often: dropout 0 is a good guess, and no density reaches it.
SPREAD, KEPT = 0.3, 0.7
# In a space of one parameter or two, the ends would be drawn again and again: how often to draw another point.
DRAWS = 20


@dataclass(frozen=True)
class Prior:
    """Draws near the best point so far. The recipe is tried first, so the first draws lie near it unless it loses.

    The idea is that of PriorBand (Mallik et al. 2023, https://arxiv.org/abs/2306.12370), which draws near the prior and
    near the incumbent. Here the prior is the first incumbent: one better trial outvotes a bad recipe.

    Args:
        recipe: Returns the values of the recipe that lie in the search space, by parameter, once some options are
            chosen: another optimizer has another learning rate.
        groups: The parameters that choose an option.
        weight: Share of the draws that are near the best point, from 0 to 1.
        distributions: The search space, by parameter.
        seed: Of the draws; each trial has random numbers of its own. None: other ones each time.
        active: Returns the parameters that there are once some options are chosen.
    """

    recipe: Callable[[Point], Point]
    groups: list[str]
    weight: float
    distributions: dict[str, BaseDistribution]
    seed: int | None
    active: Callable[[Point], set[str]]

    def point(self, number: int, study: optuna.Study) -> Point | None:
        """Return the point of a trial near the best point, or None: the sampler draws this one.

        Args:
            number: Of the trial.
            study: With the trials so far.
        """
        generator = random.Random(None if self.seed is None else f"{self.seed} {number}")
        if generator.random() >= self.weight:
            return None
        best = best_points(study)
        tried = [trial.params or trial.system_attrs.get(QUEUED_WITH) for trial in trials_of(study)]
        for _ in range(DRAWS if best else 0):
            if (point := self._beside(generator.choice(best), generator)) not in tried:
                return point
        return None

    def _beside(self, center: Point, generator: random.Random) -> Point:
        groups = {name: center[name] for name in self.groups if name in center}
        chosen = self._near(groups, generator)
        if chosen != groups:  # what depends on the options is the recipe's
            before, after = self.recipe(groups), self.recipe(chosen)
            there = self.active(chosen)
            kept = {n: value for n, value in center.items() if before.get(n) == after.get(n) and n in there}
            center = after | kept
        values = self._near({name: value for name, value in center.items() if name not in self.groups}, generator)
        return chosen | values

    def _near(self, center: Point, generator: random.Random) -> Point:
        return {name: _near(value, self.distributions[name], generator) for name, value in center.items()}


def best_points(study: optuna.Study) -> list[Point]:
    """Return the point of the best value so far, in whichever trial; with several objectives, those of the front."""
    if len(study.directions) > 1:  # Optuna keeps no values of the epochs
        return [trial.params for trial in study.best_trials if trial.params]
    peers = [trial for trial in trials_of(study) if trial.state in PEERS and trial.params]
    worths = [_worth(trial, sign_of(study)) for trial in peers]
    best = min(worths, default=math.inf)
    return [] if math.isinf(best) else [peers[worths.index(best)].params]


def _worth(trial: FrozenTrial, sign: float) -> float:
    """Return the least value, times the sign, of a trial so far."""
    if trial.state == TrialState.COMPLETE:
        return sign * trial.values[0]
    return best_so_far(trial, sign)


def _near(value: Any, distribution: BaseDistribution, generator: random.Random) -> Any:
    """Draw near a value, within the range; a choice is kept or drawn anew."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return value if generator.random() < KEPT else generator.choice(choices)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            drawn = _around(value, low, high, log, generator)
            return min(high, low + round((drawn - low) / step) * step) if step else drawn
        case IntDistribution(low=low, high=high, step=step, log=log):
            drawn = _around(value, low, high, log, generator)
            return min(high, low + round((drawn - low) / step) * step)
    raise TypeError(f"{distribution} is not one of Optuna's three distributions")


def _around(value: float, low: float, high: float, log: bool, generator: random.Random) -> float:
    scale, back = (math.log, math.exp) if log else (float, float)
    spread = SPREAD * (scale(high) - scale(low))
    return min(high, max(low, back(generator.gauss(scale(value), spread))))
