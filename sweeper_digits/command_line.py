"""What surrounds Hydra on the command line: one-line errors, `resume=FOLDER` and `from_run=FOLDER`."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeper_digits.errors import UserError, closest

# Beside the package, as in a checkout.
CONF = Path(__file__).resolve().parents[1] / "conf"

# Read once: `start` sets the variable for Hydra's sake.
SHOW_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")

# Lines of Hydra's and OmegaConf's messages that repeat the others or lead astray.
HYDRA_NOISE = ("full_key:", "reference_type=", "object_type=", "To append to your config use")


def start(main: Callable[[], object]) -> None:
    """Run a Hydra main function; end with one line and status 1 on bad input.

    A traceback appears only for a defect, or with HYDRA_FULL_ERROR=1. Hydra's own printing
    spreads over several lines, so it is told to raise and the line is written here.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"

    def run() -> None:
        sys.argv[1:] = _expand(sys.argv[1:])
        main()

    guard(run)


def guard(do: Callable[[], object]) -> None:
    """Do it; end with one line and status 1 on bad input, with status 130 on Ctrl-C."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        do()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `compare | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        sys.exit(1)
    except (HydraException, OmegaConfBaseException, OSError) as error:
        if SHOW_TRACEBACK:
            raise
        sys.exit(f"error: {_one_line(error)}")


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Keep off the screen what TensorFlow's libraries print to file descriptor 2 while they load.

    They print before any log level applies. If the import fails, all of it is shown. Later
    TensorFlow logs errors only: each new model is a retracing to it, which it warns of.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BaseException:
            captured.seek(0)
            os.write(screen, captured.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)


@contextlib.contextmanager
def job_errors() -> Iterator[None]:
    """End a single run at once on bad input; let a sweep see the exception instead.

    Hydra prints a line of its own for an exception that leaves a job, so a single run
    leaves by SystemExit, which Hydra does not catch.
    """
    try:
        yield
    except (UserError, OSError) as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN or SHOW_TRACEBACK:
            raise
        sys.exit(f"error: {_one_line(error)}")


def _expand(arguments: list[str]) -> list[str]:
    """Put the overrides of the run that `resume=FOLDER` or `from_run=FOLDER` names before the others."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "resume" and value not in ("", "null"):
            saved = Path(value) / ".hydra" / "overrides.yaml"
            if not saved.is_file():
                raise UserError(f"resume={value}: no run folder there ({saved} is missing)")
            overrides = [str(override) for override in OmegaConf.load(saved)]
            return [o for o in overrides if not o.startswith("resume=")] + arguments
        if key == "from_run" and value not in ("", "null"):
            from sweeper_digits.runs import recipe

            # A worker composes from the sweep's own copy.
            given = "--config-path" in arguments
            conf = arguments[arguments.index("--config-path") + 1] if given else CONF
            folder = value.strip("'\"")
            return recipe.overrides(recipe.of_folder(folder, recipe.composer(conf)), arguments)
    return arguments


def _one_line(error: Exception) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return (
            f"{group}={name}: no such option{closest(name, error.options)}; "
            f"choose from {', '.join(sorted(error.options))}"
        )
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    lines = [str(error)] + ([str(error.__cause__)] if error.__cause__ and not isinstance(error, UserError) else [])
    parts = [part.strip().rstrip(".") for line in lines for part in line.splitlines() if part.strip()]
    return "; ".join(dict.fromkeys(part for part in parts if not part.startswith(HYDRA_NOISE)))
