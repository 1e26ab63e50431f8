"""The overrides that repeat a run or continue it."""

import contextlib
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hydra
from hydra import initialize_config_search_path
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict

from sweeper_digits import components, program
from sweeper_digits.config import GROUPS, INCIDENTAL, epoch_metric
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import OPTION, escaped, override_key, override_keys, override_text, typed_value
from sweeper_digits.runs.folder import load_yaml
from sweeper_digits.runs.origin import DEFAULT_NAME, PLAIN, Origin
from sweeper_digits.runs.record import DEFAULT_OBJECTIVE, Record, flatten, read_run, saved_config

# What an experiment file leaves to its user.
OPEN = ("data", "split", "seed")
# Another split that replaces a run's split keeps its test part locked away.
LOCK = ("split.test_size", "split.seed")
# Top-level keys of a saved config that a run which goes on does not take from there.
NOT_TAKEN = ("callbacks", "search", "resume", "tensorboard")
# Keys that choose a file of conf/ with values of a run.
CHOSEN = (*(group for group in GROUPS if group != "callbacks"), "experiment", "search")

# Overrides -> the config they compose.
Compose = Callable[[list[str]], DictConfig]


def composer(conf: str | Path, origin: Origin = PLAIN) -> Compose:
    """Return a function that composes configs, Hydra's own part included.

    Args:
        conf: The program's own folder.
        origin: What else to compose from: the user has named it in this command.
    """

    def call(overrides: list[str]) -> DictConfig:
        components.load()
        with initialize_config_search_path(origin.search_path(conf)):
            return hydra.compose(origin.name or DEFAULT_NAME, overrides, return_hydra_config=True)

    return call


def without_hydra(composed: DictConfig) -> DictConfig:
    """Return a composed config without Hydra's own part, which a run does not see."""
    config = composed.copy()
    with open_dict(config):
        del config["hydra"]
    return config


def overrides_of_saved(folder: str, typed: list[str], known: Iterable[str]) -> list[str]:
    """Return overrides that compose a run's config as it was saved, whatever conf/ says today, and what was typed.

    The values of its options are given whole, in place of an option of conf/; the name of the option is kept. Its
    callbacks are left out: only those start that the user types.

    Args:
        folder: The run's.
        typed: What the user typed beside `resume=FOLDER`.
        known: The top-level keys of a run.

    Raises:
        UserError: No run folder, a damaged one, a key that no run has, a value that only the environment knows, or
            another option typed beside it.
    """
    saved = Path(folder) / ".hydra" / "config.yaml"
    if not saved.is_file():
        raise UserError(f"resume={folder}: no run folder there ({saved} is missing)")
    (config, unknown), choices = saved_config(Path(folder)), _choices(folder)
    for name in config:
        if name not in (*known, "tensorboard"):
            raise UserError(f"resume={folder}: {saved} holds {name!r}, which is no key of a run; remove it there")
    keys = set(map(override_key, typed))
    for name in sorted(unknown):
        if name not in keys and name.split(".")[0] not in NOT_TAKEN and name not in INCIDENTAL:
            value = dict(flatten(config))[name]
            raise UserError(
                f"resume={folder}: it was begun with {name}={value}, and what a run folder refers to is not looked up; "
                f"type {name}=... too"
            )
    found = []
    for name, value in config.items():
        if name in (*NOT_TAKEN, *unknown):
            continue
        if name not in GROUPS:
            found.append(f"{name}={override_text(value)}")
            continue
        option = choices.get(name)
        found += [f"~{name}", f"++{name}={override_text(value)}"]
        found += [f"++hydra.runtime.choices.{name}={override_text(option)}"] if option else []
    return found + [argument for argument in typed if not _is_same_choice(folder, argument, choices)]


def _choices(folder: str) -> dict[str, Any]:
    """Return the options that a run was begun with, by group, those that are names."""
    saved = Path(folder) / ".hydra" / "hydra.yaml"
    try:
        choices = dict(load_yaml(saved)["hydra"]["runtime"]["choices"]) if saved.is_file() else {}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{saved}: not readable ({type(error).__name__}: {error})") from error
    return {name: one for name, one in choices.items() if isinstance(one, str) and OPTION.fullmatch(one)}


def _is_same_choice(folder: str, argument: str, choices: dict[str, Any]) -> bool:
    """Return whether an argument chooses the option that a run was begun with; raise a UserError for another one."""
    key = override_key(argument)
    if argument.startswith("~") or key not in CHOSEN or isinstance(value := typed_value(argument), dict):
        return False
    if value != choices.get(key):
        raise UserError(
            f"resume={folder}: this run was begun without {argument} and goes on as it was begun; leave it out, or "
            f"begin another run with from_run={folder}"
        )
    return True


