"""Training and searching from the command line, and what surrounds Hydra there: `resume=`, `from_run=`, bad input."""

import contextlib
import dataclasses
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra import initialize_config_search_path
from hydra._internal.utils import get_args_parser  # the flags of Hydra's command line have no public parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode, TaskFunction
from hydra.utils import execution_whitelist
from omegaconf import DictConfig, OmegaConf

from sweeper_digits import bad_input, components, habits, help_text, program
from sweeper_digits.config import STORAGE_KEY, Config, is_study_sweeper, parse, refuse_resume
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import as_typed, check_no_reference, override_key, typed_value
from sweeper_digits.quiet import quiet_import
from sweeper_digits.runs.origin import DEFAULT_NAME, SEARCH_PATH, Origin
from sweeper_digits.sweep import plugin  # noqa: F401 - it registers itself with Hydra
from sweeper_digits.text import relative
from sweeper_digits.url import has_password

log = logging.getLogger(__name__)

# Beside the package in a checkout, in the package in a wheel.
CONF = (program.PACKAGE.parent if program.is_checkout() else program.PACKAGE) / "conf"

# What Hydra itself may call for a config; components are called by the registry.
CALLABLES = ("sweeper_digits.runs.own_folder.OwnFolder",)

# Top-level keys of a run.
KEYS = {field.name for field in dataclasses.fields(Config)}


def main() -> None:
    """Train one model, or search for the best, as the command line says.

    A script of your own does the same with the components that it registers, or imports:

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
    with bad_input.job_errors():
        config = parse(cfg)
        with quiet_import(keep_optional_imports=components.has_users()):
            from sweeper_digits.training.run import run  # imports Keras: only now, so that --help is instant
        job_config = HydraConfig.get()
        in_sweep = job_config.mode == RunMode.MULTIRUN
        typed: Any = OmegaConf.to_container(job_config.overrides.task, resolve=False)
        for key in ADDS:
            if getattr(config, key) and key not in map(override_key, typed):
                raise UserError(f"{key}={getattr(config, key)}: a file sets it; take it out of there, and type it")
        if (searched := job_config.runtime.choices.get("search")) and not in_sweep:
            log.info("search     %s: one run with its values, nothing is drawn; -m searches", searched)
        is_trial = in_sweep and is_study_sweeper(job_config.sweeper)
        with _attached() if is_trial else contextlib.nullcontext():
            return run(config, job_config.runtime.output_dir, in_sweep=in_sweep)


def _attached() -> contextlib.AbstractContextManager[None]:
    from sweeper_digits.sweep import job  # only here: it imports Optuna, which a single run does without

    return job.attached()


def start(task: TaskFunction) -> None:
    """Let Hydra run a job as the command line says; on bad input, print one line and exit with status 1.

    A traceback appears only for a defect, or with HYDRA_FULL_ERROR=1.

    Args:
        task: Takes the composed config of a job; a function of a module, which jobs elsewhere can import.
    """
    if not program.is_run_again:
        bad_input.exit_in_one_line(lambda: launch(task, as_hydra_takes(sys.argv[1:])))


def launch(task: TaskFunction, arguments: list[str]) -> None:
    """Let Hydra run a job.

    Hydra reads `sys.argv`. It would print errors in several lines, so it is told to raise them.

    Args:
        task: As for `start`.
        arguments: What `as_hydra_takes` returned.

    Raises:
        UserError: Bad input; other errors that `bad_input.bad_input` knows are raised too.
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


def call(task: TaskFunction, arguments: list[str]) -> None:
    """Let Hydra run one job in the caller's process, whose logging it leaves alone.

    Args:
        task: As for `start`.
        arguments: What `as_hydra_takes` returned.

    Raises:
        UserError: Bad input; other errors that `bad_input.bad_input` knows are raised too.
    """
    given = what_to_compose_from(arguments)
    with initialize_config_search_path(given.origin.search_path(given.conf)), execution_whitelist(CALLABLES):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None  # noqa: S101 - it was just initialized
        hydra.run(given.origin.name or DEFAULT_NAME, task, _composed_ones(arguments), with_log_configuration=False)


def as_hydra_takes(arguments: list[str]) -> list[str]:
    """Load the components, and return what a user gave as Hydra takes it: with a past run's overrides, and quoted.

    Raises:
        UserError: Bad input that Hydra would not see, or not tell in one line.
    """
    components.load()
    help_text.install()
    check_text(arguments, CONF)
    arguments = [as_typed(argument) for argument in arguments]
    own = not any(override_key(one) == "hydra/sweeper" and one != "hydra/sweeper=study" for one in arguments)
    arguments = habits.understood(arguments, KEYS, in_sweep=own and begins_sweep(arguments))
    given = what_to_compose_from(arguments)
    _check_names([CONF, *given.origin.paths])
    _check_options(arguments, given)
    whole = _with_past_run(arguments, given)
    # Hydra would look for a relative path beside this module.
    return whole if given.conf == str(CONF) else [*whole, "--config-path", given.conf]


def overrides_in(arguments: list[str]) -> list[str]:
    """Return the overrides among arguments, without flags and their values."""
    return list(get_args_parser().parse_intermixed_args(arguments).overrides)


