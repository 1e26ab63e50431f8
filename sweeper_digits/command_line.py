"""Training and searching from the command line, and what surrounds Hydra there: `resume=`, `from_run=`, bad input."""

import dataclasses
import os
import re
import sys
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig

from sweeper_digits import help_text, program, registry, schema, screen
from sweeper_digits.errors import UserError
from sweeper_digits.quiet import quiet_import
from sweeper_digits.schema import INCIDENTAL, Config, override_key, refuse_resume
from sweeper_digits.sweep import plugin  # noqa: F401 - it registers itself with Hydra

# Beside the package in a checkout, in the package in a wheel.
CONF = (program.PACKAGE.parent if program.is_checkout() else program.PACKAGE) / "conf"

# What Hydra itself may call for a config; parts are called by the registry.
CALLABLES = ("sweeper_digits.runs.claim.OwnFolder",)

# Top-level keys of a run's overrides, and the form of an override of such a key.
KEYS = {field.name for field in dataclasses.fields(Config)} | {"experiment", "tensorboard"}
OVERRIDE = re.compile(r"\+{0,2}(\w+)(\.[A-Za-z]\w*)*=.*", re.ASCII | re.DOTALL)
# What was written otherwise in version 0.1.
RENAMED = {"tensorboard=true": ["callbacks=[tensorboard]"], "tensorboard=false": []}
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
    _check_text(arguments)
    _check_options(arguments)
    given = [new for argument in _with_past_run(arguments) for new in RENAMED.get(argument, [argument])]
    return [_as_typed(argument) for argument in given]


def _check_names() -> None:
    """Refuse a registered name that a file in conf/ has: Hydra would take the file."""
    for part in registry.parts():
        file = CONF / str(part.group) / f"{part.name}.yaml"
        if not part.own and file.exists():
            raise UserError(f"{part.where}: {part.kind} {part.name}: conf/ has an option of this name; rename one")


def _with_past_run(arguments: list[str]) -> list[str]:
    """Put the overrides of the run that `resume=FOLDER` or `from_run=FOLDER` names in front of the arguments."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "resume" and value not in ("", "null"):
            if not {"-m", "--multirun"}.isdisjoint(arguments):  # other ways to begin a sweep are seen later
                refuse_resume(value)
            saved = [override for override in _saved_overrides(value) if not override.startswith("resume=")]
            _check_unchanged(value, saved, arguments)
            return saved + arguments
        if key == "from_run" and value not in ("", "null"):
            from sweeper_digits.runs import recipe

            # A worker composes from the sweep's own copy.
            given = "--config-path" in arguments
            conf = arguments[arguments.index("--config-path") + 1] if given else CONF
            folder = value.strip("'\"")
            return recipe.as_overrides(recipe.recipe_of_folder(folder, recipe.composer(conf)), arguments)
    return arguments


def _check_text(arguments: list[str]) -> None:
    """Refuse what is no text here: Hydra writes the arguments, the present folder and ours into files, as UTF-8."""
    for text in (*arguments, str(Path.cwd()), str(CONF)):
        try:
            text.encode()
        except UnicodeEncodeError:
            encoding = sys.getfilesystemencoding()
            raise UserError(f"{text}: it is not {encoding} text; set PYTHONUTF8=1, or rename the file") from None


def _check_options(arguments: list[str]) -> None:
    """Refuse a number, null or a truth where an option of a config group is named: Hydra raises a ValueError."""
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if equals and re.fullmatch(r"\w+(/\w+)*", key) and (CONF / key).is_dir():
            chosen = OverridesParser.create().parse_override(argument).value()
            if chosen is None or isinstance(chosen, int | float):
                options = sorted(file.stem for file in (CONF / key).glob("*.yaml"))
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