def recipe_of_folder(folder: str | Path, compose: Compose, given: Iterable[str] = ()) -> dict[str, Any]:
    """Return the recipe of the run in a folder, without callbacks: only those start that the user types.

    Args:
        folder: The run's.
        compose: As for `recipe_of`.
        given: What the user typed beside it.

    Raises:
        UserError: No readable run there, one that today's conf/ cannot express, or one that a callback may have changed
            and that is not typed.
    """
    if not (Path(folder) / ".hydra").is_dir():
        raise UserError(f"from_run={folder}: no run folder there ({Path(folder) / '.hydra'} is missing)")
    record = read_run(Path(folder))
    if record.state in ("foreign", "unreadable"):
        raise UserError(f"from_run={folder}: not a readable run of this program ({record.note})")
    recipe = recipe_of(record, compose, given=given)
    callbacks = {name: recipe.pop(name) for name in list(recipe) if name.split(".")[0] == "callbacks"}
    if callbacks and "callbacks" not in map(override_key, given):
        typed = shlex.join(f"{name}={override_text(value)}" for name, value in callbacks.items())
        raise UserError(
            f"from_run={folder}: it was trained with {typed}, which may have changed the training, and no run folder "
            "starts a callback; type that too, or callbacks=[] to do without"
        )
    return recipe


def recipe_of(
    record: Record, compose: Compose, leave_open: tuple[str, ...] = (), given: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the options and values in which a run differs from the plain default, options first.

    Where today's conf/ has not the option of that name and function, another option of the same function stands for it.

    Args:
        record: The run.
        compose: Composes from today's conf/.
        leave_open: Top-level keys to leave out.
        given: What the user typed, whose keys are left out.

    Raises:
        UserError: A key of the run that conf/ no longer has, or a value that only the environment knows.
    """
    default = compose([]).hydra.runtime.choices
    skipped = {*INCIDENTAL, *leave_open}
    if epoch_metric(record.objectives) != DEFAULT_OBJECTIVE:
        skipped.discard("objective")  # it chose the best epoch
    groups = [name for name in GROUPS if name in record.settings and name not in skipped]
    options = _options_of(record, groups, compose)
    chosen = {name: option for name, option in options.items() if option != default.get(name)}
    composed = dict(flatten(OmegaConf.to_container(compose(as_overrides(chosen)))))
    keys = set(map(override_key, given))
    values = {}
    for name, value in record.settings.items():
        if name in GROUPS or name.split(".")[0] in skipped or name.endswith("_target_"):
            continue
        if name not in composed:
            raise UserError(f"{record.run.folder}: its setting {name}={value} is unknown to today's conf/")
        if name in record.unknown and not {name, name.split(".")[0]} & keys:
            raise UserError(
                f"{record.run.folder}: its setting {name}={value} refers to what a run folder is not asked for; type "
                f"{name}=... too"
            )
        if composed[name] != value:
            values[name] = value
    return chosen | values


def _options_of(record: Record, groups: list[str], compose: Compose) -> dict[str, Any]:
    """Return the options of a run by group; see `option_of`."""
    names = {name: record.settings[name] for name in groups}
    composed: Any = {}
    with contextlib.suppress(MissingConfigException):  # mostly all are there: to compose takes time
        composed = compose([f"{group}={name}" for group, name in names.items() if _is_option(name)])
    return {
        group: name
        if group == "callbacks" or _has_function_of(record, group, composed)
        else option_of(record, group, compose)
        for group, name in names.items()
    }


def option_of(record: Record, group: str, compose: Compose) -> str:
    """Return an option of a config group that has the function that a run saved: of its name, if there is one.

    Raises:
        UserError: No option has this function.
    """
    name = record.settings[group]
    for option in (name, *_known_options(group, compose)):
        if _is_option(option):
            with contextlib.suppress(MissingConfigException):
                if _has_function_of(record, group, compose([f"{group}={option}"])):
                    return str(option)
    raise UserError(f"{record.run.folder}: its option {group}={name} is unknown to today's conf/")


def _is_option(name: Any) -> bool:
    return isinstance(name, str) and OPTION.fullmatch(name) is not None


def _has_function_of(record: Record, group: str, composed: Any) -> bool:
    """Return whether a composed config has the registered component that a run saved.

    Raises:
        UserError: The run's is not registered.
    """
    saved = {key.partition(".")[2]: value for key, value in record.settings.items() if key.startswith(f"{group}.")}
    component = components.find(group, saved)
    return group in composed and components.find(group, composed[group]) is component


def _known_options(group: str, compose: Compose) -> list[str]:
    try:
        compose([f"{group}='no such option'"])
    except MissingConfigException as error:
        return list(error.options or ())
    return []


def as_overrides(recipe: dict[str, Any], given: Iterable[str] = ()) -> list[str]:
    """Write a recipe as overrides, followed by those that the user gave; the user's win.

    An option that the user chooses replaces the recipe's option together with its values; a mapping of values leaves
    the others. The values of a split that say which images are locked away stay.
    """
    given = list(given)
    keys = {key for override in given for key in override_keys(override)}
    kept = {
        name: value
        for name, value in recipe.items()
        if name not in keys and (name in LOCK or name.split(".")[0] not in keys)
    }
    return [f"{name}={override_text(value)}" for name, value in kept.items()] + given


def command_of(record: Record, compose: Compose) -> str:
    return program.command("train", *as_overrides(recipe_of(record, compose)))


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
    sections: list[Any] = [*([{"defaults": choices}] if choices else []), *([values] if values else [])]
    body = "".join(OmegaConf.to_yaml(OmegaConf.create(escaped(one))) for one in sections)
    return f"# @package _global_\n# From {record.name}: {result}.\n{body}"
