"""`schema`: files by which an editor completes and checks the YAML files of conf/, and of any folder like it."""

import argparse
import dataclasses
import inspect
import json
import math
import os
import re
import types
import typing
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from hydra.conf import HydraConf
from omegaconf import MISSING, OmegaConf

from sweeper_digits import command_line, components
from sweeper_digits.components import default_of, docstring
from sweeper_digits.config import EXPORTS, GROUPS, SPLITS, Config, Search, StudySweeperConf, objectives
from sweeper_digits.errors import Range
from sweeper_digits.text import counted

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


# Name of a schema -> the files in conf/ that it describes, apart from those of the groups.
FILES = {
    "experiment": ["config.yaml", "experiment/*.yaml", "search/*.yaml"],
    "hydra.sweeper": ["hydra/sweeper/*.yaml"],
    "hydra.sweeper.sampler": ["hydra/sweeper/sampler/*.yaml"],
    "hydra.sweeper.pruner": ["hydra/sweeper/pruner/*.yaml"],
    "hydra.help": ["hydra/help/*.yaml"],
    "hydra.logging": ["hydra/hydra_logging/*.yaml", "hydra/job_logging/*.yaml"],
}
# The keys that logging.config.dictConfig takes.
LOGGING: dict[str, Any] = {
    **dict.fromkeys(("formatters", "filters", "handlers", "loggers", "root"), dict[str, Any]),
    **{"version": Literal[1], "disable_existing_loggers": bool, "incremental": bool},
}
DRAWN = "Drawn by a sweep: choice(1,2), interval(0,1), tag(log,interval(1e-4,1e-1)), range(1,9); or one value."
COMMENT = re.compile(r"# ?(.*)")
KEY = re.compile(r"(\w+):(?: .*?)??(?: +# (.*))?")


def main(arguments: argparse.Namespace) -> None:
    """Write the schemas and say how an editor finds them."""
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    written = schemas()
    for name, one in written.items():
        text = json.dumps({"$schema": DRAFT, "title": name} | one, indent=2, ensure_ascii=False)
        (folder / f"{name}.schema.json").write_text(text + "\n", encoding="utf-8")
    others = sorted(component.name for component in components.registered() if not component.own)
    print(f"written    {folder}: {counted(len(written), 'schema')}" + (f", with {', '.join(others)}" if others else ""))
    for name, place in (("model", "conf/model"), ("experiment", "conf/experiment")):
        path = os.path.relpath(folder / f"{name}.schema.json", place)
        print(f"\nin a file of {place}/, below a line `# @package`:\n  # yaml-language-server: $schema={path}")
    settings = {
        os.path.relpath(folder / f"{name}.schema.json"): [f"conf/{file}" for file in files]
        for name, files in files_of().items()
    }
    text = json.dumps({"yaml.schemas": settings}, indent=2)
    print(f"\nfor all files, in .vscode/settings.json, with the extension redhat.vscode-yaml:\n{text}")


def files_of() -> dict[str, list[str]]:
    """Return which files below conf/ each schema describes, by its name."""
    return {group: [f"{group}/*.yaml"] for group in GROUPS} | FILES


def schemas() -> dict[str, Schema]:
    """Return the JSON Schema of each kind of YAML file, by name; registered components are in them."""
    hydra = typing.get_type_hints(HydraConf)
    return {
        **{group: any_of(_files_of_options(group)) for group in GROUPS},
        "experiment": _experiment(),
        "hydra.sweeper": _with_defaults(_sweeper()),
        # A file that is packaged as hydra.sweeper sets more than the sampler: grid sets n_trials.
        "hydra.sweeper.sampler": any_of([_built_by_optuna("samplers"), _sweeper()]),
        "hydra.sweeper.pruner": _built_by_optuna("pruners"),
        "hydra.help": of_type(hydra["help"]),
        "hydra.logging": closed({key: of_type(hint) for key, hint in LOGGING.items()}),
    }


def _options(group: str) -> dict[str, Schema]:
    """Return the keys of each kind of option of a group, by the name in its schema for Hydra."""
    if group == "split":
        return {name: of_class(kind) for name, kind in SPLITS.items()}
    found = {}
    for component in components.options_of(group).values():
        found[component.name] = of_class(component.option, component.meanings)
        found[component.name]["properties"]["_target_"] = {"const": component.target, "description": component.summary}
    return found


def _files_of_options(group: str) -> Iterator[Schema]:
    """Yield a schema for each kind of option; a file says by `defaults` which kind it is of, or leaves it open."""
    entries: dict[str, list[str]] = {name: [f"/schema/{group}/{name}@_here_"] for name in _options(group)}
    for file in sorted((command_line.CONF / group).glob("*.yaml")):
        if (kind := _kind_of(file)) in entries:
            entries[kind].append(file.stem)
    for name, option in _options(group).items():
        own = entries[name] + ([name] if name not in entries[name] and group != "split" else [])
        others = [entry for other, found in entries.items() if other != name for entry in found if entry not in own]
        other = DEFAULT_ENTRY | ({"not": {"enum": others}} if others else {})
        yield _with_defaults(option, {"anyOf": [{"enum": own}, other]})
    if group == "callbacks":  # a file for several, by name
        yield _with_defaults(_callbacks())


def _kind_of(file: Path, seen: tuple[Path, ...] = ()) -> str:
    """Return the name of the schema that a file in conf/ begins with, itself or by another file; empty: of none."""
    if file in seen or not file.exists():
        return ""
    defaults = OmegaConf.select(OmegaConf.load(file), "defaults") or []
    first = str(next(iter(defaults), ""))
    found = re.fullmatch(r"/schema/\w+/(\w+)@_here_", first)
    return found[1] if found else _kind_of(file.parent / f"{first}.yaml", (*seen, file))


