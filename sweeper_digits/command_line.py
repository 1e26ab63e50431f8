"""Training and searching from the command line, and what surrounds Hydra there: `resume=`, `from_run=`, bad input."""

import dataclasses
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
from sweeper_digits.errors import UserError
from sweeper_digits.quiet import quiet_import
from sweeper_digits.runs.origin import SEARCH_PATH, Origin, check_harmless, origin_of
from sweeper_digits.schema import INCIDENTAL, Config, override_key, refuse_resume
from sweeper_digits.sweep import plugin  # noqa: F401 - it registers itself with Hydra

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
STORAGE = "hydra.sweeper.storage"
# Keys whose values are names, also where they look like numbers.
NAMES = ("study", "hydra.sweeper.study_name")


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
        with quiet_import():
            from sweeper_digits.sweep import job
            from sweeper_digits.training.run import run  # imports Keras: only now, so that --help is instant
        job_config = HydraConfig.get()
        with job.attached():
            return run(config, job_config.runtime.output_dir, in_sweep=job_config.mode == RunMode.MULTIRUN)


def start(task: TaskFunction) -> None:
    """Let Hydra run a job as the command line says; on bad input, print one line and exit with status 1.

    A traceback appears only for a defect, or with HYDRA_FULL_ERROR=1. Hydra itself would print errors in several
    lines, so it is told to raise them.

    Args:
        task: Takes the composed config of a job; a function of a module, which jobs elsewhere can import.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"

    def run() -> None:
        registry.load()
        _check_names()
        help_text.install()
        _check_text()
        given = _given(sys.argv[1:])
        _check_options(sys.argv[1:], given)
        composed = _with_past_run(sys.argv[1:], given)
        arguments = [_as_typed(new) for argument in composed for new in RENAMED.get(argument, [argument])]
        # Hydra would look for a relative path beside this module.
        sys.argv[1:] = arguments if given.conf == str(CONF) else [*arguments, "--config-path", given.conf]
        try:
            hydra.main(config_path=str(CONF), config_name="config", execution_whitelist=CALLABLES)(task)()
        except ValueError as error:  # Hydra's, before it has composed anything
            if not str(error).startswith("Only one of --run, --multirun"):
                raise
            raise UserError(
                "--multirun, --run, --cfg and --info exclude each other; to see what a sweep composes, leave -m out: "
                "--cfg job shows one run, --cfg hydra the sweeper"
            ) from None

    screen.exit_in_one_line(run)


def _check_names() -> None:
    """Refuse a registered name that a file in conf/ has: Hydra would take the file."""
    for part in registry.parts():
        file = CONF / str(part.group) / f"{part.name}.yaml"
        if not part.own and file.exists():
            raise UserError(f"{part.where}: {part.kind} {part.name}: conf/ has an option of this name; rename one")


class _Given(NamedTuple):
    """What the command line itself says of what to compose from."""

    conf: str  # --config-path: a worker's is the sweep's own copy
    origin: Origin  # --config-dir, hydra.searchpath, --config-name


def _given(arguments: list[str]) -> _Given:
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
    return _Given(conf, origin)


def _with_past_run(arguments: list[str], given: _Given) -> list[str]:
    """Put the overrides of the run that `resume=FOLDER` or `from_run=FOLDER` names in front of the arguments."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in ADDS and value not in ("", "null"):
            return _composed_as(key, value, arguments, given)
    return arguments


def _resumed(folder: str, arguments: list[str], compose: Compose) -> list[str]:
    """Return the overrides that the run in a folder was begun with."""
    if not {"-m", "--multirun"}.isdisjoint(arguments):  # other ways to begin a sweep are seen later
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


def _composed_as(key: str, folder: str, arguments: list[str], given: _Given) -> list[str]:
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


def _check_text() -> None:
    """Refuse what is no text here: Hydra writes the arguments, the present folder and ours into files, as UTF-8."""
    for text in (*sys.argv[1:], str(Path.cwd()), str(CONF)):
        try:
            text.encode()
        except UnicodeEncodeError:
            encoding = sys.getfilesystemencoding()
            raise UserError(f"{text}: it is not {encoding} text; set PYTHONUTF8=1, or rename the file") from None
    for text in sys.argv[1:]:
        key, _, value = text.partition("=")
        if re.search(r"://[^/\s:@]*:[^/\s@]+@", value) and key != STORAGE:  # whose password is never saved
            raise UserError(f"{key}: its URL holds a password, which would be saved with the run; see docs/own.md")


def _check_options(arguments: list[str], given: _Given) -> None:
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


def _as_typed(argument: str) -> str:
    """Quote a name that Hydra would read as a number or a word, and the path of a file that its grammar refuses.

    Of `study=1e3` it would make 1000.0; `data.path=digits (1).zip` it would not read at all.
    """
    key, _, value = argument.partition("=")
    if key.lstrip("+") == "data.path" and value and Path(value).expanduser().exists():
        from sweeper_digits.runs.recipe import override_text

        return f"{key}={override_text(value)}"
    if key not in NAMES or not re.fullmatch(r"[\w.+-]+", value, re.ASCII):
        return argument
    return (
        argument if isinstance(OverridesParser.create().parse_override(argument).value(), str) else f"{key}='{value}'"
    )
