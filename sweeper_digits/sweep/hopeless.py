"""Values of a search space that no run can have: refused before the first trial instead of failing one by one."""

import copy
import itertools
import math
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeper_digits import schema
from sweeper_digits.errors import UserError
from sweeper_digits.runs import recipe
from sweeper_digits.sweep.comparable import check_shared, compositions
from sweeper_digits.sweep.finite import Point, ends_of, values_of
from sweeper_digits.sweep.space import Sweep

# More values of a parameter than these are not all looked at.
MOST_VALUES = 100
# More combinations of the parameters of one group than these are not all tried with a value.
MOST_COMBINATIONS = 64


def check_values(sweep: Sweep) -> None:
    """Raise a UserError for a value of the search space, or a listed run, that cannot be tried, or not beside others.

    A range may depend on other keys of the group, as that of split.fold does on split.folds: a value is refused only
    if none of their values goes with it.
    """
    OmegaConf.to_object(sweep.config.search)  # raises
    for number, point in enumerate(sweep.runs_listed()[:MOST_VALUES]):
        try:
            schema.parse(recipe.without_hydra(sweep.composed(point)))
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
        refusal = _refusal(config, name, value, dict(zip(beside, values, strict=True)))
        if refusal is None:
            return
        refusals.append(refusal)
    raise UserError(f"{refusals[0]} (a value of the search space that can never work; take it out)")


def _refusal(config: DictConfig, name: str, value: Any, others: Point) -> str | None:
    """Return why the schema refuses a value, or None; what it says of other keys does not count."""
    config = copy.deepcopy(config)
    try:
        for other, one in others.items():
            OmegaConf.update(config, other, one)
    except OmegaConfBaseException:
        return None
    try:
        OmegaConf.update(config, name, value)
        schema.parse(config)
    except OmegaConfBaseException as error:
        return (
            f"{name}={value}: {str(error).splitlines()[0]}" if error.full_key in (name, name.split(".")[-1]) else None
        )
    except UserError as error:
        return str(error) if str(error).startswith(f"{name}=") else None
    return None


def _looked_at(sweep: Sweep, name: str) -> list[Any]:
    """Return the values of a parameter; of many, or of an interval, the first and the last."""
    values = values_of(sweep.distributions[name])
    return ends_of(sweep.distributions[name]) if values is None or len(values) > MOST_VALUES else list(values)
