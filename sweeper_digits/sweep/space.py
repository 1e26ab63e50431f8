"""The search space of a sweep: parameters, fixed overrides, objectives."""

import copy
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution

from sweeper_digits import program
from sweeper_digits.config import KNOWN_AT_THE_END, check_study, checked_objectives, objectives, parse, typed
from sweeper_digits.errors import UserError, closest
from sweeper_digits.overrides import override_key, override_text
from sweeper_digits.runs import recipe
from sweeper_digits.runs.origin import Origin, origin_in
from sweeper_digits.sweep.budget import Budget
from sweeper_digits.sweep.comparable import (
    Images,
    check_beside,
    check_shared,
    compositions,
    differing,
    images_of_trials,
)
from sweeper_digits.sweep.grammar import Arguments, draw, parse_arguments
from sweeper_digits.sweep.owner import owner_of
from sweeper_digits.sweep.points import (
    Owners,
    Point,
    check_keys,
    ends_of,
    given_points,
    has_end,
    is_finite,
    points,
    size,
    values_of,
)
from sweeper_digits.sweep.record import StudyRecord, TrialRecord
from sweeper_digits.sweep.sampler import LEARNING, Prior
from sweeper_digits.url import url_of

# Points of a finite space that are tried one after the other where n_trials is null; of more, points are drawn.
MOST_ENUMERATED = 1000
# The value of hydra.sweep.subdir: results are looked for under a trial's number.
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
        origin: The folders beside conf/ that the user named.
        given: The arguments as they were typed.
        owners: By parameter that only some options have: their config group, and these options.
    """

    options: Any
    config: DictConfig
    arguments: Arguments
    objectives: list[str]
    directions: list[str]
    folder: Path
    loader: ConfigLoader
    origin: Origin
    given: list[str]
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
        names = checked_objectives(config.objective)
        check_study(str(config.study))
        check_study(options.study_name)
        options = options.copy()  # the caller's config says what was typed
        folder = Path(os.path.realpath(config.hydra.sweep.dir))  # Path.resolve raises for a loop
        if options.storage is None:
            options.storage = url_of(folder)
            if folder.name == options.study_name and (owner := owner_of(folder)):
                options.study_name = owner.study  # a folder that was renamed, or copied, has its study in it
        subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index, call-overload]
        if subdir != TRIAL_FOLDER:
            raise UserError(
                f"hydra.sweep.subdir={subdir}: the folder of a trial is named by its number; remove this key"
            )
        sweep = cls(
            options=options,
            config=config,
            arguments=parse_arguments(given + arguments, loader),
            objectives=names,
            directions=_directions(options.direction, names),
            folder=folder,
            loader=loader,
            origin=origin_in(config.hydra),
            given=arguments,
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
        return len(self.objectives) == 1 and self.objectives[0] not in KNOWN_AT_THE_END and not self.other_images

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
        return grid or (self.size is not None and self.size <= (self.options.n_trials or MOST_ENUMERATED))

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
        return size(self)

    @property
    def is_cut(self) -> bool:
        """Return whether each point is tried once, but not all of them: n_trials are fewer."""
        return self.is_enumerated and (self.size or math.inf) > (self.options.n_trials or math.inf)

    def points(self, given: Point | None = None) -> Iterator[Point]:
        """Enumerate the points of a finite space, or those with some values; those of a cut space in random order."""
        return points(self, given, (self.options.sampler.get("seed") or 0) if self.is_cut else None)

    @property
    def may_repeat(self) -> bool:
        """Return whether the sampler could draw a point twice."""
        return not self.is_enumerated and has_end(self)

    @functools.cached_property
    def prior(self) -> Prior | None:
        """Return what draws near the best point, where the sampler learns from trials; None where search.prior is 0."""
        sampler, weight = self.options.sampler, self.config.search.prior
        learns = str(sampler._target_).rpartition(".")[2] in LEARNING
        if not weight or not learns or is_finite(self) or self.other_images:
            return None
        return Prior(weight, self.distributions, sampler.get("seed"), self.active)

    @functools.cached_property
    def choices(self) -> dict[str, list[Any]]:
        """Return the options of each parameter that chooses an option of a config group.

        A parameter of mappings, such as `optimizer={learning_rate: 0.1},{learning_rate: 0.2}`, chooses none.
        """
        groups = [name for name in self.distributions if self.loader.get_group_options(name.lstrip("+"))]
        found = {name: list(values_of(self.distributions[name]) or [str(self.distributions[name])]) for name in groups}
        literals = self.arguments.literals
        return {name: options for name, options in found.items() if not literals[name].issuperset(options)}

    @property
    def groups(self) -> list[str]:
        """Return the parameters that choose an option of a config group."""
        return list(self.choices)

    @property
    def deciding(self) -> list[str]:
        """Return the config groups of which some options have parameters that others lack."""
        return [group for group in self.groups if any(group in needed for needed in self.owners.values())]

    @property
    def first_choices(self) -> Point:
        return {name: options[0] for name, options in self.choices.items()}

    def with_key(self, name: str) -> Point:
        """Return a choice of each option with which a parameter exists."""
        return self.first_choices | {group: options[0] for group, options in self.owners.get(name, {}).items()}

    def active(self, point: Point) -> set[str]:
        """Return the parameters that exist once the config groups are chosen as in point.

        `optimizer.momentum` exists with optimizer=sgd and not with optimizer=adam. Where all searched options have it,
        any of them stands for the others; the option of conf/config.yaml, which may lack it, does not.
        """
        deciding = self.deciding
        alike = {group: option for group, option in self.first_choices.items() if group not in deciding}
        return self.parameters(alike | {name: point[name] for name in deciding if name in point})

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
        if listed := TrialRecord(trial).listed:
            where = f"trial #{trial.number} in the database"
            check_keys(listed, self.loader, where)
            known = (StudyRecord(trial.study).space or {}).get("images", [])
            check_beside(known, self.config, self.composed(listed), where)
            return self.overrides(listed)
        point: Point = {}
        for name in dict.fromkeys([*self.groups, *self.distributions]):
            if name in self.groups or name in self.active(point):
                point[name] = draw(trial, name, self.distributions[name])
        queued = TrialRecord(trial.storage.get_trial(trial._trial_id)).queued_with or {}
        lost = [f"{name}={value}" for name, value in queued.items() if name not in point]
        if lost:
            chosen = ", ".join(f"{name}={point[name]}" for name in self.groups)
            raise UserError(f"{', '.join(lost)}: asked for, and {chosen} has no such key; name the option beside it")
        return self.overrides(point)

    def command(self, trial: optuna.trial.FrozenTrial) -> str:
        """Return the command that repeats a trial, without what only a sweep reads; of its values in the database."""
        point = TrialRecord(trial).listed
        if point:
            check_keys(point, self.loader, f"trial #{trial.number} in the database")
        else:
            point = {name: trial.params[name] for name in self.distributions if name in trial.params}
        kept = [text for text in self.typed(point) if override_key(text) not in ("study", "search.points")]
        return program.command("train", *self.origin.flags(), *kept)

    def runs_listed(self) -> list[Point]:
        """Return the runs of search.points where there is no search space: they are made, and nothing is drawn.

        Raises:
            UserError: A key that no run has.
        """
        points = [] if self.distributions else given_points(self.config)
        for point in points:
            check_keys(point, self.loader, "search.points")
        return points


def _directions(given: Any, names: list[str]) -> list[str]:
    needed = [objectives()[name] for name in names]
    if given is None:
        return needed
    directions = [given] if isinstance(given, str) else [str(direction) for direction in given]
    if directions != needed:
        directed = " and ".join(f"{name} is {direction}d" for name, direction in zip(names, needed, strict=True))
        raise UserError(f"hydra.sweeper.direction={given}: {directed}; remove this key")
    return directions


# More values of a parameter than these are not all looked at.
MOST_VALUES = 100
# More combinations of the parameters of one group than these are not all tried with a value.
MOST_COMBINATIONS = 64


def check_values(sweep: Sweep) -> None:
    """Raise a UserError for a value of the search space, or a listed run, that cannot be tried, or not beside others.

    A range may depend on other keys of the group, as that of split.fold does on split.folds: a value is refused only
    if none of their values goes with it.
    """
    typed("search", OmegaConf.to_container(sweep.config.search, resolve=True))  # raises
    for number, point in enumerate(sweep.runs_listed()[:MOST_VALUES]):
        try:
            parse(recipe.without_hydra(sweep.composed(point)))
        except UserError as error:
            raise UserError(f"search.points: run {number} can never work: {error}") from error
    for where, composed in compositions(sweep):
        check_shared(sweep.config, composed, where)
    for name in sweep.distributions:
        groups = sweep.with_key(name)
        if name in sweep.groups or name.startswith("+"):
            sweep.composed(groups | {name: _looked_at(sweep, name)[0]})  # raises where one run would
            continue
        config = recipe.without_hydra(sweep.composed(groups))
        for value in _looked_at(sweep, name):
            if value not in sweep.arguments.literals[name]:
                _check_value(sweep, config, name, value, sweep.active(groups))


def _check_value(sweep: Sweep, config: DictConfig, name: str, value: Any, active: set[str]) -> None:
    group = name.rpartition(".")[0]
    beside = [other for other in active - {name} if group and other.rpartition(".")[0] == group]
    looked_at = [_looked_at(sweep, other) for other in beside]
    if math.prod(map(len, looked_at)) > MOST_COMBINATIONS:
        return
    refusals = []
    for values in itertools.product(*looked_at):
        refusals.append(_refusal(config, name, value, dict(zip(beside, values, strict=True))))
        if refusals[-1] is None:
            return
    raise UserError(f"{refusals[0]} (a value of the search space that can never work; take it out)")


def _refusal(config: DictConfig, name: str, value: Any, others: Point) -> str | None:
    """Return why the schema refuses a value, or None; what it says of other keys does not count."""
    config = copy.deepcopy(config)
    try:
        for key, one in [*others.items(), (name, value)]:
            OmegaConf.update(config, key, one)
        parse(config)
    except OmegaConfBaseException as error:
        own = error.full_key in (name, name.split(".")[-1])
        return f"{name}={value}: {str(error).splitlines()[0]}" if own else None
    except UserError as error:
        return next((line for line in error.lines if line.startswith(f"{name}=")), None)
    return None


def _looked_at(sweep: Sweep, name: str) -> list[Any]:
    """Return the values of a parameter; of many, or of an interval, the first and the last."""
    values = values_of(sweep.distributions[name])
    return ends_of(sweep.distributions[name]) if values is None or len(values) > MOST_VALUES else list(values)


def owners_of(sweep: "Sweep") -> Owners:
    """Return which options have the parameters that not all options have.

    Raises:
        UserError: An option that does not exist, or a parameter that no option has.
    """
    for name, choices in sweep.choices.items():
        options = sweep.loader.get_group_options(name.lstrip("+"))
        if unknown := [choice for choice in choices if choice not in options]:
            raise UserError(
                f"{name}={unknown[0]}: no such option{closest(str(unknown[0]), options)}; "
                f"choose from {', '.join(sorted(options))}"
            )
    owners: Owners = {}
    found = sweep.parameters(sweep.first_choices)
    for group, choices in sweep.choices.items():
        having = {choice: sweep.parameters(sweep.first_choices | {group: choice}) for choice in choices}
        found = found.union(*having.values())
        for name in sweep.distributions:
            options = [choice for choice in choices if name in having[choice]]
            if 0 < len(options) < len(choices):
                owners.setdefault(name, {})[group] = options
    if unknown := [name for name in sweep.distributions if name not in found]:
        groups = {key: node for key in map(str, sweep.config) if OmegaConf.is_dict(node := sweep.config[key])}
        known = [f"{key}.{sub}" for key, node in groups.items() for sub in map(str, node)]
        raise UserError(f"{unknown[0]}: no option of the search space has this key{closest(unknown[0], known)}")
    return owners


def has(config: DictConfig, name: str) -> bool:
    """Return whether a config has a key, be it one whose value is missing."""
    node: Any = config
    for part in name.lstrip("+").split("."):
        if not OmegaConf.is_dict(node) or part not in node.keys():  # noqa: SIM118 - `in` is False for a missing value
            return False
        node = None if OmegaConf.is_missing(node, part) else node[part]
    return True
