"""Finite search spaces: their points, how many there are, and which were tried."""

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any, Protocol

from hydra.core.override_parser.types import FloatRange
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.sweep.trials import QUEUED_WITH, is_own_failure

# Values by parameter.
Point = dict[str, Any]
# Parameter -> config group -> the options of the group that have it; of a parameter that all options have, nothing.
Owners = dict[str, dict[str, list[Any]]]
# Combinations of options: of more, the points of a space are not counted.
MOST_COUNTED = 10_000


class Searched(Protocol):
    """What is searched."""

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the search space, by parameter."""

    @property
    def owners(self) -> Owners:
        """Return which options have the parameters that not all of them have."""


class Space(Searched, Protocol):
    """What counting needs of a sweep."""

    @property
    def groups(self) -> list[str]:
        """Return the parameters that choose an option of a config group."""

    def active(self, point: Point) -> set[str]:
        """Return the parameters that exist once the config groups are chosen as in point."""


def is_finite(space: Space) -> bool:
    """Return whether no parameter is continuous."""
    return all(values_of(distribution) is not None for distribution in space.distributions.values())


def has_end(space: Space) -> bool:
    """Return whether some options leave no parameter that is continuous, so that their points can all be tried."""
    return all(values_of(one) is not None or name in space.owners for name, one in space.distributions.items())


def size(space: Space) -> int | None:
    """Return how many points a space has; None: a parameter is continuous, or they are too many to be counted."""
    return int(count(space, {})) if is_finite(space) and _least(space, {}) <= MOST_COUNTED else None


def has_at_most(space: Space, number: int) -> bool:
    """Return whether a space has at most so many points; a parameter counts only where the chosen option has it."""
    if not is_finite(space) or _least(space, {}) > number:  # composing is slow: only where it decides
        return False
    return count(space, {}) <= number


def count(space: Space, point: Point) -> float:
    """Return how many points of a space have these values; infinity where a parameter is continuous."""
    for name in space.groups:
        if name not in point:
            return sum(count(space, {**point, name: value}) for value in values_of(space.distributions[name]) or [])
    active = space.active(point)
    if not point.keys() <= active:
        return 0
    free = (distribution for name, distribution in space.distributions.items() if name in active - point.keys())
    return math.prod(math.inf if (values := values_of(one)) is None else len(values) for one in free)


def points(space: Space, given: Point | None = None, seed: int | None = None) -> Iterator[Point]:
    """Enumerate those points of a finite space that have some values, each distinct point once.

    Args:
        space: The space.
        given: The values; None: all points.
        seed: Of a random order; None: in order.
    """
    seen: set[tuple[Any, ...]] = set()
    distributions, given = space.distributions, given or {}
    values = [[given[name]] if name in given else values_of(one) or [] for name, one in distributions.items()]
    for combination in itertools.product(*values) if seed is None else _shuffled(values, seed):
        point = dict(zip(distributions, combination, strict=True))
        active = space.active(point)
        point = {name: value for name, value in point.items() if name in active}
        if given.keys() <= point.keys() and (key := tuple(point.items())) not in seen:
            seen.add(key)
            yield point


def _shuffled(values: list[Any], seed: int) -> Iterator[tuple[Any, ...]]:
    """Yield each combination once, in random order; the first of very many come without the others being made."""
    generator, seen = random.Random(seed), set[tuple[Any, ...]]()
    while len(seen) < math.prod(map(len, values)):
        if (drawn := tuple(map(generator.choice, values))) not in seen:
            seen.add(drawn)
            yield drawn


def is_exhausted(space: Space, trials: list[FrozenTrial], point: Point) -> bool:
    """Return whether all points that have these values are among the trials.

    A trial that was cut off does not count: the one that continues it does.
    """
    wanted = _key(point)
    tried = {
        _key(trial.params or trial.system_attrs.get(QUEUED_WITH, {}))
        for trial in trials
        if trial.state != TrialState.FAIL or is_own_failure(trial, max_retries=0)
    }
    found = sum(wanted <= one for one in tried)
    return found >= _least(space, point) and found >= count(space, point)


def values_of(distribution: BaseDistribution) -> "range | list[Any] | None":
    """Return all values of a distribution in their order; None where it is continuous."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return list(choices)
        case IntDistribution(low=low, high=high, step=step):
            return range(low, high + 1, step)
        case FloatDistribution(low=low, high=high) if low == high:
            return [low]
        case FloatDistribution(low=low, high=high, step=float(step)):
            return [*FloatRange(low, high, step), high]  # which leaves out its end
    return None


def ends_of(distribution: BaseDistribution) -> list[Any]:
    """Return the first and the last value of a distribution."""
    if (values := values_of(distribution)) is not None:
        return [values[0], values[-1]]
    assert isinstance(distribution, FloatDistribution)  # noqa: S101 - the others have values
    return [distribution.low, distribution.high]


def _least(space: Space, point: Point) -> int:
    """Return a number that `count` does not fall below, without composing."""
    free = (space.distributions[name] for name in space.groups if name not in point)
    return math.prod(len(values_of(distribution) or []) for distribution in free)


def _key(point: Point) -> frozenset[tuple[str, Any]]:
    # Two ways of counting steps may differ in the last bit.
    return frozenset(
        (name, float(f"{value:.12g}") if isinstance(value, float) else value) for name, value in point.items()
    )
