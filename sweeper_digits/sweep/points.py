"""The points of a sweep: all of a finite space, those that were tried, and those that a user lists."""

import itertools
import math
import random
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Transformer
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
    from sweeper_digits.sweep import steering
    from sweeper_digits.sweep.space import Sweep


# Values by parameter.
Point = dict[str, Any]
# Parameter -> config group -> the options of the group that have it; of a parameter that all options have, nothing.
Owners = dict[str, dict[str, list[Any]]]
# Combinations of options that decide which parameters there are: of more, the points of a space are not counted.
MOST_COUNTED = 10_000


class Steps(Sequence[float]):
    """The values of a float range, none of which is made before it is asked for: 0.3, not 0.30000000000000004."""

    def __init__(self, low: float, high: float, step: float) -> None:
        self.low, self.step = Decimal(str(low)), Decimal(str(step))
        self.places = range(round((high - low) / step) + 1)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        return float(self.low + self.places[place] * self.step)


def values_of(distribution: BaseDistribution) -> Sequence[Any] | None:
    """Return all values of a distribution in their order; None where it is continuous."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices
        case IntDistribution(low=low, high=high, step=step):
            return range(low, high + 1, step)
        case FloatDistribution(low=low, high=high) if low == high:
            return [low]
        case FloatDistribution(low=low, high=high, step=float(step)):
            return Steps(low, high, step)
    return None


def ends_of(distribution: BaseDistribution) -> list[Any]:
    if (values := values_of(distribution)) is not None:
        return [values[0], values[-1]]
    assert isinstance(distribution, FloatDistribution)  # noqa: S101 - the others have values
    return [distribution.low, distribution.high]


def is_finite(sweep: "Sweep") -> bool:
    return all(values_of(distribution) is not None for distribution in sweep.distributions.values())


def has_end(sweep: "Sweep") -> bool:
    """Return whether some options leave no parameter that is continuous, so that their points can all be tried."""
    return all(values_of(one) is not None or name in sweep.owners for name, one in sweep.distributions.items())


def size(sweep: "Sweep") -> int | None:
    """Return how many points a space has; None: a parameter is continuous, or they are too many to be counted."""
    options = math.prod(len(values_of(sweep.distributions[group]) or []) for group in sweep.deciding)
    return int(sum(_sizes(sweep, {}))) if is_finite(sweep) and options <= MOST_COUNTED else None


def _sizes(sweep: "Sweep", point: Point) -> Iterator[float]:
    """Yield how many points have these values, infinity where a parameter is continuous.

    They are counted for each combination of options apart: composing is slow, and not all may be wanted.
    """
    free = {name: values_of(one) for name, one in sweep.distributions.items() if name not in point}
    deciding = [group for group in sweep.deciding if group in free]
    for options in itertools.product(*(free[group] or [] for group in deciding)):
        chosen = point | dict(zip(deciding, options, strict=True))
        if chosen.keys() <= (active := sweep.active(chosen)):
            values = [free[name] for name in active - chosen.keys()]
            yield math.prod(math.inf if one is None else len(one) for one in values)


def points(sweep: "Sweep", given: Point | None = None, seed: int | None = None) -> Iterator[Point]:
    """Enumerate those points of a finite space that have some values, each distinct point once.

    Args:
        sweep: Has the space.
        given: The values; None: all points.
        seed: The seed of a random order; None: in order.
    """
    seen: set[tuple[Any, ...]] = set()
    distributions, given = sweep.distributions, given or {}
    values = [[given[name]] if name in given else values_of(one) or [] for name, one in distributions.items()]
    for combination in itertools.product(*values) if seed is None else _shuffled(values, seed):
        point = dict(zip(distributions, combination, strict=True))
        active = sweep.active(point)
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


def is_exhausted(sweep: "Sweep", trials: list[FrozenTrial], point: Point) -> bool:
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
    return all(there <= found for there in itertools.accumulate(_sizes(sweep, point)))


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
    records = [record for record in map(TrialRecord, trials) if record.has_point]
    # Optuna's enqueue_trial(skip_if_exists=True) reads the whole study for each point.
    drawn = {_key(record.point) for record in records}
    known = drawn | {_key(record.queued_with) for record in records if record.queued_with}
    wanted, most = iter(first), math.inf
    if sweep.is_enumerated:
        # A point of some parameters stands for one of the space.
        whole = (next(sweep.points(point), point) for point in first)
        wanted, most = itertools.chain(whole, sweep.points()), (sweep.options.n_trials or math.inf) - len(drawn)
    found: dict[frozenset[tuple[str, Any]], Point] = {}
    for point in wanted:
        if len(found) >= most:
            break
        if _key(point) not in known:
            found.setdefault(_key(point), point)
    return list(found.values())


def points_first(config: DictConfig, space: "Sweep | steering.Space") -> list[Point]:
    """Return the points of search.points that are tried before others are drawn, checked against the space.

    Raises:
        UserError: A parameter or value that is not in the space.
    """
    points = given_points(config) if space.distributions else []
    return [in_space(point, space, "search.points: ") for point in points]


def in_space(point: Point, space: "Sweep | steering.Space", where: str = "") -> Point:
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
        # As the sampler would draw it: 64 for 64.0, where 64 is a choice.
        found[name] = space.distributions[name].to_external_repr(space.distributions[name].to_internal_repr(written))
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
