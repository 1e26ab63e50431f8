"""`schema`: files by which an editor completes and checks the YAML files of conf/, and of any folder like it."""

import argparse
import inspect
import json
import os
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from hydra.conf import HydraConf
from omegaconf import OmegaConf

from sweeper_digits import command_line, json_schema, registry, schema
from sweeper_digits.json_schema import DEFAULT_ENTRY, DEFAULTS, DRAFT, Schema, any_of, closed, of_class, or_later
from sweeper_digits.options import SPLITS
from sweeper_digits.schema import GROUPS
from sweeper_digits.screen import counted
from sweeper_digits.signature import docstring

# Name of a schema -> the files in conf/ that it describes, apart from those of the groups.
FILES = {
    "experiment": ["config.yaml", "experiment/*.yaml", "search/*.yaml"],
    "hydra.sweeper": ["hydra/sweeper/*.yaml"],
    "hydra.sweeper.sampler": ["hydra/sweeper/sampler/*.yaml"],
    "hydra.sweeper.pruner": ["hydra/sweeper/pruner/*.yaml"],
    "hydra.help": ["hydra/help/*.yaml"],
    "hydra.logging": ["hydra/hydra_logging/*.yaml", "hydra/job_logging/*.yaml"],
}
# What logging.config.dictConfig takes.
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
    others = sorted(part.name for part in registry.parts() if not part.own)
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
    """Return the JSON Schema of each kind of YAML file, by name; registered parts are in them."""
    hydra = typing.get_type_hints(HydraConf)
    return {
        **{group: any_of(_files_of_options(group)) for group in GROUPS},
        "experiment": _experiment(),
        "hydra.sweeper": _with_defaults(_sweeper()),
        # A file that is packaged as hydra.sweeper sets more than the sampler: grid sets n_trials.
        "hydra.sweeper.sampler": any_of([_built_by_optuna("samplers"), _sweeper()]),
        "hydra.sweeper.pruner": _built_by_optuna("pruners"),
        "hydra.help": json_schema.of_type(hydra["help"]),
        "hydra.logging": closed({key: json_schema.of_type(hint) for key, hint in LOGGING.items()}),
    }


def _options(group: str) -> dict[str, Schema]:
    """Return the keys of each kind of option of a group, by the name in its schema for Hydra."""
    if group == "split":
        return {name: of_class(kind) for name, kind in SPLITS.items()}
    found = {}
    for part in registry.options_of(group).values():
        found[part.name] = of_class(part.option, part.meanings)
        found[part.name]["properties"]["_target_"] = {"const": part.target, "description": part.summary}
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
    config = of_class(schema.Config, meanings, values)
    keys = config["properties"]
    for group in GROUPS:
        keys[group] = or_later(_callbacks() if group == "callbacks" else any_of(_options(group).values()))
    names: Schema = {"enum": list(schema.objectives())}
    keys["objective"] |= any_of([names, {"type": "array", "items": names}, json_schema.LATER])
    keys["export"] |= or_later({"type": "array", "items": {"enum": list(schema.EXPORTS)}})
    keys["search"] = of_class(schema.Search)
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
        known |= {part.name for part in registry.options_of(group).values() if registry.has_values(part)}
        option = {"anyOf": [{"enum": sorted(known)}, {"type": ["string", "array", "null"]}]}
        entry |= {group: option, f"override /{group}": option}
    return {"anyOf": [{"type": "string"}, {"type": "object", "properties": entry}]}


def _sweeper() -> Schema:
    """Return the schema of hydra.sweeper."""
    sweeper = of_class(schema.StudySweeperConf, *_said_in(command_line.CONF / "hydra" / "sweeper" / "study.yaml"))
    keys = sweeper["properties"]
    keys["sampler"], keys["pruner"] = or_later(_built_by_optuna("samplers")), or_later(_built_by_optuna("pruners"))
    one = {"enum": ["minimize", "maximize"]}
    keys["direction"] |= any_of([one, {"type": "array", "items": one}, {"type": "null"}, json_schema.LATER])
    runwide = set(schema.Config.__dataclass_fields__) - {"callbacks", "search", "resume", "from_run"}
    grouped = [(group, key) for group in GROUPS for one in _options(group).values() for key in one["properties"]]
    drawn = runwide | {f"{group}.{key}" for group, key in grouped if group != "callbacks" and key != "_target_"}
    params = closed({key: {"description": DRAWN} for key in sorted(drawn)})
    params["patternProperties"] = {r"^\+": {}, r"^callbacks\.": {}}
    keys["params"] |= any_of([params, {"type": "null"}, json_schema.LATER])
    return sweeper


def _built_by_optuna(module: str) -> Schema:
    """Return the schema of a sampler or a pruner: the arguments of Optuna's classes and ours; others' are not known."""
    import optuna  # only here: it takes a second

    from sweeper_digits.sweep.peers import PeerPruner
    from sweeper_digits.sweep.pruners import PEER_PRUNER

    room = getattr(optuna, module)
    known = {f"optuna.{module}.{name}": getattr(room, name) for name in room.__all__}
    known |= {PEER_PRUNER: PeerPruner} if module == "pruners" else {}
    found = []
    for target, made in known.items():
        if inspect.isclass(made) and not inspect.isabstract(made):
            keys = {key: _argument(made, one) for key, one in inspect.signature(made).parameters.items()}
            if target == PEER_PRUNER:  # the sweep reads these
                keys |= {"grids": json_schema.of_type(bool), "scouts": json_schema.of_type(int)}
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
    return or_later(json_schema.of_type(hint)) if plain else {}


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
