"""Training and searching from the command line, and what surrounds Hydra there: `resume=`, `from_run=`, bad input."""

import dataclasses
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import yaml
from hydra._internal.utils import get_args_parser  # the flags of Hydra's command line have no public parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig

from sweeper_digits import help_text, program, registry, schema, screen
from sweeper_digits.arguments import as_typed, begins_sweep, check_text
from sweeper_digits.errors import UserError
from sweeper_digits.quiet import quiet_import
from sweeper_digits.runs.origin import SEARCH_PATH, Origin, check_harmless, origin_of
from sweeper_digits.schema import INCIDENTAL, Config, override_key, refuse_resume
from sweeper_digits.sweep import plugin  # noqa: F401 - it registers itself with Hydra

log = logging.getLogger(__name__)

# Beside the package in a checkout, in the package in a wheel.
CONF = (program.PACKAGE.parent if program.is_checkout() else program.PACKAGE) / "conf"

# What Hydra itself may call for a config; parts are called by the registry.
CALLABLES = ("sweeper_digits.runs.claim.OwnFolder",)

# Top-level keys of a run's overrides, and the form of an override of such a key.
KEYS = {field.name for field in dataclasses.fields(Config)} | {"experiment", "tensorboard"}
OVERRIDE = re.compile(r"\+{0,2}(\w+)(\.[A-Za-z]\w*)*=.*", re.ASCII | re.DOTALL)
# Overrides -> the config they compose; as in `recipe`, which is imported only when needed.
Compose = Callable[[list[str]], DictConfig]
# What was written otherwise in version 0.1.
RENAMED = {"tensorboard=true": ["callbacks=[tensorboard]"], "tensorboard=false": []}


def main() -> None:
    """Train one model, or search for the best, as the command line says.

    A script of your own does the same with the parts that it registers, or imports:

        import my_parts
        from sweeper_digits.command_line import main

        if __name__ == "__main__":
            main()
    """
    start(train)


def train(cfg: DictConfig) -> object:
    """Be one Hydra job: train one model and return its objective.

    Hydra's launchers import this function by its name where a job runs.

    Args:
        cfg: The composed config.

    Raises:
        UserError: Bad input, in a sweep; a single run ends with one line and exit status 1.
    """
    with screen.job_errors():
        config = schema.parse(cfg)
        with quiet_import(users=registry.has_users()):
            from sweeper_digits.sweep import job
            from sweeper_digits.training.run import run  # imports Keras: only now, so that --help is instant
        job_config = HydraConfig.get()
        in_sweep = job_config.mode == RunMode.MULTIRUN
        if (searched := job_config.runtime.choices.get("search")) and not in_sweep:
            log.info("search     %s: one run with its values, nothing is drawn; -m searches", searched)
        with job.attached():
            return run(config, job_config.runtime.output_dir, in_sweep=in_sweep)


def start(task: TaskFunction) -> None:
    """Let Hydra run a job as the command line says; on bad input, print one line and exit with status 1.

    A traceback appears only for a defect, or with HYDRA_FULL_ERROR=1.

    Args:
        task: Takes the composed config of a job; a function of a module, which jobs elsewhere can import.
    """
    screen.exit_in_one_line(lambda: launch(task, as_hydra_takes(sys.argv[1:])))


def launch(task: TaskFunction, arguments: list[str]) -> None:
    """Let Hydra run a job.

    Hydra reads `sys.argv`. It would print errors in several lines, so it is told to raise them.

    Args:
        task: As for `start`.
        arguments: What `as_hydra_takes` returned.

    Raises:
        UserError: Bad input; other errors that `screen.bad_input` knows are raised too.
        SystemExit: Bad input that is found once Hydra runs, with its line.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv[1:] = arguments
    try:
        hydra.main(config_path=str(CONF), config_name="config", execution_whitelist=CALLABLES)(task)()
    except ValueError as error:  # Hydra's, before it has composed anything
        if not str(error).startswith("Only one of --run, --multirun"):
            raise
        raise UserError(
            "--multirun, --run, --cfg and --info exclude each other; to see what a sweep composes, leave -m out: "
            "--cfg job shows one run, --cfg hydra the sweeper"
        ) from None


def as_hydra_takes(arguments: list[str]) -> list[str]:
    """Load the parts, and return what a user gave as Hydra takes it: with a past run's overrides, and quoted.

    Raises:
        UserError: Bad input that Hydra would not see, or not tell in one line.
    """
    registry.load()
    _check_names()
    help_text.install()
    check_text(arguments, CONF)
    given = what_to_compose_from(arguments)
    _check_options(arguments, given)
    composed = _with_past_run(arguments, given)
    typed = [as_typed(new) for argument in composed for new in RENAMED.get(argument, [argument])]
    # Hydra would look for a relative path beside this module.
    return typed if given.conf == str(CONF) else [*typed, "--config-path", given.conf]


def overrides_in(arguments: list[str]) -> list[str]:
    """Return the overrides among arguments, without flags and their values."""
    return list(get_args_parser().parse_intermixed_args(arguments).overrides)


def _check_names() -> None:
    """Refuse a registered name that a file in conf/ has: Hydra would take the file."""
    for part in registry.parts():
        file = CONF / str(part.group) / f"{part.name}.yaml"
        if not part.own and file.exists():
            raise UserError(f"{part.where}: {part.kind} {part.name}: conf/ has an option of this name; rename one")


class Given(NamedTuple):
    """What the command line itself says of what to compose from."""

    conf: str  # --config-path: a worker's is the sweep's own copy
    origin: Origin  # --config-dir, hydra.searchpath, --config-name


def what_to_compose_from(arguments: list[str]) -> Given:
    """Return what to compose from; raise a UserError for what is not there."""
    flags = get_args_parser().parse_intermixed_args(arguments)
    conf = flags.config_path or str(CONF)
    conf = conf if "://" in conf else str(Path(conf).resolve())
    folders = [("--config-dir", flags.config_dir)] if flags.config_dir is not None else []
    for argument in arguments:
        if override_key(argument) == SEARCH_PATH:
            value = OverridesParser.create().parse_override(argument).value()
            values: Any = getattr(value, "values", value)  # extend_list(...) has them inside
            if isinstance(values, list):  # of anything else, Hydra says what is wrong
                folders += [(SEARCH_PATH, str(getattr(one, "text", one))) for one in values]
    found = []
    for named, folder in folders:
        uri = folder.removeprefix("file://")
        if "://" not in uri and not Path(uri).is_dir():
            raise UserError(f"{named}: no folder {uri}")
        found.append(uri if "://" in uri else os.path.abspath(uri))  # noqa: PTH100 - not resolved, as Hydra has it
    origin = Origin(tuple(found), flags.config_name)
    if "://" not in conf:
        origin.check(conf, "--config-name")
    return Given(conf, origin)


def _with_past_run(arguments: list[str], given: Given) -> list[str]:
    """Put the overrides of the run that `resume=FOLDER` or `from_run=FOLDER` names in front of the arguments."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in ADDS and value not in ("", "null"):
            return _composed_as(key, value, arguments, given)
    return arguments