def _with_defaults(mapping: Schema, entry: Schema = DEFAULT_ENTRY) -> Schema:
    return mapping | {"properties": {"defaults": DEFAULTS | {"items": entry}} | mapping["properties"]}


def _callbacks() -> Schema:
    """Return the schema of the callbacks of a run: the options by their names, others by `_target_`."""
    options = _options("callbacks")
    anything = any_of(option | {"required": ["_target_"]} for option in options.values())
    return closed({name: or_later(option) for name, option in options.items()}) | {"additionalProperties": anything}


def _experiment() -> Schema:
    """Return the schema of config.yaml, of a recipe and of a search: the whole config, any part of it."""
    meanings, values = _said_in(command_line.CONF / "config.yaml")
    config = of_class(Config, meanings, values)
    keys = config["properties"]
    for group in GROUPS:
        keys[group] = or_later(_callbacks() if group == "callbacks" else any_of(_options(group).values()))
    names: Schema = {"enum": list(objectives())}
    keys["objective"] |= any_of([names, {"type": "array", "items": names}, LATER])
    keys["export"] |= or_later({"type": "array", "items": {"enum": list(EXPORTS)}})
    keys["search"] = of_class(Search)
    keys["search"]["properties"]["points"] |= {"type": ["array", "string", "null"], "items": {"type": "object"}}
    hydra = of_class(HydraConf, {})
    hydra["properties"]["sweeper"] = _sweeper()
    keys["hydra"] = hydra
    return _with_defaults(config, _default_of_config())


def _default_of_config() -> Schema:
    """Return the schema of an entry of `defaults`; other options pass, for they may be of other folders."""
    entry: dict[str, Schema] = {}
    for group in (*GROUPS, "search", "experiment", "hydra/sweeper", "hydra/sweeper/sampler", "hydra/sweeper/pruner"):
        known = {file.stem for file in (command_line.CONF / group).glob("*.yaml")}
        known |= {
            component.name for component in components.options_of(group).values() if components.has_values(component)
        }
        option = {"anyOf": [{"enum": sorted(known)}, {"type": ["string", "array", "null"]}]}
        entry |= {group: option, f"override /{group}": option}
    return {"anyOf": [{"type": "string"}, {"type": "object", "properties": entry}]}


def _sweeper() -> Schema:
    sweeper = of_class(StudySweeperConf, *_said_in(command_line.CONF / "hydra" / "sweeper" / "study.yaml"))
    keys = sweeper["properties"]
    keys["sampler"], keys["pruner"] = or_later(_built_by_optuna("samplers")), or_later(_built_by_optuna("pruners"))
    one = {"enum": ["minimize", "maximize"]}
    keys["direction"] |= any_of([one, {"type": "array", "items": one}, {"type": "null"}, LATER])
    runwide = set(Config.__dataclass_fields__) - {"callbacks", "search", "resume", "from_run"}
    grouped = [(group, key) for group in GROUPS for one in _options(group).values() for key in one["properties"]]
    drawn = runwide | {f"{group}.{key}" for group, key in grouped if group != "callbacks" and key != "_target_"}
    params = closed({key: {"description": DRAWN} for key in sorted(drawn)})
    params["patternProperties"] = {r"^\+": {}, r"^callbacks\.": {}}
    keys["params"] |= any_of([params, {"type": "null"}, LATER])
    return sweeper


def _built_by_optuna(module: str) -> Schema:
    """Return the schema of a sampler or a pruner: the arguments of Optuna's classes and ours; others' are not known."""
    import optuna  # only here: it takes a second

    from sweeper_digits.sweep.choose_pruner import PEER_PRUNER  # with Optuna, which `schema` alone needs
    from sweeper_digits.sweep.pruning import PeerPruner

    room = getattr(optuna, module)
    known = {f"optuna.{module}.{name}": getattr(room, name) for name in room.__all__}
    known |= {PEER_PRUNER: PeerPruner} if module == "pruners" else {}
    found = []
    for target, made in known.items():
        if inspect.isclass(made) and not inspect.isabstract(made):
            keys = {key: _argument(made, one) for key, one in inspect.signature(made).parameters.items()}
            if target == PEER_PRUNER:  # the sweep reads these
                keys |= {"grids": of_type(bool), "scouts": of_type(int)}
            found.append(closed({"_target_": {"const": target, "description": docstring(made)[0]}} | keys))
    elsewhere = {"type": "string", "not": {"pattern": rf"^(optuna\.{module}|sweeper_digits)\."}}
    found.append({"type": "object", "properties": {"_target_": elsewhere}, "required": ["_target_"]})
    return any_of(found)


def _argument(made: Any, one: inspect.Parameter) -> Schema:
    try:
        hint = typing.get_type_hints(made.__init__).get(one.name, Any)
    except (NameError, TypeError):  # names that only a type checker imports
        hint = Any
    kinds = (bool, int, float, str, type(None))
    plain = all(kind in kinds for kind in typing.get_args(hint) or [hint])
    return or_later(of_type(hint)) if plain else {}


def _said_in(file: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what the comments of a file in conf/ say of its keys, above them and behind them, and its values."""
    meanings: dict[str, str] = {}
    above: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if comment := COMMENT.fullmatch(line):
            above.append(comment[1])
            continue
        if key := KEY.fullmatch(line):
            meanings[key[1]] = " ".join([*above, *([key[2]] if key[2] else [])])
        above = []
    values: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    return meanings, values
