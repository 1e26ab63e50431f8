"""The points of a sweep: all of a finite space, those that were tried, and those that a user lists."""

import itertools
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import FloatRange, Transformer
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.config import Config, checked_objectives
from sweeper_digits.errors import UserError, closest
from sweeper_digits.runs.record import best_first, find_runs
from sweeper_digits.sweep.grammar import STUDY_KEYS, contains
from sweeper_digits.sweep.record import TrialRecord
from sweeper_digits.text import counted

if TYPE_CHECKING:
    from sweeper_digits.sweep.space import Sweep


# Values by parameter.
Point = dict[str, Any]
# Parameter -> config group -> the options of the group that have it; of a parameter that all options have, nothing.
Owners = dict[str, dict[str, list[Any]]]
# Combinations of options: of more, the points of a space are not counted.
MOST_COUNTED = 10_000


class Searched(Protocol):
    """The search space, as points are drawn from it."""

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the search space, by parameter."""

    @property
    def owners(self) -> Owners:
        """Return which options have the parameters that not all of them have."""


class Space(Searched, Protocol):
    """A sweep, as its points are counted."""

    @property
    def groups(self) -> list[str]:
        """Return the parameters that choose an option of a config group."""

    def active(self, point: Point) -> set[str]:
        """Return the parameters that exist once the config groups are chosen as in point."""


def is_finite(space: Space) -> bool:
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
        seed: The seed of a random order; None: in order.
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
        _key(TrialRecord(trial).point)
        for trial in trials
        if trial.state != TrialState.FAIL or TrialRecord(trial).is_own_failure(max_retries=0)
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


# A key as conf/ has them: no `+` or `~`, nothing of Hydra's grammar.
POINTS_KEY = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
# How many points of an earlier sweep are tried first.
MOST_OF_A_SWEEP = 5
# Groups of conf/ that are no key of a run.
OPTION_ONLY_GROUPS = ("experiment",)


def points_to_queue(sweep: "Sweep", trials: list[FrozenTrial], is_new: bool) -> list[Point]:
    """Return the points that are to be tried first, or those of a space of which each is tried once.

    Args:
        sweep: The sweep.
        trials: Whose points are not queued again.
        is_new: Whether no command has queued all of them yet.
    """
    first = points_first(sweep.config, sweep)
    first += points_of_sweep(sweep.config, sweep.distributions) if is_new else []
    with_point = [trial for trial in trials if TrialRecord(trial).has_point]
    # Optuna's enqueue_trial(skip_if_exists=True) reads the whole study for each point.
    drawn = {_listed_key(TrialRecord(trial).point) for trial in with_point}
    known = drawn | {_listed_key(TrialRecord(trial).queued_with or trial.params) for trial in with_point}
    wanted: Iterator[Point] = iter(first)
    most = math.inf
    if sweep.is_enumerated:
        # A point of some parameters stands for one of the space.
        whole = (next(sweep.points(point), point) for point in first)
        wanted, most = itertools.chain(whole, sweep.points()), (sweep.options.n_trials or math.inf) - len(drawn)
    found: dict[str, Point] = {}
    for point in wanted:
        if len(found) >= most:
            break
        if _listed_key(point) not in known:
            found.setdefault(_listed_key(point), point)
    return list(found.values())


def _listed_key(point: Point) -> str:
    return repr(sorted(point.items()))


def points_first(config: DictConfig, space: Searched) -> list[Point]:
    """Return the points of search.points that are tried before others are drawn, checked against the space.

    Raises:
        UserError: A parameter or value that is not in the space.
    """
    points = given_points(config) if space.distributions else []
    return [in_space(point, space, "search.points: ") for point in points]


def in_space(point: Point, space: Searched, where: str = "") -> Point:
    """Return a point as the search space has it, with the option that alone has a parameter of it.

    Args:
        point: Values by parameter, of some parameters or of all.
        space: The search space.
        where: What holds the point, for the message.

    Raises:
        UserError: A parameter or value that is not in the space, or that no option beside it has.
    """
    found = {}
    for name, value in point.items():
        if name not in space.distributions:
            known = space.distributions
            raise UserError(f"{where}{name} is not searched{closest(name, known)}; the space has {', '.join(known)}")
        written = Transformer.str(value) if isinstance(value, list | dict) else value
        if not contains(space.distributions[name], written):
            raise UserError(f"{where}{name}={written} is not one of {_range_text(space.distributions[name])}")
        found[name] = _as_drawn(written, space.distributions[name])
    needs = [(name, group, options) for name in point for group, options in space.owners.get(name, {}).items()]
    for name, group, options in sorted(needs, key=lambda need: len(need[2])):
        having = " or ".join(f"{group}={option}" for option in options)
        if len(options) > 1 and group not in found:
            raise UserError(f"{where}{name}: which option of {group}? add {having}")
        if found.setdefault(group, options[0]) not in options:
            raise UserError(
                f"{where}{name}: {group}={found[group]} has no such key; choose {having}, or leave {name} out"
            )
    return found


def _as_drawn(value: Any, distribution: BaseDistribution) -> Any:
    """Return a value as the sampler would draw it: 64 for 64.0, where 64 is a choice."""
    if isinstance(distribution, CategoricalDistribution):
        return next(choice for choice in distribution.choices if choice == value)
    return int(value) if isinstance(distribution, IntDistribution) else value


def _range_text(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101 - Optuna has these three
    step = f" in steps of {distribution.step:g}" if distribution.step else ""
    return f"the numbers from {distribution.low:g} to {distribution.high:g}{step}"


def points_of_sweep(config: DictConfig, distributions: dict[str, BaseDistribution]) -> list[Point]:
    """Return the best points of the sweep that search.from_sweep names, those that lie in the space, best first.

    A key of a run that the space does not have is left out; so is a run that the sweep pruned.

    Raises:
        UserError: No folder of runs there, or no finished run of it lies in the space.
    """
    if (path := config.search.from_sweep) is None:
        return []
    objective = checked_objectives(config.objective)[0]
    best = best_first(find_runs([path]), objective)
    found: list[Point] = []
    for record in best:
        point = {name: record.settings[name] for name in distributions if name in record.settings}
        if point and point not in found and all(contains(distributions[name], value) for name, value in point.items()):
            found.append(point)
    if not found:
        cause = f"none of its {counted(len(best), 'finished run')} lies in" if best else "it has no finished run for"
        raise UserError(f"search.from_sweep={path}: {cause} this search space")
    return found[:MOST_OF_A_SWEEP]


def given_points(config: DictConfig) -> list[Point]:
    """Return search.points, or what the file that it names holds.

    Raises:
        UserError: Not a list of mappings.
    """
    given = config.search.points
    if given is None:
        return []
    try:
        loaded = _load(Path(given)) if isinstance(given, str) else given
        points = OmegaConf.to_container(loaded, resolve=loaded is given)  # of a file all is text
    except yaml.YAMLError as error:
        raise UserError(f"search.points={given}: not a YAML file ({' '.join(str(error).split())})") from error
    except ValueError:  # a number, or a file that is no text
        points = None
    if not (isinstance(points, list) and points and all(isinstance(point, dict) for point in points)):
        raise UserError(f"search.points={given}: not a list of points; for example [{{optimizer: sgd, seed: 1}}]")
    return [{str(name): value for name, value in point.items()} for point in points]


def _load(file: Path) -> Any:
    # A node takes a byte at least: the limit is for aliases, not for a long list.
    return OmegaConf.load(file, max_yaml_expanded_nodes=max(1, file.stat().st_size))


def check_keys(point: Any, loader: ConfigLoader, where: str) -> None:
    """Raise a UserError unless all keys of a point are a run's: a database or a file may hold others.

    Args:
        point: From search.points or a trial's attribute.
        loader: Knows the config groups.
        where: What holds the point, for the message.
    """
    if not isinstance(point, dict):
        raise UserError(f"{where}: {str(point)[:80]!r} is no point; for example {{optimizer: sgd, seed: 1}}")
    known = [name for name in (*Config.__dataclass_fields__, *OPTION_ONLY_GROUPS) if name != "resume"]
    for name, value in point.items():
        first = str(name).split(".")[0]
        if first == "callbacks":
            raise UserError(f"{where}: {name}: a point starts no callback; type callbacks=[...] for all trials")
        if not POINTS_KEY.fullmatch(str(name)) or first not in known or first in STUDY_KEYS:
            raise UserError(f"{where}: {str(name)[:80]!r} is no key of a run{closest(first, known)}")
        options = loader.get_group_options(str(name))
        if options and value not in options:
            raise UserError(f"{where}: {name}={str(value)[:80]}: no such option{closest(str(value), options)}")