def _resumed(folder: str, arguments: list[str], compose: Compose) -> list[str]:
    """Return the overrides that the run in a folder was begun with."""
    if begins_sweep(arguments):
        refuse_resume(folder)
    saved = [override for override in _saved_overrides(folder) if not override.startswith("resume=")]
    _check_unchanged(folder, saved, arguments)
    return saved


def _repeated(folder: str, arguments: list[str], compose: Compose) -> list[str]:
    """Return the overrides that repeat the run in a folder, without those that the arguments replace."""
    from sweeper_digits.runs import recipe  # only here: it brings NumPy

    overrides = recipe.as_overrides(recipe.recipe_of_folder(folder.strip("'\""), compose), arguments)
    return overrides[: len(overrides) - len(arguments)]


# What an argument that names a run adds in front of the arguments.
ADDS = {"resume": _resumed, "from_run": _repeated}


def _composed_as(key: str, folder: str, arguments: list[str], given: Given) -> list[str]:
    """Return arguments that compose from what a run was composed from, with what it adds in front.

    Args:
        key: `resume` or `from_run`.
        folder: The run's.
        arguments: As typed; their folders come first, and their config's name wins.
        given: What they say of what to compose from.

    Raises:
        UserError: A folder or a config that is gone, or that sets more than a run.
    """
    from sweeper_digits.runs import recipe  # only here: it brings NumPy

    where = f"{key}={folder}"
    run, here = origin_of(folder.strip("'\"")), given.origin
    if given.conf != str(CONF):  # a worker, whose copy has everything
        run = Origin((), run.name)
    if here.folders:  # they may be those of the run, at another place
        run = Origin(tuple(one for one in run.folders if one in run.packages or Path(one).is_dir()), run.name)
    both = Origin(tuple(dict.fromkeys((*here.folders, *run.folders))), here.name or run.name)
    compose = recipe.composer(given.conf, both, where, trusted=here.packages)
    added = ADDS[key](folder, arguments, compose)
    if both != here:
        plain = recipe.composer(given.conf, here, where, trusted=here.packages)
        check_harmless(both, compose(added).hydra, plain([]).hydra, where)
        arguments = [*both.flags(), *(one for one in arguments if override_key(one) != SEARCH_PATH)]
    return added + arguments


def _check_options(arguments: list[str], given: Given) -> None:
    """Refuse a number, null or a truth where an option of a config group is named: Hydra raises a ValueError."""
    folders = [CONF, *given.origin.paths]
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if equals and re.fullmatch(r"\w+(/\w+)*", key) and any((folder / key).is_dir() for folder in folders):
            chosen = OverridesParser.create().parse_override(argument).value()
            if chosen is None or isinstance(chosen, int | float):
                options = sorted(file.stem for folder in folders for file in (folder / key).glob("*.yaml"))
                raise UserError(f"{argument}: no such option; choose from {', '.join(options) or 'its keys'}")


def _saved_overrides(folder: str) -> list[str]:
    """Return the overrides of the run in a folder.

    The folder may be someone else's: flags, Hydra's own keys and deletions are refused, for they can do more than
    configure a run.
    """
    saved = Path(folder.strip("'\"")) / ".hydra" / "overrides.yaml"
    if not saved.is_file():
        raise UserError(f"resume={folder}: no run folder there ({saved} is missing)")
    try:
        overrides: Any = yaml.safe_load(saved.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"resume={folder}: {saved} is not readable ({str(error).splitlines()[0]})") from error
    if not isinstance(overrides, list):
        raise UserError(f"resume={folder}: {saved} is not readable (it holds no list)")
    for override in overrides:
        found = OVERRIDE.fullmatch(override) if isinstance(override, str) else None
        if not found or found[1] not in KEYS:
            raise UserError(f"resume={folder}: {saved} holds {override!r}, which sets no key of a run; remove it there")
    return overrides


def _check_unchanged(folder: str, saved: list[str], arguments: list[str]) -> None:
    """Refuse another setting for a run that goes on: its numbers would be those of no uninterrupted run."""
    for argument in arguments:
        key = override_key(argument)
        changes = key.split(".")[0] in KEYS.difference(INCIDENTAL) and key != "data.path"  # which may have moved
        if changes and argument not in saved:
            raise UserError(
                f"resume={folder}: this run was begun without {argument} and goes on as it was begun; leave it out, "
                f"or begin another run with from_run={folder}"
            )
