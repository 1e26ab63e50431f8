"""What a sweep searches: parameters, fixed overrides, objectives."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import FloatRange, Transformer
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeper_digits import schema
from sweeper_digits.errors import UserError, closest
from sweeper_digits.runs import recipe
from sweeper_digits.sweep.grammar import Arguments, parse_arguments

# What hydra.sweep.subdir is: results are looked for under a trial's number.
TRIAL_FOLDER = "${hydra.job.num}"
# Values by parameter.
Point = dict[str, Any]


@dataclass
class Sweep:
    """One sweep, as composed from the command line and conf/.

    Attributes:
        options: hydra.sweeper.
        config: The composed config, hydra's part included.
        arguments: The search space and the fixed overrides.
        objectives: Their names in the config.
        directions: `minimize` or `maximize`, for each objective.
        folder: The folder of the trials' folders.
        loader: Composes the config of a trial.
    """

    options: Any
    config: DictConfig
    arguments: Arguments
    objectives: list[str]
    directions: list[str]
    folder: Path
    loader: ConfigLoader
    _active: dict[tuple[str, ...], set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Any, config: DictConfig, arguments: list[str], loader: ConfigLoader) -> "Sweep":
        """Parse and check the arguments of a sweep.

        Raises:
            UserError: A parameter that no option has, a sweep that cannot be searched, objectives and directions
                that do not match.
        """
        searched = (options.params or {}).items()
        given = [f"{key}={value if isinstance(value, str) else recipe.override_text(value)}" for key, value in searched]
        objective = config.objective
        objectives = [objective] if isinstance(objective, str) else list(objective)
        schema.check_objectives(objectives)
        schema.check_study(config.study)
        subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index, call-overload]
        if subdir != TRIAL_FOLDER:
            raise UserError(
                f"hydra.sweep.subdir={subdir}: the folder of a trial is named by its number; remove this key"
            )
        sweep = cls(
            options=options,
            config=config,
            arguments=parse_arguments(given + arguments, loader),
            objectives=objectives,
            directions=_directions(options.direction, objectives),
            folder=Path(config.hydra.sweep.dir).resolve(),
            loader=loader,
        )
        sweep._check()
        return sweep

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the search space, by parameter."""
        return self.arguments.distributions

    @property
    def prunes(self) -> bool:
        """Return whether trials can be pruned: by the one objective, which every epoch measures."""
        return len(self.objectives) == 1 and self.objectives[0] in schema.BY_EPOCH

    @property
    def is_enumerated(self) -> bool:
        """Return whether each point of the space is tried once, instead of sampling it.

        Raises:
            UserError: The grid sampler was asked for and a parameter is continuous.
        """
        grid = str(OmegaConf.select(self.options, "sampler._target_")).endswith("GridSampler")
        if grid and math.isinf(self.size()):
            raise UserError("hydra/sweeper/sampler=grid: a parameter is continuous; use choice(...) or range(...)")
        return grid or not self.distributions or self.size() <= self.options.n_trials

    @property
    def groups(self) -> list[str]:
        """Return the parameters that choose an option of a config group."""
        return [name for name in self.distributions if self.loader.get_group_options(name)]

    def active(self, point: Point) -> set[str]:
        """Return the parameters that exist once the config groups are chosen as in point.

        `optimizer.momentum` exists with optimizer=sgd and not with optimizer=adam.
        """
        groups = tuple(f"{name}={point[name]}" for name in self.groups if name in point)
        if groups not in self._active:
            composed = self.compose([*self.arguments.fixed, *groups])
            self._active[groups] = {name for name in self.distributions if name in self.groups or _has(composed, name)}
        return self._active[groups]

    def compose(self, overrides: list[str]) -> DictConfig:
        """Compose one run of this sweep."""
        name = self.config.hydra.job.config_name
        return self.loader.load_configuration(name, overrides, RunMode.RUN, validate_sweep_overrides=False)

    def overrides(self, point: Point) -> list[str]:
        """Return what to give to `python train.py` for a point; its `from_run` stands for the recipe of that run."""
        given = [*self.arguments.fixed]
        for name, value in point.items():
            literal = isinstance(value, str) and value in self.arguments.literals.get(name, ())
            given.append(f"{name}={value if literal else recipe.override_text(value)}")
        if "from_run" not in point:
            return given
        return recipe.as_overrides(recipe.recipe_of_folder(point["from_run"], self.compose), given)

    def suggest(self, trial: optuna.Trial) -> list[str]:
        """Draw a point, groups first, or take the listed one, and return its overrides."""
        if listed := trial.user_attrs.get("point"):
            return self.overrides(listed)
        names = self.groups + [name for name in self.distributions if name not in self.groups]
        point: Point = {}
        for name in names:
            if name in self.groups or name in self.active(point):
                point[name] = _draw(trial, name, self.distributions[name])
        return self.overrides(point)

    def size(self) -> float:
        """Return how many points the space has; infinity where a parameter is continuous."""
        counts = (len(values_of(distribution) or []) or math.inf for distribution in self.distributions.values())
        return math.prod(counts)

    def points(self) -> Iterator[Point]:
        """Enumerate a finite space, each distinct point once, in order."""
        seen = set()
        names = list(self.distributions)
        for values in itertools.product(*(values_of(self.distributions[name]) or [] for name in names)):
            point = dict(zip(names, values, strict=True))
            active = self.active(point)
            point = {name: value for name, value in point.items() if name in active}
            if (key := tuple(point.items())) not in seen:
                seen.add(key)
                yield point

    def points_first(self) -> list[Point]:
        """Return the points of search.points, which are tried before others are drawn, checked against the space.

        Raises:
            UserError: A parameter or value that is not in the space.
        """
        points = self._given_points() if self.distributions else []
        for point in points:
            for name, value in point.items():
                if name not in self.distributions:
                    raise UserError(
                        f"search.points: {name} is not searched{closest(name, self.distributions)}; "
                        f"the space has {', '.join(self.distributions)}"
                    )
                if isinstance(value, list | dict):
                    value = point[name] = Transformer.str(value)
                if not contains(self.distributions[name], value):
                    raise UserError(f"search.points: {name}={value} is outside of {self.distributions[name]}")
        return points

    def runs_listed(self) -> list[Point]:
        """Return the runs of search.points where there is no search space: they are made, and nothing is drawn."""
        return [] if self.distributions else self._given_points()

    def _given_points(self) -> list[Point]:
        """Return search.points, or what the file that it names holds.

        Raises:
            UserError: Not a list of mappings.
        """
        given = self.config.search.points
        if given is None:
            return []
        try:
            points = OmegaConf.to_container(OmegaConf.load(given) if isinstance(given, str) else given)
        except yaml.YAMLError as error:
            raise UserError(f"search.points={given}: not a YAML file ({' '.join(str(error).split())})") from error
        except ValueError:  # a number, or a file that is no text
            points = None
        if not (isinstance(points, list) and points and all(isinstance(point, dict) for point in points)):
            raise UserError(f"search.points={given}: not a list of points; for example [{{optimizer: sgd, seed: 1}}]")
        return [{str(name): value for name, value in point.items()} for point in points]

    def _check(self) -> None:
        """Raise a UserError unless each option exists, and each parameter with one of the options at least."""
        choices: dict[str, list[Any]] = {}
        for name in self.groups:
            options = self.loader.get_group_options(name)
            choices[name] = list(values_of(self.distributions[name]) or [str(self.distributions[name])])
            for choice in choices[name]:
                if choice not in options:
                    raise UserError(
                        f"{name}={choice}: no such option{closest(str(choice), options)}; "
                        f"choose from {', '.join(sorted(options))}"
                    )
        first = {name: values[0] for name, values in choices.items()}
        found = set(self.active(first))
        for name, values in choices.items():
            for choice in values:
                found |= self.active(first | {name: choice})
        for name in self.distributions:
            if name not in found:
                known = [f"{key}.{sub}" for key in map(str, self.config) for sub in _keys(self.config[key])]
                raise UserError(f"{name}: no option of the search space has this key{closest(name, known)}")


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


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether a value can be drawn from a distribution; NaN and values of another type cannot."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return value in choices
        case IntDistribution(low=low, high=high, step=step):
            return _is_number(value) and low <= value <= high and (value - low) % step == 0
        case FloatDistribution(low=low, high=high, step=step):
            if not (_is_number(value) and low <= value <= high):
                return False
            steps = (value - low) / step if step else 0.0
            return abs(steps - round(steps)) < 1e-8  # Optuna's own tolerance
    return False


def _draw(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
    raise TypeError(f"{name}: {distribution} is not one of Optuna's three distributions")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _directions(given: Any, objectives: list[str]) -> list[str]:
    needed = [schema.OBJECTIVES[name] for name in objectives]
    if given is None:
        return needed
    directions = [given] if isinstance(given, str) else [str(direction) for direction in given]
    if directions != needed:
        directed = " and ".join(f"{name} is {direction}d" for name, direction in zip(objectives, needed, strict=True))
        raise UserError(f"hydra.sweeper.direction={given}: {directed}; remove this key")
    return directions


def _has(config: DictConfig, name: str) -> bool:
    """Return whether a config has a key, be it one whose value is missing."""
    node: Any = config
    for part in name.lstrip("+").split("."):
        if not OmegaConf.is_dict(node) or part not in node.keys():  # noqa: SIM118 - `in` is False for a missing value
            return False
        node = None if OmegaConf.is_missing(node, part) else node[part]
    return True


def _keys(node: Any) -> list[str]:
    return [str(key) for key in node] if OmegaConf.is_dict(node) else []
