"""Hydra's grammar of overrides as Optuna's distributions: what a sweep searches, and what it fixes."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, get_args

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
    Transformer,
)
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeper_digits.components import keys_of, options_of
from sweeper_digits.config import NESTED, Config
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_keys

# Keys that a whole study has, so that its trials cannot differ in them.
STUDY_KEYS = ("objective", "study", "search", "hydra")


@dataclass
class Arguments:
    """The arguments of a sweep.

    Attributes:
        distributions: The search space, by parameter, in the order in which the keys were first named, and are drawn.
            A choice is a Python value; a list or a mapping, which Optuna cannot store, is its text in Hydra's grammar.
        literals: The choices that are such texts, by parameter.
        typed: In the order of the arguments, the overrides that all trials share, as texts, and the parameters: a
            parameter stands for its key with one value. Hydra merges them in this order.
    """

    distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    literals: dict[str, set[str]] = field(default_factory=dict)
    typed: list[str] = field(default_factory=list)

    @property
    def fixed(self) -> list[str]:
        """Return the overrides that all trials share."""
        return [text for text in self.typed if text not in self.distributions]


def parse_arguments(arguments: Iterable[str], loader: ConfigLoader) -> Arguments:
    """Split overrides into a search space and fixed overrides, which mean what they mean in one run.

    A sweep of a key that a later override sets would change nothing, and is left out.

    Raises:
        UserError: A sweep that has no distribution, a key that is searched twice, or one that belongs to the study.
        HydraException: A text that is not in Hydra's grammar.
    """
    parser = OverridesParser.create(config_loader=loader)
    kept: list[Override] = []
    places: dict[str, int] = {}
    for text in arguments:
        override = parser.parse_override(text)
        override.config_loader = loader  # for glob(...)
        kept = [one for one in kept if not _replaces(override, one)] + [override]
        places.setdefault(override.get_key_element().lstrip("~"), len(places))
    found = Arguments()
    for override in kept:
        line, name = str(override.input_line), override.get_key_element()
        if override.is_delete() or override.is_list_extend():
            found.typed.append(line)
        elif not override.is_sweep_override():
            found.typed.append(f"{name}={override.get_value_element_as_str()}")
        elif re.split(r"[./]", key := name.lstrip("+"))[0] in STUDY_KEYS:
            raise UserError(f"{line}: {key} belongs to the study and cannot be searched; start one sweep for each")
        elif name in found.distributions:
            raise UserError(
                f"{line}: {name} is searched already; search the keys in it, for example {_within(override)}"
            )
        else:
            try:
                found.distributions[name], found.literals[name] = _distribution_of(name, override)
            except (ValueError, HydraException) as error:
                raise UserError(f"{line}: {error}") from error
            found.typed.append(name)
    found.distributions = dict(sorted(found.distributions.items(), key=lambda one: places[one[0]]))
    return found


def _replaces(later: Override, earlier: Override) -> bool:
    """Return whether nothing is left of an override once a later one has its effect.

    Mappings are merged; so are an option of a config group and the mapping of its values.
    """
    if later.is_delete() or later.is_list_extend() or earlier.is_delete() or earlier.is_list_extend():
        return False
    if _mappings(earlier):
        return False
    if earlier.is_sweep_override():
        merged = later.is_sweep_override() and _mappings(later)
        return not merged and str(earlier.key_or_group) in override_keys(str(later.input_line))
    return later.get_key_element() == earlier.get_key_element() and not (later.is_add() or _mappings(later))


def _mappings(override: Override) -> list[dict[Any, Any]]:
    value = override.value()
    return [one for one in (value.list if isinstance(value, ChoiceSweep) else [value]) if isinstance(one, dict)]


def _within(override: Override) -> str:
    """Return the sweeps of the keys in a sweep of mappings."""
    values: dict[str, list[str]] = {}
    for mapping in _mappings(override):
        for key, value in mapping.items():
            values.setdefault(f"{override.key_or_group}.{Transformer.str(key)}", []).append(Transformer.str(value))
    return " ".join(f"{key}={','.join(dict.fromkeys(listed))}" for key, listed in values.items())


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether a value can be drawn from a distribution; NaN and values of another type cannot."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101 - Optuna has these three
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and distribution.low <= value <= distribution.high):
        return False
    steps = (value - distribution.low) / distribution.step if distribution.step else 0.0
    return abs(steps - round(steps)) < 1e-8  # Optuna's own tolerance


def draw(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
    raise TypeError(f"{name}: {distribution} is not one of Optuna's three distributions")


def _distribution_of(name: str, override: Override) -> tuple[BaseDistribution, set[str]]:
    """Return the distribution of a parameter, and those of its choices that are texts of lists or mappings.

    A shuffle is ignored: the processes of a sweep must agree about the order, and the sampler draws in its own.
    """
    match sweep := override.value():
        case IntervalSweep():
            return _interval(name, sweep), set()
        case RangeSweep():
            return _range(sweep), set()
        case ChoiceSweep():
            return _choice(sweep.list)
        case _:
            options = list(override.sweep_iterator())
            if not options:
                raise ValueError("no option matches; glob(...) searches the options of a config group")
            return _choice(options)


def _choice(elements: Iterable[Any]) -> tuple[CategoricalDistribution, set[str]]:
    choices: list[Any] = []
    literals = set()
    for element in elements:
        value = element.text if isinstance(element, QuotedString) else element
        if isinstance(value, list | dict):
            value = Transformer.str(value)
            literals.add(value)
        if value in choices:
            raise ValueError(f"{Transformer.str(element)} is listed twice; list each value once")
        choices.append(value)
    return CategoricalDistribution(choices), literals


def _range(sweep: RangeSweep) -> BaseDistribution:
    if not sweep.step:
        raise ValueError("the step is zero")
    values: Any = sweep.range()
    # Not as a list: they may be many.
    number = len(values) if isinstance(values, range) else math.ceil((values.stop - values.start) / values.step)
    if number < 1:
        raise ValueError("the range is empty; its end is not part of it")
    if sweep.transformers:
        return _choice(sweep)[0]
    low, high = sorted((values.start, values.start + (number - 1) * values.step))
    if isinstance(values, range):
        return IntDistribution(low, high, step=abs(values.step))
    return FloatDistribution(float(low), float(high), step=abs(float(values.step)))


def _interval(name: str, sweep: IntervalSweep) -> BaseDistribution:
    """Return the distribution of an interval: its tag decides the type, then the schema, then the bounds."""
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    if low is None or high is None or not low <= high:
        raise ValueError("an interval goes from its lower bound to its upper one; for example interval(0.1,0.5)")
    if log and low <= 0:
        raise ValueError("a logarithmic interval begins above 0; for example tag(log,interval(1e-4,1e-1))")
    if sweep.tags & {"int", "float"}:
        integer = "int" in sweep.tags
    else:
        integer = _is_integer(name, default=isinstance(low, int) and isinstance(high, int))
    if not integer:
        return FloatDistribution(low, high, log=log)
    if low != int(low) or high != int(high):
        raise ValueError(f"{name} is an integer, and so are its bounds; for example interval(1,5)")
    return IntDistribution(int(low), int(high), log=log)


def _is_integer(name: str, default: bool) -> bool:
    """Return whether the schema types a key as an integer and not as a float; the default if it says neither."""
    group, _, key = name.lstrip("+").rpartition(".")
    options = [component.keys for component in options_of(group).values()] if group else [keys_of(Config, NESTED)]
    types: set[Any] = set()
    waiting = [keys[key].hint for keys in options if key in keys]
    for hint in waiting:  # it grows
        types.add(hint)
        waiting += get_args(hint)
    return int in types and float not in types if types & {int, float} else default
