"""The recipe of a past run: the few overrides that compose its config again from today's conf/."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hydra
from hydra import initialize_config_search_path
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf, open_dict

from sweeper_digits import program, registry
from sweeper_digits.errors import UserError
from sweeper_digits.runs.origin import DEFAULT_NAME, PLAIN, Origin
from sweeper_digits.runs.record import DEFAULT_OBJECTIVE, Record, flatten, read_run
from sweeper_digits.schema import GROUPS, INCIDENTAL, epoch_metric, override_keys

# What an experiment file leaves to its user.
OPEN = ("data", "split", "seed")
# Another split that replaces a run's split keeps its test part locked away.
LOCK = ("split.test_size", "split.seed")
SIMPLE = re.compile(r"[A-Za-z_./-][\w./:+@%-]*", re.ASCII)
# Words that Hydra's command line does not read as strings.
WORDS = {"null", "true", "false", "nan", "inf", "-nan", "-inf"}

# Overrides -> the config they compose.
Compose = Callable[[list[str]], DictConfig]


def composer(conf: str | Path, origin: Origin = PLAIN, where: str = "", trusted: Iterable[str] = ()) -> Compose:
    """Return a function that composes configs, Hydra's own part included.

    Args:
        conf: The program's own folder.
        origin: What else to compose from.
        where: What names the origin, for messages.
        trusted: Packages of the origin that the user named.

    Raises:
        UserError: Of the function: a folder or a config that is not there, a package that the user did not name.
    """

    def call(overrides: list[str]) -> DictConfig:
        registry.load()
        with initialize_config_search_path(origin.search_path(conf, where, trusted)):
            return hydra.compose(origin.name or DEFAULT_NAME, overrides, return_hydra_config=True)

    return call


def without_hydra(composed: DictConfig) -> DictConfig:
    """Return a composed config without Hydra's own part, which a run does not see."""
    config = composed.copy()
    with open_dict(config):
        del config["hydra"]
    return config


def recipe_of_folder(folder: str | Path, compose: Compose) -> dict[str, Any]:
    """Return the recipe of the run in a folder; see `recipe_of`.

    Raises:
        UserError: No readable run there, or one that today's conf/ cannot express.
    """
    if not (Path(folder) / ".hydra").is_dir():
        raise UserError(f"from_run={folder}: no run folder there ({Path(folder) / '.hydra'} is missing)")
    record = read_run(Path(folder))
    if record.state in ("foreign", "unreadable"):
        raise UserError(f"from_run={folder}: not a readable run of this program ({record.note})")
    return recipe_of(record, compose)


def recipe_of(record: Record, compose: Compose, leave_open: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the options and values in which a run differs from the plain default, options first.

    Args:
        record: The run.
        compose: Composes from today's conf/.
        leave_open: Top-level keys to leave out.

    Raises:
        UserError: A key of the run that conf/ no longer has.
    """
    default = compose([]).hydra.runtime.choices
    skipped = {*INCIDENTAL, *leave_open}
    if epoch_metric(record.objectives) != DEFAULT_OBJECTIVE:
        skipped.discard("objective")  # it chose the best epoch
    for name in GROUPS:
        if target := record.settings.get(f"{name}._target_"):
            registry.find(name, {"_target_": target})  # raises for a plug-in that is not loaded
    groups = [name for name in GROUPS if name in record.settings and name not in skipped]
    chosen = {name: record.settings[name] for name in groups if record.settings[name] != default.get(name)}
    composed = dict(flatten(OmegaConf.to_container(compose(as_overrides(chosen)))))
    values = {}
    for name, value in record.settings.items():
        if name in GROUPS or name.split(".")[0] in skipped or name.endswith("_target_"):
            continue
        if name not in composed:
            raise UserError(f"{record.run.folder}: its setting {name}={value} is unknown to today's conf/")
        if composed[name] != value:
            values[name] = value
    return chosen | values


def as_overrides(recipe: dict[str, Any], given: Iterable[str] = ()) -> list[str]:
    """Write a recipe as overrides, followed by those that the user gave; the user's win.

    An option that the user chooses replaces the recipe's option together with its values; a mapping of values leaves
    the others. Of a split, the values that say which images are locked away stay.
    """
    given = list(given)
    keys = {key for override in given for key in override_keys(override)}
    kept = {
        name: value
        for name, value in recipe.items()
        if name not in keys and (name in LOCK or name.split(".")[0] not in keys)
    }
    return [f"{name}={override_text(value)}" for name, value in kept.items()] + given


def command_of(record: Record, compose: Compose, origin: Origin) -> str:
    """Return the command line that repeats a run which was composed from an origin."""
    return program.command("train", *origin.flags(), *as_overrides(recipe_of(record, compose)))


def experiment_of(record: Record, compose: Compose) -> str:
    """Return the text of a conf/experiment/ file with a run's recipe, open for other data, splits and seeds."""
    recipe = recipe_of(record, compose, leave_open=OPEN)
    choices = [{f"override /{name}": value} for name, value in recipe.items() if name in GROUPS]
    values: dict[str, Any] = {}
    for name, value in recipe.items():
        if name not in GROUPS:
            group, _, key = name.rpartition(".")
            (values.setdefault(group, {}) if group else values)[key] = value
    measured = {name: record.value(name) for name in record.objectives}
    result = ", ".join(f"{name} {value:.5g}" for name, value in measured.items() if value is not None)
    parts: list[Any] = [{"defaults": choices}] if choices else []
    parts += [values] if values else []
    body = "".join(OmegaConf.to_yaml(OmegaConf.create(part)) for part in parts)
    return f"# @package _global_\n# From {record.name}: {result}.\n{body}"


def override_text(value: Any) -> str:
    """Write a value as Hydra's command line takes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(override_text(item) for item in value)}]"
    if isinstance(value, str) and not (SIMPLE.fullmatch(value) and value.lower() not in WORDS):
        return QuotedString(value, Quote.single).with_quotes()
    return str(value)
