"""The points of search.points: those that a search tries first, or the runs that a sweep without a space makes."""

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Transformer
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from sweeper_digits import schema
from sweeper_digits.errors import UserError, closest
from sweeper_digits.runs.record import best_first, find_runs
from sweeper_digits.screen import counted
from sweeper_digits.sweep.finite import Point, Searched
from sweeper_digits.sweep.grammar import OF_THE_STUDY, contains
from sweeper_digits.sweep.trials import QUEUED_WITH, has_point

if TYPE_CHECKING:
    from sweeper_digits.sweep.space import Sweep

# A key as conf/ has them: no `+` or `~`, nothing of Hydra's grammar.
KEY = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
# How many points of an earlier sweep are tried first.
MOST_OF_A_SWEEP = 5
# Groups of conf/ that are no key of a run.
GROUPS_ALONE = ("experiment",)


def points_to_queue(sweep: "Sweep", trials: list[FrozenTrial], is_new: bool) -> list[Point]:
    """Return the points that are to be tried first, or those of a space of which each is tried once.

    Args:
        sweep: The sweep.
        trials: Whose points are not queued again.
        is_new: Whether the study has no trial yet.
    """
    first = points_first(sweep.config, sweep)
    first += points_of_sweep(sweep.config, sweep.distributions) if is_new else []
    with_point = [trial for trial in trials if has_point(trial)]
    # Optuna's enqueue_trial(skip_if_exists=True) reads the whole study for each point.
    drawn = {_key(trial.params or trial.system_attrs[QUEUED_WITH]) for trial in with_point}
    known = drawn | {_key(trial.system_attrs.get(QUEUED_WITH, trial.params)) for trial in with_point}
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
        if _key(point) not in known:
            found.setdefault(_key(point), point)
    return list(found.values())


def _key(point: Point) -> str:
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
    objective = schema.checked_objectives(config.objective)[0]
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
    known = [name for name in (*schema.Config.__dataclass_fields__, *GROUPS_ALONE) if name != "resume"]
    for name, value in point.items():
        first = str(name).split(".")[0]
        if first == "callbacks":
            raise UserError(f"{where}: {name}: a point starts no callback; type callbacks=[...] for all trials")
        if not KEY.fullmatch(str(name)) or first not in known or first in OF_THE_STUDY:
            raise UserError(f"{where}: {str(name)[:80]!r} is no key of a run{closest(first, known)}")
        options = loader.get_group_options(str(name))
        if options and value not in options:
            raise UserError(f"{where}: {name}={str(value)[:80]}: no such option{closest(str(value), options)}")
