"""Bad input in one line: errors of Hydra, OmegaConf and this program, worded for the user who typed it."""

import atexit
import contextlib
import gc
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sweeper_digits.components import KINDS, options_of, unset_hint
from sweeper_digits.errors import UserError, closest
from sweeper_digits.habits import LAUNCHERS, SHORT
from sweeper_digits.screen import Message
from sweeper_digits.text import printable, relative

# Read once: `command_line.launch` sets the variable for Hydra's sake.
SHOW_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
# Groups to which a user can add options.
OPEN_GROUPS = {kind.group for kind in KINDS.values()}
# Lines of Hydra's and OmegaConf's messages that repeat other lines or mislead.
HYDRA_NOISE = ("full_key:", "reference_type=", "object_type=", "To append to your config use")


def exit_in_one_line(do: Callable[[], object]) -> None:
    """Call `do`; on bad input print one line and exit with status 1, on Ctrl-C exit with status 130."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    atexit.register(gc.freeze)  # a process that ends would search all its modules for garbage, for another second
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal cannot show, for example ± in ASCII
    # Where the reader is gone, `train.py | head -1`, logging would print a traceback for each line.
    logging.raiseExceptions = SHOW_TRACEBACK
    logging.setLogRecordFactory(Message)
    try:
        do()
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `compare | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        sys.exit(1)
    except Exception as error:
        if bad_input(error) is None:
            raise
        sys.exit(_printed(error))


def bad_input(error: Exception) -> str | None:
    """Return the line for a user who gave bad input; None for a defect, or if HYDRA_FULL_ERROR is set."""
    if SHOW_TRACEBACK:
        return None
    if isinstance(error, HydraException | OmegaConfBaseException | OSError | yaml.YAMLError):
        return one_line(error)
    if isinstance(error, ValueError) and isinstance(error.__cause__, OSError):
        return one_line(error.__cause__)  # logging's, of a log that cannot be written
    return None


@contextlib.contextmanager
def job_errors() -> Iterator[None]:
    """End a single run at once on bad input; let a sweep see the exception instead.

    Hydra prints a line of its own for an exception that leaves a job, so a single run
    leaves by SystemExit, which Hydra does not catch.
    """
    logging.setLogRecordFactory(Message)  # a launcher may have started this process
    try:
        yield
    except (HydraException, OmegaConfBaseException, OSError) as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN or SHOW_TRACEBACK:
            raise
        sys.exit(_printed(error))


def _printed(error: Exception) -> str:
    """Write an error as a command ends with it: of a config, a line for each fault."""
    if isinstance(error, UserError):
        return "\n".join(f"error: {printable(line)}" for line in error.lines)
    return f"error: {bad_input(error) or one_line(error)}"


def one_line(error: Exception) -> str:
    """Write what a user is to read of an error, in a line that controls no terminal."""
    return printable(_said(error))


def _said(error: Exception) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        if line := _no_option(group, name, sorted(error.options or options_of(group))):
            return line
    if isinstance(error, FileExistsError | NotADirectoryError) and error.filename:
        file = next((one for one in (Path(error.filename), *Path(error.filename).parents) if one.is_file()), None)
        return f"{relative(file or Path(error.filename))}: a file is where a folder is needed; move it away"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OverrideParseException):
        return _unparsed(str(error.override))
    lines = [str(error)] + ([str(error.__cause__)] if error.__cause__ and not isinstance(error, UserError) else [])
    for one in (error, error.__cause__):
        if isinstance(one, ConfigKeyError | ConfigAttributeError) and OmegaConf.is_dict(one.parent_node):
            return _unknown(str(one.full_key), str(one.key), one.parent_node)
    parts = [part.strip().rstrip(".") for line in lines for part in line.splitlines() if part.strip()]
    return "; ".join(dict.fromkeys(part for part in parts if not part.startswith(HYDRA_NOISE)))


def _unknown(name: str, key: str, node: Any) -> str:
    """Write that a config has no such key, and what to type instead.

    Args:
        name: The key as it was typed.
        key: Its last part, or the first one that is not there.
        node: The part of the config that lacks it.
    """
    group, _, option = name.rpartition(".")
    beside: Any = OmegaConf.to_container(node, resolve=False)
    if group == "callbacks":
        return f"{name}: not chosen; add callbacks=[{option}]"
    for component in options_of(group).values():
        if component.target == beside.get("_target_"):
            having = [other.name for other in options_of(group).values() if key in other.keys]
            near = f"; choose {group}={'|'.join(having)}" if having else closest(SHORT.get(key, key), component.keys)
            return f"{name}: {component.name}, the chosen {group}, has no such key{near}"
    near = closest(key, map(str, beside))
    return f"{name}: no such key{near}" + (f"; to add it, type +{name}=..." if group and not near else "")


def _no_option(group: str, name: str, known: list[str]) -> str | None:
    if group == "hydra/launcher" and name in LAUNCHERS:
        return f"{group}={name}: this launcher is not installed; pip install {LAUNCHERS[name]}"
    if not known:  # of a list of options Hydra does not say it
        return None
    own = unset_hint() if group in OPEN_GROUPS else ""
    return f"{group}={name}: no such option{closest(name, known)}; choose from {', '.join(known)}{own}"


def _unparsed(override: str) -> str:
    """Write that an override is not in Hydra's grammar, and what to type instead."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: an override has the form KEY=VALUE, for example epochs=10"
    if value.startswith("choice("):
        return f"{override}: not in Hydra's grammar; list the values instead, for example {key}={value[7:-1] or '1,2'}"
    return f"{override}: not in Hydra's grammar; a text of other characters is quoted twice: '{key}=\"{value}\"'"


# Objects that are made between two searches for garbage; Python's own 700 search the imports of Keras for a second.
OBJECTS_BETWEEN_COLLECTIONS = 50_000
