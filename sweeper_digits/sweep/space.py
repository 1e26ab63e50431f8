"""What a sweep searches: parameters, fixed overrides, objectives."""

import dataclasses
import functools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeper_digits import schema
from sweeper_digits.errors import UserError, closest
from sweeper_digits.runs import recipe
from sweeper_digits.sweep.budget import Budget
from sweeper_digits.sweep.finite import Point, has_at_most, is_finite, values_of
from sweeper_digits.sweep.grammar import Arguments, contains, parse_arguments
from sweeper_digits.sweep.listed import check_keys, given_points
from sweeper_digits.sweep.prior import LEARNING, Prior

# Points of a finite space that are tried one after the other where n_trials is null; of more, points are drawn.
MOST_ENUMERATED = 1000
# What hydra.sweep.subdir is: results are looked for under a trial's number.
TRIAL_FOLDER = "${hydra.job.num}"


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
        objectives = schema.checked_objectives(config.objective)
        schema.check_study(config.study)
        schema.check_study(options.study_name)
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
            folder=Path(os.path.realpath(config.hydra.sweep.dir)),  # Path.resolve raises for a loop
            loader=loader,
        )
        Budget.of(options)  # raises
        sweep._check()
        return sweep

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the search space, by parameter."""
        return self.arguments.distributions

    @property
    def prunes(self) -> bool:
        """Return whether trials can be pruned: by the one objective, which every epoch measures."""
        return len(self.objectives) == 1 and self.objectives[0] not in schema.AT_THE_END

    @property
    def has_front(self) -> bool:
        """Return whether there are several objectives, all of which are known after each epoch."""
        return len(self.objectives) > 1 and "milliseconds_per_image" not in self.objectives

    @functools.cached_property
    def is_enumerated(self) -> bool:
        """Return whether each point of the space is tried once, instead of sampling it.

        Raises:
            UserError: The grid sampler was asked for and a parameter is continuous.
        """
        grid = str(OmegaConf.select(self.options, "sampler._target_")).endswith("GridSampler")
        if grid and not is_finite(self):
            raise UserError("hydra/sweeper/sampler=grid: a parameter is continuous; use choice(...) or range(...)")
        return grid or not self.distributions or has_at_most(self, self.options.n_trials or MOST_ENUMERATED)

    @functools.cached_property
    def budget(self) -> Budget:
        """Return what ends the sweep; the points of a finite space are all tried, however many trials they are."""
        given = Budget.of(self.options)
        return dataclasses.replace(given, n_trials=None) if self.is_enumerated else given

    @functools.cached_property
    def prior(self) -> Prior | None:
        """Return the first guess, where the sampler learns from trials; None where search.prior is 0."""
        sampler, weight = self.options.sampler, self.config.search.prior
        if not weight or self.is_enumerated or str(sampler._target_).rpartition(".")[2] not in LEARNING:
            return None
        return Prior(self.recipe, self.groups, weight, self.distributions, sampler.get("seed"))

    def recipe(self, chosen: Point) -> Point:
        """Return the values that lie in the search space of the config that is composed with some options chosen."""
        composed = self.compose(self.overrides(chosen))
        choices = composed.hydra.runtime.choices
        values = {
            name: choices.get(name) if name in self.groups else OmegaConf.select(composed, name)
            for name in self.distributions
            if not name.startswith("+") and (name in self.groups or _has(composed, name))
        }
        return {name: value for name, value in values.items() if contains(self.distributions[name], value)}

    @property
    def groups(self) -> list[str]:
        """Return the parameters that choose an option of a config group.

        A parameter of mappings, such as `optimizer={learning_rate: 0.1},{learning_rate: 0.2}`, chooses none.
        """
        found = (name for name in self.distributions if self.loader.get_group_options(name.lstrip("+")))
        literals = self.arguments.literals
        return [n for n in found if not literals[n].issuperset(values_of(self.distributions[n]) or [None])]

    def active(self, point: Point) -> set[str]:
        """Return the parameters that exist once the config groups are chosen as in point.

        `optimizer.momentum` exists with optimizer=sgd and not with optimizer=adam.
        """
        chosen = {name: point[name] for name in self.groups if name in point}
        if (groups := tuple(map(str, chosen.items()))) not in self._active:
            composed = self.compose(self.overrides(chosen))
            self._active[groups] = {name for name in self.distributions if name in self.groups or _has(composed, name)}
        return self._active[groups]

    def compose(self, overrides: list[str]) -> DictConfig:
        """Compose one run of this sweep."""
        name = self.config.hydra.job.config_name
        return self.loader.load_configuration(name, overrides, RunMode.RUN, validate_sweep_overrides=False)

    def overrides(self, point: Point) -> list[str]:
        """Return what to give to `python train.py` for a point, in the order in which it was typed.

        Its `from_run` stands for the recipe of that run.
        """
        written = {}
        for name, value in point.items():
            literal = isinstance(value, str) and value in self.arguments.literals.get(name, ())
            written[name] = f"{name}={value if literal else recipe.override_text(value)}"
        typed = [one for one in self.arguments.typed if one in point or one not in self.distributions]
        given = [written.pop(one, one) for one in typed] + list(written.values())
        if "from_run" not in point:
            return given
        return recipe.as_overrides(recipe.recipe_of_folder(point["from_run"], self.compose), given)

    def suggest(self, trial: optuna.Trial) -> list[str]:
        """Draw a point, groups first, or take the listed one, and return its overrides."""
        if listed := trial.user_attrs.get("point"):
            check_keys(listed, self.loader, f"trial #{trial.number} in the database")
            return self.overrides(listed)
        names = self.groups + [name for name in self.distributions if name not in self.groups]
        point: Point = {}
        for name in names:
            if name in self.groups or name in self.active(point):
                point[name] = _draw(trial, name, self.distributions[name])
        return self.overrides(point)

    def runs_listed(self) -> list[Point]:
        """Return the runs of search.points where there is no search space: they are made, and nothing is drawn.

        Raises:
            UserError: A key that no run has.
        """
        points = [] if self.distributions else given_points(self.config)
        for point in points:
            check_keys(point, self.loader, "search.points")
        return points

    def _check(self) -> None:
        """Raise a UserError unless each option exists, and each parameter with one of the options at least."""
        choices: dict[str, list[Any]] = {}
        for name in self.groups:
            options = self.loader.get_group_options(name.lstrip("+"))
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


def _draw(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
    raise TypeError(f"{name}: {distribution} is not one of Optuna's three distributions")


def _directions(given: Any, objectives: list[str]) -> list[str]:
    needed = [schema.objectives()[name] for name in objectives]
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
