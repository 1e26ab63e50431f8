"""Pydantic models made from signatures: they judge values, a line for each fault, and describe them for editors.

Importing Pydantic takes a tenth of a second of CPU: `--help` does without this module.
"""

import types
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from omegaconf import MISSING
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic import create_model as create
from pydantic_core import PydanticCustomError

from sweeper_digits.errors import UserError, closest
from sweeper_digits.overrides import override_text
from sweeper_digits.text import interval_text

CONFIG = ConfigDict(extra="forbid", coerce_numbers_to_str=True, protected_namespaces=())
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
# The type of Pydantic's errors that hold a line of a check of ours.
OURS = "ours"
# A longer value is cut in a message.
LONGEST_VALUE = 80


# By name: the type of a key and its default, MISSING where a value must be given. In an `Annotated` stand limits, of
# `annotated_types` or Pydantic, and functions that check the value.
Keys = Mapping[str, tuple[Any, Any]]


def model_of(name: str, keys: Keys, meanings: Mapping[str, str] | None = None) -> type[BaseModel]:
    """Return the model of a mapping that has these keys and no others.

    Args:
        name: For messages of Pydantic's own.
        keys: By name, which may be any: names that Pydantic has itself are no names of fields.
        meanings: Key -> description.
    """
    fields: dict[str, Any] = {}
    for key, (hint, default) in keys.items():
        given = {} if default == MISSING else {"default": default}
        described = (meanings or {}).get(key)
        fields[_field(key)] = (_taken(hint), Field(alias=key, description=described, validate_default=True, **given))
    return create(name, __config__=CONFIG, **fields)


def judged(prefix: str, keys: Keys, model: type[BaseModel], given: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the values of a mapping as the types of its keys.

    Args:
        prefix: What stands before a key on the command line, for example `split.`.
        keys: Those of the model.
        model: From `model_of`.
        given: Plain values; a key whose value is `???` has none.

    Raises:
        UserError: A line for each key that is unknown, missing, of another type, or out of its range.
    """
    values = {str(key): value for key, value in given.items() if value != MISSING}
    try:
        made = model.model_validate(values)
    except ValidationError as error:
        raise UserError(*_lines(prefix, keys, values, error)) from error
    return {key: getattr(made, _field(key)) for key in keys}


def _field(key: str) -> str:
    return f"key_{key}"


def _taken(hint: Any, beside: tuple[Any, ...] = ()) -> Any:
    """Return a type as Pydantic takes it: limits beside each number, no truth for a number, an Enum by its names."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        checks = [_check(one) for one in hint.__metadata__ if isinstance(one, types.FunctionType)]
        limits = tuple(one for one in hint.__metadata__ if not isinstance(one, types.FunctionType))
        taken = _taken(inner[0], limits)
        return Annotated[taken, *checks] if checks else taken
    if origin in (types.UnionType, Union):
        return Union[tuple(_taken(one, beside) for one in inner)]  # noqa: UP007 - of types that are not written here
    if origin is list:
        return list[_taken(inner[0])]  # type: ignore[misc]
    if hint in (int, float):
        return Annotated[hint, *beside, BeforeValidator(_no_truth)]
    if isinstance(hint, type) and issubclass(hint, Enum):
        names = list(hint.__members__)
        return Annotated[hint, BeforeValidator(_member_of(hint)), WithJsonSchema({"enum": names})]
    return hint


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("truth", "a number is expected")
    return value


def _member_of(kind: type[Enum]) -> Callable[[Any], Any]:
    return lambda value: kind.__members__.get(value, value) if isinstance(value, str) else value


def _check(function: Callable[[Any], Any]) -> AfterValidator:
    def check(value: Any) -> Any:
        try:
            return function(value)
        except UserError as error:
            raise PydanticCustomError(OURS, "{line}", {"line": str(error)}) from error

    return AfterValidator(check)


def _lines(prefix: str, keys: Keys, values: Mapping[str, Any], error: ValidationError) -> Iterator[str]:
    seen = set()
    for fault in error.errors(include_url=False):
        key = str(fault["loc"][0])
        if key in seen:  # each type of a union has a fault of its own
            continue
        seen.add(key)
        name = f"{prefix}{key}"
        if key not in keys:
            yield f"{name}: no such key{closest(key, keys)}"
        elif fault["type"] == "missing":
            yield f"{name}: a value is needed; add {name}=VALUE"
        elif fault["type"] == OURS:
            yield fault["ctx"]["line"]
        else:
            yield f"{name}={_shown(values[key])}: {_wanted(keys[key][0], values[key], fault['type'])}"


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, dict) else override_text(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _wanted(hint: Any, value: Any, fault: str) -> str:
    """Write what a key takes: its choices, its range if the value is but out of it, else its type and range."""
    limits, bare = interval_text(hint), get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if limits and fault.startswith(("greater_than", "less_than")):
        return f"must be in {limits}"
    if choices := _choices(bare):
        return f"no such value{closest(str(value), choices)}; choose from {', '.join(choices)}"
    if get_origin(bare) is list and not isinstance(value, list):
        return f"a list is expected, for example [{_shown(value)}]"
    return f"{_words(hint)} is expected"


def _choices(hint: Any) -> list[str]:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return [override_text(one) for one in inner]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return list(hint.__members__)
    return []


def _words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _words(inner[0]) + (f" in {limits}" if (limits := interval_text(hint)) else "")
    if origin in (types.UnionType, Union):
        return " or ".join(map(_words, inner))
    if origin is list:
        return f"a list, each item {_words(inner[0])},"
    return " or ".join(_choices(hint)) or WORDS.get(hint, "another value")
