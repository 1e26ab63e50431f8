"""What a sweep searches: parameters, fixed overrides, objectives; and what may not change in it."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_params_from_overrides
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution

from sweeper_digits import schema
from sweeper_digits.errors import UserError, closest
from sweeper_digits.runs import recipe as recipes

Point = dict[str, Any]


@dataclass
class Sweep:
    """One sweep, as composed from the command line and conf/.

    Attributes:
        options: hydra.sweeper.
        config: All of it.
        distributions: Search space, by parameter.
        fixed: Overrides that all trials share.
        objectives: As the config names them.
        directions: `minimize` or `maximize`, for each.
        folder: Where trial folders are.
    """

    options: Any
    config: DictConfig
    distributions: dict[str, BaseDistribution]
    fixed: list[str]
    objectives: list[str]
    directions: list[str]
    folder: Path
    loader: ConfigLoader
    _active: dict[tuple[str, ...], set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Any, config: DictConfig, arguments: list[str], loader: ConfigLoader) -> "Sweep":
        """Parse and check.

        Raises:
            UserError: A parameter that no option has, objectives and directions that do not match.
        """
        given = [f"{key}={value}" for key, value in (options.params or {}).items()]
        try:
            distributions, fixed_values, deletions = create_params_from_overrides(_last_of_each(given + arguments))
        except (ValueError, AssertionError, NotImplementedError) as error:
            raise UserError(f"search space: {error}") from error
        fixed = [f"{name}={value}" for name, value in fixed_values.items()] + deletions
        objective = config.objective
        objectives = [objective] if isinstance(objective, str) else list(objective)
        schema.check_objectives(objectives)
        schema.check_study(config.study)
        sweep = cls(
            options=options,
            config=config,
            distributions=distributions,
            fixed=fixed,
            objectives=objectives,
            directions=_directions(options.direction, objectives),
            folder=Path(config.hydra.sweep.dir).resolve(),
            loader=loader,
        )
        sweep._check()
        return sweep

    @property
    def prunes(self) -> bool:
        """Return whether trials can be pruned: by the one objective, which every epoch measures."""
        return len(self.objectives) == 1 and self.objectives[0] in schema.BY_EPOCH

    def active(self, point: Point) -> set[str]:
        """Return the parameters that exist once the config groups are chosen as in point.

        `optimizer.momentum` exists with optimizer=sgd and not with optimizer=adam.
        """
        groups = tuple(f"{name}={point[name]}" for name in self.groups if name in point)
        if groups not in self._active:
            overrides = [*self.fixed, *groups]
            composed = self.compose(overrides)
            self._active[groups] = {name for name in self.distributions if name in self.groups or _has(composed, name)}
        return self._active[groups]

    def compose(self, overrides: list[str]) -> DictConfig:
        """Compose one run of this sweep."""
        name = self.config.hydra.job.config_name
        return self.loader.load_configuration(name, overrides, RunMode.RUN, validate_sweep_overrides=False)

    @property
    def groups(self) -> list[str]:
        """Return the parameters that choose an option of a config group."""
        return [name for name in self.distributions if self.loader.get_group_options(name)]

    def overrides(self, point: Point) -> list[str]:
        """Return what to give to `python train.py` for a point; from_run in it stands for that run's recipe."""
        given = [*self.fixed, *recipes.overrides(point)]
        return (
            recipes.overrides(recipes.of_folder(point["from_run"], self.compose), given)
            if "from_run" in point
            else given
        )

    def suggest(self, trial: optuna.Trial) -> list[str]:
        """Draw a point, groups first, or take the listed one, and return its overrides."""
        if listed := trial.user_attrs.get("point"):
            return self.overrides(listed)
        names = self.groups + [name for name in self.distributions if name not in self.groups]
        point: Point = {}
        for name in names:
            if name in self.groups or name in self.active(point):
                point[name] = trial._suggest(name, self.distributions[name])
        return self.overrides(point)

    def size(self) -> float:
        """Return how many points the space has; infinity where a parameter is continuous."""
        return math.prod(_count(distribution) for distribution in self.distributions.values())

    def points(self) -> Iterator[Point]:
        """Enumerate a finite space, each distinct point once, in order."""
        seen = set()
        names = list(self.distributions)
        for values in itertools.product(*(_values(self.distributions[name]) for name in names)):
            point = dict(zip(names, values, strict=True))
            active = self.active(point)
            point = {name: value for name, value in point.items() if name in active}
            if (key := tuple(point.items())) not in seen:
                seen.add(key)
                yield point

    def points_first(self) -> list[Point]:
        """Return the points of search.points that are to be tried before others are drawn, checked against the space.

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
                distribution = self.distributions[name]
                if isinstance(distribution, optuna.distributions.CategoricalDistribution):
                    by_text = {recipes.text(choice): choice for choice in distribution.choices}
                    value = point[name] = by_text.get(recipes.text(value), value)
                try:
                    inside = distribution._contains(distribution.to_internal_repr(value))
                except (ValueError, TypeError):
                    inside = False
                if not inside:
                    raise UserError(f"search.points: {name}={value} is outside of {distribution}")
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

    def fingerprint(self) -> dict[str, Any]:
        """Return what must be the same for two trials to belong into one study."""
        data = OmegaConf.to_container(self.config.data)
        path = Path(data["path"]) if isinstance(data, dict) and data.get("path") else None
        if isinstance(data, dict) and path and path.is_file():
            data["bytes"] = path.stat().st_size
        return {
            "objective": dict(zip(self.objectives, self.directions, strict=True)),
            "space": {name: str(distribution) for name, distribution in self.distributions.items()},
            "data": data,
            "split": OmegaConf.to_container(self.config.split),
            "fixed overrides": sorted(text for text in self.fixed if not _is_incidental(text)),
        }

    def _check(self) -> None:
        for name in self.groups:
            options = self.loader.get_group_options(name)
            for choice in _values(self.distributions[name]):
                if choice not in options:
                    raise UserError(
                        f"{name}={choice}: no such option{closest(str(choice), options)}; "
                        f"choose from {', '.join(sorted(options))}"
                    )
        choices = {name: _values(self.distributions[name]) for name in self.groups}
        first = {name: values[0] for name, values in choices.items()}
        self.active(first)
        for name, values in choices.items():
            for choice in values:
                self.active(first | {name: choice})
        found = set().union(*self._active.values())
        for name in self.distributions:
            if name not in found:
                known = [f"{key}.{sub}" for key in map(str, self.config) for sub in _keys(self.config[key])]
                raise UserError(f"{name}: no option of the search space has this key{closest(name, known)}")


def _last_of_each(arguments: list[str]) -> list[str]:
    """Keep the last override of each key, so that the command line overrides a search file."""
    parser = OverridesParser.create()
    return list({parser.parse_override(text).get_key_element().lstrip("~"): text for text in arguments}.values())


def _is_incidental(override: str) -> bool:
    return override.lstrip("+~").split("=")[0].split(".")[0] in schema.INCIDENTAL


def _directions(given: Any, objectives: list[str]) -> list[str]:
    needed = [schema.OBJECTIVES[name] for name in objectives]
    if given is None:
        return needed
    directions = [given] if isinstance(given, str) else [str(direction) for direction in given]
    if directions != needed:
        raise UserError(
            f"hydra.sweeper.direction={given}: objective={','.join(objectives)} is to {', '.join(needed)}; leave it out"
        )
    return directions


def _has(config: DictConfig, name: str) -> bool:
    node: Any = config
    for part in name.lstrip("+").split("."):
        if not OmegaConf.is_dict(node) or part not in node:
            return False
        node = node[part] if not OmegaConf.is_missing(node, part) else None
    return True


def _keys(node: Any) -> list[str]:
    return [str(key) for key in node] if OmegaConf.is_dict(node) else []


def _count(distribution: BaseDistribution) -> float:
    if isinstance(distribution, optuna.distributions.FloatDistribution) and distribution.step is None:
        return 1 if distribution.single() else math.inf
    return len(_values(distribution))


def _values(distribution: BaseDistribution) -> list[Any]:
    return list(OptunaSweeperImpl._to_grid_sampler_choices(distribution))