def _composed_ones(arguments: list[str]) -> list[str]:
    """Return the overrides among arguments, but for the search path, which `what_to_compose_from` has read."""
    return [one for one in overrides_in(arguments) if override_key(one) != SEARCH_PATH]


def _check_names(folders: list[Path]) -> None:
    """Refuse a registered name that a file in a folder has: Hydra would take the file, also where that names itself."""
    for component in components.registered():
        for folder in folders:
            if (file := folder / str(component.group) / f"{component.name}.yaml").exists():
                what = f"{component.kind} {component.name} is registered too, at {component.where}"
                raise UserError(f"{relative(file)}: {what}; rename one")


class Given(NamedTuple):
    """The config name and the folders that the command line names."""

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
        check_no_reference(uri)
        found.append(uri if "://" in uri else os.path.abspath(uri))  # noqa: PTH100 - not resolved, as Hydra has it
    origin = Origin(tuple(found), flags.config_name)
    if "://" not in conf:
        origin.check(conf)
    return Given(conf, origin)


def _with_past_run(arguments: list[str], given: Given) -> list[str]:
    """Put what the run of `resume=FOLDER` or `from_run=FOLDER` was composed from in front of the arguments."""
    named = [(override_key(one), one) for one in arguments if override_key(one) in ADDS and one[0] not in "~-"]
    named = [(key, one) for key, one in named if one.partition("=")[2] not in ("", "null")]
    if len(named) > 1:
        raise UserError(f"{' '.join(one for _, one in named)}: a run goes on from one run; leave out all but one")
    for key, argument in named:
        from sweeper_digits.runs import begun  # only here: it brings NumPy

        folder = str(typed_value(argument))
        whole = ADDS[key](folder, arguments, given)
        for line in begun.not_started(folder, arguments):
            print(line, file=sys.stderr)
        return whole
    return arguments


def _resumed(folder: str, arguments: list[str], given: Given) -> list[str]:
    """Return the overrides that compose the run in a folder as it was saved, with what may be typed beside them.

    It is checked here, before Hydra writes the config anew: the new run may be in the same folder.
    """
    if begins_sweep(arguments):
        refuse_resume(folder)
    from sweeper_digits.runs import begun, recipe  # only here: they bring NumPy
    from sweeper_digits.runs.folder import RunFolder

    added = recipe.overrides_of_saved(folder, arguments, KEYS)
    config = parse(recipe.without_hydra(composed(added, given)))
    begun.check_same(RunFolder(folder), begun.Begun.now(config))
    return added


def _repeated(folder: str, arguments: list[str], given: Given) -> list[str]:
    """Return the overrides that repeat the run in a folder, and the arguments, which win."""
    from sweeper_digits.runs import recipe  # only here: it brings NumPy

    typed = overrides_in(arguments)
    found = recipe.recipe_of_folder(folder, lambda overrides: composed(overrides, given), typed)
    return recipe.as_overrides(found, typed)[: -len(typed)] + arguments


# By key that names a run: the function that puts the run's overrides in front of the arguments.
ADDS = {"resume": _resumed, "from_run": _repeated}


def composed(arguments: list[str], given: Given) -> DictConfig:
    """Compose the overrides among arguments, Hydra's own part included.

    Args:
        arguments: The arguments.
        given: What they say of what to compose from.
    """
    from sweeper_digits.runs import recipe  # only here: it brings NumPy

    return recipe.composer(given.conf, given.origin)(_composed_ones(arguments))


def _check_options(arguments: list[str], given: Given) -> None:
    """Refuse a number, null or a truth where an option of a config group is named: Hydra raises a ValueError."""
    folders = [CONF, *given.origin.paths]
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        known = components.options_of(key)
        is_group = known or any((folder / key).is_dir() for folder in folders)
        if equals and re.fullmatch(r"\w+(/\w+)*", key) and is_group:
            chosen = OverridesParser.create().parse_override(argument).value()
            if chosen is None or isinstance(chosen, int | float):
                options = sorted({*known, *(file.stem for folder in folders for file in (folder / key).glob("*.yaml"))})
                raise UserError(f"{argument}: no such option; choose from {', '.join(options) or 'its keys'}")


def check_text(arguments: list[str], conf: Path) -> None:
    """Refuse what is no text here: Hydra writes the arguments, the present folder and ours into files, as UTF-8."""
    for text in (*arguments, str(Path.cwd()), str(conf)):
        try:
            text.encode()
        except UnicodeEncodeError:
            encoding = sys.getfilesystemencoding()
            raise UserError(f"{text}: it is not {encoding} text; set PYTHONUTF8=1, or rename the file") from None
    check_no_reference(str(Path.cwd()))
    for text in arguments:
        key, _, value = text.partition("=")
        # A sweep never saves the password of its own database.
        if has_password(value) and not (key == STORAGE_KEY and begins_sweep(arguments)):
            hint = "put the URL into OPTUNA_STORAGE" if key == STORAGE_KEY else "see docs/own.md"
            raise UserError(f"{key}: its URL holds a password, which would be saved with the run; {hint}")


def begins_sweep(arguments: list[str]) -> bool:
    """Return whether arguments begin a sweep; Hydra takes --multi and --mul for --multirun too."""
    return any(text in ("-m", "hydra.mode=MULTIRUN") or text.startswith("--mu") for text in arguments)
