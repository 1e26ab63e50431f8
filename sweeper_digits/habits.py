"""What users of Hydra's own Optuna sweeper, and of Optuna, type by habit: done here, or answered with what to type."""

import re
from collections.abc import Collection

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from sweeper_digits import components
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_key

PARAMS = "hydra.sweeper.params."
STUDY_NAME = "hydra.sweeper.study_name"
CUSTOM = "hydra.sweeper.custom_search_space"
SHORT = {"lr": "learning_rate", "bs": "batch_size"}
# The groups whose keys people call by their last name.
GROUPS = ("model", "optimizer", "schedule", "augmentation")
QUOTED = re.compile(r"""(["'])(.*)\1""", re.DOTALL)
# What installs a launcher.
LAUNCHERS = {
    "joblib": "hydra-joblib-launcher",
    "ray": "'sweeper_digits[ray]'",
    "submitit_local": "'sweeper_digits[slurm]'",
    "submitit_slurm": "'sweeper_digits[slurm]'",
    "rq": "hydra-rq-launcher",
}


def understood(arguments: list[str], keys: Collection[str], in_sweep: bool) -> list[str]:
    """Return arguments as this program takes them.

    `hydra.sweeper.params.KEY=VALUES` is `KEY=VALUES`, and `hydra.sweeper.study_name` is `study`. A fixed key that only
    some searched options have is one of the searched parameters, with one value: Hydra itself would look for it in the
    default option.

    Args:
        arguments: As typed.
        keys: The top-level keys of a run.
        in_sweep: Whether they begin a sweep of this program's sweeper.

    Raises:
        UserError: A key of another program, with what to type here.
    """
    if in_sweep:
        arguments = [_parameter(one) for one in arguments]
    for argument in arguments:
        _check_key(argument, keys)
    return _with_conditional(arguments) if in_sweep else arguments


def _parameter(argument: str) -> str:
    key, equals, value = argument.partition("=")
    name = key.lstrip("+")
    if name == CUSTOM:
        raise UserError(
            f"{CUSTOM}: a sweep calls no function for its space; name each parameter with its values, for example "
            "optimizer.learning_rate=interval(0.001,0.1), or choose hydra/sweeper=optuna"
        )
    if name == STUDY_NAME and equals:
        return f"study={value}"  # one name, of the study and of its folder
    if not (equals and name.startswith(PARAMS)):
        return argument
    quoted = QUOTED.fullmatch(value)
    return f"{name.removeprefix(PARAMS)}={quoted[2] if quoted else value}"


def _check_key(argument: str, keys: Collection[str]) -> None:
    """Refuse the short name of a key of a config group, such as `lr`; Hydra says what is wrong with all others."""
    name, equals, value = argument.partition("=")
    if not equals or not name.isidentifier() or name in keys or components.options_of(name):
        return
    last = SHORT.get(name, name)
    found = [last] if last in keys else []
    for group in GROUPS:
        options = components.options_of(group)
        found += [f"{group}.{last}"] if any(last in component.keys for component in options.values()) else []
    if found:
        raise UserError(f"{name}: no such key; type {' or '.join(f'{key}={value}' for key in found)}")


def _with_conditional(arguments: list[str]) -> list[str]:
    parsed = [_parsed(argument) for argument in arguments]
    searched = {str(one.key_or_group) for one in parsed if one and _searches_options(one)}
    found = []
    for argument, one in zip(arguments, parsed, strict=True):
        group, _, key = override_key(argument).rpartition(".")
        options = components.options_of(group) if group in searched else {}
        fixed = one and not one.is_sweep_override() and not one.is_delete()
        if fixed and options and not all(key in component.keys for component in options.values()):
            argument = f"{group}.{key}=choice({argument.partition('=')[2]})"
        found.append(argument)
    return found


def _searches_options(override: Override) -> bool:
    """Return whether an override searches options, and not the values of one, as `data={part:train},{part:test}`."""
    if not override.is_sweep_override():
        return False
    value = override.value()
    return not (isinstance(value, ChoiceSweep) and any(isinstance(one, dict) for one in value.list))


def _parsed(argument: str) -> Override | None:
    try:
        return None if argument.startswith("-") else OverridesParser.create().parse_override(argument)
    except HydraException:
        return None
