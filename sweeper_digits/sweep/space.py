"""What a sweep searches: parameters, fixed overrides, objectives."""

import dataclasses
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution

from sweeper_digits import program, schema
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_key, override_text
from sweeper_digits.runs import recipe
from sweeper_digits.runs.origin import origin_in
from sweeper_digits.sweep import attributes
from sweeper_digits.sweep.branches import has, owners_of
from sweeper_digits.sweep.budget import Budget
from sweeper_digits.sweep.comparable import Images, check_beside, differing, images_of_trials
from sweeper_digits.sweep.finite import Owners, Point, has_at_most, has_end, is_finite, points, size, values_of
from sweeper_digits.sweep.grammar import Arguments, contains, draw, parse_arguments
from sweeper_digits.sweep.listed import check_keys, given_points
from sweeper_digits.sweep.prior import LEARNING, Prior
from sweeper_digits.sweep.scouts import NEAR_BEST, POINT_FROM
from sweeper_digits.sweep.steering import SPACE
from sweeper_digits.sweep.trials import LISTED, QUEUED_WITH

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
        owners: By parameter that only some options have: their config group, and these options.
    """

    options: Any
    config: DictConfig
    arguments: Arguments
    objectives: list[str]
    directions: list[str]
    folder: Path
    loader: ConfigLoader
    owners: Owners = field(default_factory=dict)
    _composed: dict[str, DictConfig] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Any, config: DictConfig, arguments: list[str], loader: ConfigLoader) -> "Sweep":
        """Parse and check the arguments of a sweep.

        Raises:
            UserError: A parameter that no option has, a sweep that cannot be searched, objectives and directions
                that do not match.
        """
        searched = (options.params or {}).items()
        given = [f"{key}={value if isinstance(value, str) else override_text(value)}" for key, value in searched]
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
        sweep.owners = owners_of(sweep)
        Budget.of(options, is_open=sweep.is_enumerated)  # raises
        return sweep

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the search space, by parameter."""
        return self.arguments.distributions

    @property
    def prunes(self) -> bool:
        """Return whether trials can be pruned: by the one objective, which every epoch measures, on the same images."""
        return len(self.objectives) == 1 and self.objectives[0] not in schema.AT_THE_END and not self.other_images

    @property
    def has_front(self) -> bool:
        """Return whether there are several objectives, known after each epoch, on the same images."""
        known = len(self.objectives) > 1 and "milliseconds_per_image" not in self.objectives
        return known and not self.other_images

    @functools.cached_property
    def images(self) -> list[Images]:
        """Return the settings of the images that trials validate on, each once."""
        return images_of_trials(self)

    @property
    def other_images(self) -> list[str]:
        """Return the keys in which trials validate on other images: their values do not compare."""
        return differing(self.images)

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
        """Return what ends the sweep; where each point is tried once, the number of trials is that of the points.

        Raises:
            UserError: Nothing ends it.
        """
        given = Budget.of(self.options, is_open=self.is_enumerated)
        return dataclasses.replace(given, n_trials=None) if self.is_enumerated else given

    @functools.cached_property
    def size(self) -> int | None:
        """Return how many points the space has; None: one is continuous, or they are too many to be counted."""
        return size(self) if self.distributions else None

    @property
    def is_cut(self) -> bool:
        """Return whether each point is tried once, but not all of them: n_trials are fewer."""
        return self.is_enumerated and not (self.options.n_trials is None or has_at_most(self, self.options.n_trials))

    def points(self, given: Point | None = None) -> Iterator[Point]:
        """Enumerate the points of a finite space, or those with some values; those of a cut space in random order."""
        return points(self, given, (self.options.sampler.get("seed") or 0) if self.is_cut else None)

    @property
    def may_repeat(self) -> bool:
        """Return whether the sampler could draw a point twice."""
        return not self.is_enumerated and has_end(self)

    @functools.cached_property
    def prior(self) -> Prior | None:
        """Return the first guess, where the sampler learns from trials; None where search.prior is 0."""
        sampler, weight = self.options.sampler, self.config.search.prior
        learns = str(sampler._target_).rpartition(".")[2] in LEARNING
        if not weight or not learns or self.is_enumerated or self.other_images:
            return None
        return Prior(self.recipe, self.groups, weight, self.distributions, sampler.get("seed"), self.active)

    def recipe(self, chosen: Point) -> Point:
        """Return the values that lie in the search space of the config that is composed with some options chosen."""
        composed = self.composed(chosen)
        choices = composed.hydra.runtime.choices
        values = {
            name: choices.get(name) if name in self.groups else OmegaConf.select(composed, name)
            for name in self.distributions
            if not name.startswith("+") and (name in self.groups or has(composed, name))
        }
        return {name: value for name, value in values.items() if contains(self.distributions[name], value)}

    @functools.cached_property
    def choices(self) -> dict[str, list[Any]]:
        """Return the options of each parameter that chooses an option of a config group.

        A parameter of mappings, such as `optimizer={learning_rate: 0.1},{learning_rate: 0.2}`, chooses none.
        """
        found = {}
        for name, distribution in self.distributions.items():
            options = list(values_of(distribution) or [str(distribution)])
            if self.loader.get_group_options(name.lstrip("+")) and not self.arguments.literals[name].issuperset(
                options
            ):
                found[name] = options
        return found

    @property
    def groups(self) -> list[str]:
        """Return the parameters that choose an option of a config group."""
        return list(self.choices)

    @property
    def first_choices(self) -> Point:
        """Return the first option of each group."""
        return {name: options[0] for name, options in self.choices.items()}

    def with_key(self, name: str) -> Point:
        """Return a choice of each option with which a parameter exists."""
        return self.first_choices | {group: options[0] for group, options in self.owners.get(name, {}).items()}

    def active(self, point: Point) -> set[str]:
        """Return the parameters that exist once the config groups are chosen as in point.

        `optimizer.momentum` exists with optimizer=sgd and not with optimizer=adam.
        """
        deciding = {group for one in self.owners.values() for group in one}
        return self.parameters({name: point[name] for name in self.groups if name in point and name in deciding})

    def parameters(self, chosen: Point) -> set[str]:
        """Return the parameters that the config has which is composed with some options chosen."""
        composed = self.composed(chosen)
        return {name for name in self.distributions if name in self.groups or has(composed, name)}

    def composed(self, point: Point) -> DictConfig:
        """Compose the run of a point, or of a part of one; not to be changed."""
        if (key := repr(sorted(point.items()))) not in self._composed:
            self._composed[key] = self.compose(self.overrides(point))
        return self._composed[key]

    def compose(self, overrides: list[str]) -> DictConfig:
        """Compose one run of this sweep, with the command's settings of Hydra itself."""
        name = self.config.hydra.job.config_name
        given: Any = OmegaConf.to_container(self.config.hydra.overrides.hydra)  # an item may look like an interpolation
        return self.loader.load_configuration(name, given + overrides, RunMode.RUN, validate_sweep_overrides=False)

    def overrides(self, point: Point) -> list[str]:
        """Return what a trial is composed from; the `from_run` of its point stands for the recipe of that run."""
        given = self.typed(point)
        if "from_run" not in point:
            return given
        return recipe.as_overrides(recipe.recipe_of_folder(point["from_run"], self.compose, given), given)

    def typed(self, point: Point) -> list[str]:
        """Return what to give to `python train.py` for a point, in the order in which it was typed."""
        written = {}
        for name, value in point.items():
            literal = isinstance(value, str) and value in self.arguments.literals.get(name, ())
            written[name] = f"{name}={value if literal else override_text(value)}"
        typed = [one for one in self.arguments.typed if one in point or one not in self.distributions]
        return [written.pop(one, one) for one in typed] + list(written.values())

    def suggest(self, trial: optuna.Trial) -> list[str]:
        """Draw a point, groups first, or take the listed one, and return its overrides."""
        if listed := trial.user_attrs.get(LISTED):
            where = f"trial #{trial.number} in the database"
            check_keys(listed, self.loader, where)
            known = attributes.of_study(trial.study).get(SPACE, {}).get("images", [])
            check_beside(known, self.config, self.composed(listed), where)
            return self.overrides(listed)
        names = self.groups + [name for name in self.distributions if name not in self.groups]
        point: Point = {}
        for name in names:
            if name in self.groups or name in self.active(point):
                point[name] = draw(trial, name, self.distributions[name])
        queued = attributes.of_trial(trial.storage.get_trial(trial._trial_id)).get(QUEUED_WITH, {})
        lost = [f"{name}={value}" for name, value in queued.items() if name not in point]
        if lost and trial.user_attrs.get(POINT_FROM) != NEAR_BEST:  # an earlier version drew these carelessly
            chosen = ", ".join(f"{name}={point[name]}" for name in self.groups)
            raise UserError(f"{', '.join(lost)}: asked for, and {chosen} has no such key; name the option beside it")
        return self.overrides(point)

    def command(self, trial: optuna.trial.FrozenTrial) -> str:
        """Return the command that repeats a trial, without what only a sweep reads; of its values in the database."""
        point = trial.user_attrs.get("point")
        if point:
            check_keys(point, self.loader, f"trial #{trial.number} in the database")
        else:
            names = self.groups + [name for name in self.distributions if name not in self.groups]
            point = {name: trial.params[name] for name in names if name in trial.params}
        kept = [text for text in self.typed(point) if override_key(text) not in ("study", "search.points")]
        return program.command("train", *origin_in(self.config.hydra).flags(), *kept)

    def runs_listed(self) -> list[Point]:
        """Return the runs of search.points where there is no search space: they are made, and nothing is drawn.

        Raises:
            UserError: A key that no run has.
        """
        points = [] if self.distributions else given_points(self.config)
        for point in points:
            check_keys(point, self.loader, "search.points")
        return points


def _directions(given: Any, objectives: list[str]) -> list[str]:
    needed = [schema.objectives()[name] for name in objectives]
    if given is None:
        return needed
    directions = [given] if isinstance(given, str) else [str(direction) for direction in given]
    if directions != needed:
        directed = " and ".join(f"{name} is {direction}d" for name, direction in zip(objectives, needed, strict=True))
        raise UserError(f"hydra.sweeper.direction={given}: {directed}; remove this key")
    return directions
