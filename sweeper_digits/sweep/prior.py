"""The recipe as a first guess: its point is tried first, and early draws lean on it while that pays."""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.sweep.finite import Point
from sweeper_digits.sweep.trials import DONE

# User attribute of a trial whose point is the recipe's, or was drawn near it.
NEAR = "near_recipe"
RECIPE, DRAWN = "recipe", "drawn"
# Samplers that learn from the trials. A person who chooses another wants its draws alone.
LEARNING = ("TPESampler", "GPSampler", "CmaEsSampler")
# Standard deviation of a draw near the recipe, as a share of the range; how often it keeps a choice.
SPREAD, KEPT = 0.12, 0.7
# The trials that have ended when no draw leans on the recipe any more.
FADED = 30


@dataclass(frozen=True)
class Prior:
    """Draws near a recipe that a person believes in, less and less often, and less the more they lose.

    The idea is that of Hvarfner et al. 2022 (https://arxiv.org/abs/2204.11051) and Mallik et al. 2023
    (https://arxiv.org/abs/2306.12370): a good guess is worth more than any sampler, and
    evidence must outvote a bad one.

    Args:
        recipe: Returns the values of the recipe that lie in the search space, by parameter, once some options are
            chosen: another optimizer has another learning rate.
        groups: The parameters that choose an option.
        weight: Share of the first draws that are near the recipe, from 0 to 1.
        distributions: The search space, by parameter.
        seed: Of the draws; each trial has random numbers of its own. None: other ones each time.
        directions: `minimize` or `maximize`, for each objective.
    """

    recipe: Callable[[Point], Point]
    groups: list[str]
    weight: float
    distributions: dict[str, BaseDistribution]
    seed: int | None
    directions: list[str]

    def point(self, number: int, trials: Iterable[FrozenTrial]) -> Point | None:
        """Return the point of a trial that leans on the recipe, or None: the sampler draws this one.

        Args:
            number: Of the trial.
            trials: All trials of the study.
        """
        generator = random.Random(None if self.seed is None else f"{self.seed} {number}")
        if generator.random() >= self.share([trial for trial in trials if trial.state in DONE]):
            return None
        plain = self.recipe({})
        chosen = self._near({name: plain[name] for name in self.groups if name in plain}, generator)
        center = self.recipe(chosen)
        values = self._near({name: value for name, value in center.items() if name not in self.groups}, generator)
        return chosen | values or None

    def _near(self, center: Point, generator: random.Random) -> Point:
        return {name: _near(value, self.distributions[name], generator) for name, value in center.items()}

    def share(self, ended: list[FrozenTrial]) -> float:
        """Return how often a draw leans on the recipe, once these trials have ended."""
        if len(ended) >= FADED:  # of a long study, all its pairs would be compared for nothing
            return 0.0
        near = [trial for trial in ended if NEAR in trial.user_attrs]
        others = [trial for trial in ended if NEAR not in trial.user_attrs]
        pairs = [
            (_beats(one, other, self.directions), _beats(other, one, self.directions))
            for one in near
            for other in others
        ]
        won = sum(1 + wins - loses for wins, loses in pairs) / 2
        # Of two kinds that are unknown, each wins half of the pairs: then the share is as set.
        chance = (won + 1) / (len(pairs) + 2)
        return self.weight * (1 - len(ended) / FADED) * min(1.0, 2 * chance)


def _beats(one: FrozenTrial, other: FrozenTrial, directions: list[str]) -> bool:
    """Return whether a trial that ended is better: complete, or farther, or better so far.

    With several objectives, Optuna keeps no value of a pruned trial: two that came equally far are equal.
    """
    if one.state != other.state:
        return one.state == TrialState.COMPLETE
    if one.state == TrialState.PRUNED and one.last_step != other.last_step:
        return (one.last_step or 0) > (other.last_step or 0)
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in directions]
    pairs = [(sign * a, sign * b) for sign, a, b in zip(signs, _values(one), _values(other), strict=False)]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _values(trial: FrozenTrial) -> list[float]:
    """Return the values of a trial, or the last one that it reported before it was pruned."""
    if trial.state == TrialState.COMPLETE:
        return list(trial.values)
    return [] if trial.last_step is None else [trial.intermediate_values[trial.last_step]]


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
