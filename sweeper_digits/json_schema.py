"""JSON Schema, draft 7, of type hints and dataclasses; the YAML language server takes it in all of its versions.

A value in a YAML file may also be one that Hydra computes, `${seed}`, or one that is still to be given, `???`.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from omegaconf import MISSING

from sweeper_digits.errors import Range
from sweeper_digits.signature import default_of, docstring

Schema = dict[str, Any]
DRAFT = "http://json-schema.org/draft-07/schema#"
LATER: Schema = {"type": "string", "pattern": r"\$\{|^\?\?\?$"}
# OmegaConf makes text of a number where text is needed.
SCALARS: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": ["string", "number"]},
    Path: {"type": "string"},
    type(None): {"type": "null"},
}
# An option, or an option with its package or its group.
DEFAULT_ENTRY: Schema = {"type": ["string", "object"]}
DEFAULTS: Schema = {"type": "array", "items": DEFAULT_ENTRY, "description": "What Hydra composes first."}


def of_type(hint: Any) -> Schema:
    """Return the schema of the values of a type; of a type that no config has, anything passes."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (types.UnionType, typing.Union):
        return any_of(of_type(one) for one in inner)
    if origin is list:
        return {"type": "array", "items": or_later(of_type(inner[0]))}
    if origin is dict:
        return {"type": "object", "additionalProperties": or_later(of_type(inner[1]))}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [one.name for one in hint]}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return of_class(hint)
    return dict(SCALARS.get(hint, {}))


def any_of(schemas: Iterable[Schema]) -> Schema:
    """Return the schema of what passes one of several."""
    found: list[Schema] = []
    for one in schemas:
        found += one["anyOf"] if set(one) == {"anyOf"} else [one]
    if {} in found:
        return {}
    return found[0] if len(found) == 1 else {"anyOf": found}


def or_later(schema: Schema) -> Schema:
    """Return the schema of what passes another, or is computed by Hydra, or is still to be given."""
    described = {key: schema[key] for key in ("description", "default") if key in schema}
    bare = {key: value for key, value in schema.items() if key not in described}
    takes_text = any("string" in one.get("type", ()) and "pattern" not in one for one in bare.get("anyOf", [bare]))
    return described | (bare if takes_text else any_of([bare, LATER]))


def bounds(allowed: Range | None) -> Schema:
    """Return the limits of a number; they say nothing of other values."""
    if allowed is None:
        return {}
    low = {"exclusiveMinimum" if allowed.open_low else "minimum": allowed.low}
    high = {"exclusiveMaximum" if allowed.open_high else "maximum": allowed.high}
    return {key: limit for key, limit in (low | high).items() if math.isfinite(limit)}


def of_class(kind: type, meanings: dict[str, str] | None = None, defaults: dict[str, Any] | None = None) -> Schema:
    """Return the schema of a mapping that has the fields of a dataclass as keys, some or all, and no others.

    Args:
        kind: The dataclass.
        meanings: Key -> description; None: what the docstrings of the class and its bases say.
        defaults: Key -> default, where the field has none.
    """
    if meanings is None:
        bases = [one for one in reversed(kind.__mro__) if dataclasses.is_dataclass(one)]
        meanings = {key: text for one in bases for key, text in docstring(one)[1].items()}
    properties = {}
    for one in dataclasses.fields(kind):
        default = (defaults or {}).get(one.name, default_of(one))
        limits = bounds(one.metadata.get("range"))
        schema = any_of(alternative | _limits_for(alternative, limits) for alternative in _alternatives(one.type))
        properties[one.name] = or_later(schema | _about(meanings.get(one.name), default))
    return closed(properties)


def closed(properties: dict[str, Schema]) -> Schema:
    """Return the schema of a mapping that has some of these keys and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _alternatives(hint: Any) -> list[Schema]:
    schema = of_type(hint)
    return schema["anyOf"] if set(schema) == {"anyOf"} else [schema]


def _limits_for(schema: Schema, limits: Schema) -> Schema:
    return limits if schema.get("type") in ("integer", "number") else {}


def _about(meaning: str | None, default: Any) -> Schema:
    """Return what an editor shows beside a value; only a default that YAML can hold."""
    default = default.name if isinstance(default, Enum) else str(default) if isinstance(default, Path) else default
    shows = default is None or (isinstance(default, bool | int | float | str | list) and default != MISSING)
    known = not isinstance(default, float) or math.isfinite(default)
    return ({"description": meaning} if meaning else {}) | ({"default": default} if shows and known else {})
