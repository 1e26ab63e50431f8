"""`schema`: files by which an editor completes and checks the YAML files of conf/, and of any folder like it."""

import argparse
import dataclasses
import inspect
import json
import os
import re
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from omegaconf import MISSING, OmegaConf
from pydantic import BaseModel

from sweeper_digits import command_line, components, schema
from sweeper_digits.components import docstring
from sweeper_digits.config import EXPORTS, GROUPS, Config, StudySweeperConf, objectives
from sweeper_digits.text import counted

Schema = dict[str, Any]
DRAFT = "http://json-schema.org/draft-07/schema#"
LATER: Schema = {"type": "string", "pattern": r"\$\{|^\?\?\?$"}
# An option, or an option with its package or its group.
DEFAULT_ENTRY: Schema = {"type": ["string", "object"]}
DEFAULTS: Schema = {"type": "array", "items": DEFAULT_ENTRY, "description": "What Hydra composes first."}


def of_model(model: type[BaseModel]) -> Schema:
    """Return the schema of a mapping that has the keys of a model, some or all, and no others."""
    keys = model.model_json_schema()["properties"]
    return closed({name: or_later(_of_value(key)) for name, key in keys.items()})


def _of_value(key: Schema) -> Schema:
    """Return Pydantic's schema of a key without its title; a number passes as text, as for the program."""
    key = {name: one for name, one in key.items() if name != "title"}
    if "anyOf" in key:
        return key | {"anyOf": [_of_value(one) for one in key["anyOf"]]}
    return key | {"type": ["string", "number"]} if key.get("type") == "string" and "enum" not in key else key


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
    takes_text = any(one.get("type") == ["string", "number"] for one in bare.get("anyOf", [bare]))
    return described | (bare if takes_text else any_of([bare, LATER]))


def of_class(
    kind: type,
    meanings: dict[str, str] | None = None,
    defaults: dict[str, Any] | None = None,
    left_out: Iterable[str] = (),
) -> Schema:
    """Return the schema of a mapping that has the fields of a dataclass as keys, some or all, and no others.

    Args:
        kind: The dataclass.
        meanings: Key -> description; None: what its docstring says.
        defaults: Key -> default.
        left_out: Keys that are left out.
    """
    hints = {key: one for key, one in typing.get_type_hints(kind, include_extras=True).items() if key not in left_out}
    nested: dict[str, Any] = {
        key: of_class(one) for key, one in hints.items() if isinstance(one, type) and dataclasses.is_dataclass(one)
    }
    keys = {name: (hint, (defaults or {}).get(name, MISSING)) for name, hint in hints.items() if name not in nested}
    found = of_model(schema.model_of(kind.__name__, keys, docstring(kind)[1] if meanings is None else meanings))
    return closed(found["properties"] | nested)


def closed(properties: dict[str, Schema]) -> Schema:
    """Return the schema of a mapping that has some of these keys and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


# Name of a schema -> the files in conf/ that it describes, apart from those of the groups.
FILES = {
    "experiment": ["config.yaml", "experiment/*.yaml", "search/*.yaml"],
    "hydra.sweeper": ["hydra/sweeper/*.yaml"],
    "hydra.sweeper.sampler": ["hydra/sweeper/sampler/*.yaml"],
    "hydra.sweeper.pruner": ["hydra/sweeper/pruner/*.yaml"],
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
    return {
        **{group: any_of(_files_of_options(group)) for group in GROUPS},
        "experiment": _experiment(),
        "hydra.sweeper": _with_defaults(_sweeper()),
        # A file that is packaged as hydra.sweeper sets more than the sampler: grid sets n_trials.
        "hydra.sweeper.sampler": any_of([_built_by_optuna("samplers"), _sweeper()]),
        "hydra.sweeper.pruner": _built_by_optuna("pruners"),
    }


def _options(group: str) -> dict[str, Schema]:
    """Return the keys of each registered option of a group, by its name."""
    found = {}
    for component in components.options_of(group).values():
        found[component.name] = option = of_model(component.model)
        for key, default in component.node.items():
            if "default" in option["properties"].get(key, {}):
                option["properties"][key]["default"] = default  # of an Enum, the name
        option["properties"]["_target_"] = {"const": component.target, "description": component.summary}
    return found


def _files_of_options(group: str) -> Iterator[Schema]:
    """Yield a schema for each registered option; a file says by `defaults` of which it is, or leaves it open."""
    options = _options(group)
    for name, option in options.items():
        yield _with_defaults(option, DEFAULT_ENTRY | {"not": {"enum": [other for other in options if other != name]}})
    if group == "callbacks":  # a file for several, by name
        yield _with_defaults(_callbacks())


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
    config = of_class(Config, meanings, values, left_out=GROUPS)
    keys = config["properties"]
    for group in GROUPS:
        keys[group] = or_later(_callbacks() if group == "callbacks" else any_of(_options(group).values()))
    names: Schema = {"enum": list(objectives())}
    keys["objective"] |= any_of([names, {"type": "array", "items": names}, LATER])
    keys["export"] |= or_later({"type": "array", "items": {"enum": list(EXPORTS)}})
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
        known |= components.options_of(group).keys()
        option = {"anyOf": [{"enum": sorted(known)}, {"type": ["string", "array", "null"]}]}
        entry |= {group: option, f"override /{group}": option}
    return {"anyOf": [{"type": "string"}, {"type": "object", "properties": entry}]}


def _sweeper() -> Schema:
    sweeper = of_class(StudySweeperConf, *_said_in(command_line.CONF / "hydra" / "sweeper" / "study.yaml"))
    keys = sweeper["properties"]
    keys["_target_"] = {"type": "string"}
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
            keys = {key: (_hint(made, key), MISSING) for key in inspect.signature(made).parameters}
            if target == PEER_PRUNER:  # the sweep reads these
                keys |= {"grids": (bool, MISSING), "scouts": (int, MISSING)}
            found.append(of_model(schema.model_of(made.__name__, keys)))
            found[-1]["properties"]["_target_"] = {"const": target, "description": docstring(made)[0]}
    elsewhere = {"type": "string", "not": {"pattern": rf"^(optuna\.{module}|sweeper_digits)\."}}
    found.append({"type": "object", "properties": {"_target_": elsewhere}, "required": ["_target_"]})
    return any_of(found)


def _hint(made: Any, name: str) -> Any:
    """Return the type of an argument if YAML has it, else Any."""
    try:
        hint = typing.get_type_hints(made.__init__).get(name, Any)
    except (NameError, TypeError):  # names that only a type checker imports
        return Any
    kinds = (bool, int, float, str, type(None))
    return hint if all(kind in kinds for kind in typing.get_args(hint) or [hint]) else Any


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
