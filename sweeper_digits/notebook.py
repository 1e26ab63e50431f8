"""From Python, for example in a notebook: what `from sweeper_digits import train` and its neighbours load.

Each call does what the command line does, in the current folder. Bad input raises UserError.
"""

import contextlib
import copy
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobRuntime
from omegaconf import DictConfig

from sweeper_digits import bad_input, command_line, components, config, program
from sweeper_digits.config import Config
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_key, override_text
from sweeper_digits.quiet import quiet_import
from sweeper_digits.runs import recipe
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.text import brief, relative

if TYPE_CHECKING:
    import keras
    import pandas as pd

# Flags that a call takes, each with a value: what to compose from.
FLAGS = ("--config-dir", "--config-name")
# Top-level keys that decide the folder of a sweep.
FOLDER_KEYS = ("study", "search", "experiment", "hydra")


class Run:
    """A run, read from its folder when it is asked; `compare` takes runs too.

    Args:
        path: The folder, for example that of a trial, `Run("multirun/quick/9")`.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Return what metrics.json holds; empty for a run that has not finished."""
        return RunFolder(self.path).read_metrics() or {}

    @cached_property
    def history(self) -> "pd.DataFrame":
        """Return a row for each epoch, with the columns of history.csv; with folds, the column `fold` before them."""
        import pandas as pd

        run = RunFolder(self.path)
        rows: list[dict[str, float]] = run.read_history()
        for number, fold in enumerate(run.folds()):
            rows += [{"fold": number, **row} for row in fold.read_history()]
        return pd.DataFrame(rows)

    def model(self, fold: int | None = None) -> "keras.Model":
        """Return the model with the best weights: from pixels, uint8 (n, height, width, channels), to probabilities.

        Args:
            fold: The fold of a run with folds, which one.

        Raises:
            UserError: No model is there, or each fold has one and none is named.
        """
        run = RunFolder(self.path)
        if fold is None and (found := run.folds()):
            raise UserError(f"{self}: a model for each of its folds; name one, model(fold=0) to {len(found) - 1}")
        file = self.path / "model.keras" if fold is None else self.path / f"fold_{fold}" / "model.keras"
        if not file.is_file():
            raise UserError(f"{relative(file)}: no model there")
        with _guest(), quiet_import(keep_optional_imports=True):
            import keras

            return keras.saving.load_model(file)

    def __str__(self) -> str:
        return str(relative(self.path))

    def __repr__(self) -> str:
        names = self.metrics.get("objectives", [])
        values = {name: self.metrics.get(config.METRIC_OF.get(name, name)) for name in names}
        shown = [f"{name} {brief(value)}" for name, value in values.items() if value is not None]
        return f"Run({str(self)!r}): {', '.join(shown) or self.metrics.get('state', 'unfinished')}"

    def __fspath__(self) -> str:
        return str(self.path)


def compose(overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of a run, checked, without running it.

    Args:
        overrides: As on the command line: `["model=small", "epochs=2"]`; `"--config-dir", "FOLDER"` too.

    Raises:
        UserError: Bad input.
    """
    with _guest(), _one_line():
        arguments = command_line.as_hydra_takes(_checked(overrides))
        given = command_line.what_to_compose_from(arguments)
        return config.parse(recipe.without_hydra(command_line.composed(arguments, given)))


def train(overrides: Sequence[str] = ()) -> Run:
    """Train one model in this process, as `python train.py` does, and return the run.

    The run is in `outputs/DATE/TIME`, or where `hydra.run.dir=FOLDER` says. Parts that were registered in the notebook
    itself can be chosen too. The training seeds the global random generators of Python, NumPy and Keras.

    Args:
        overrides: As on the command line: `["model=small", "epochs=2"]`; also `resume=FOLDER`, `from_run=FOLDER`.

    Raises:
        UserError: Bad input, or a loss that became NaN.
    """
    folders = []

    def task(cfg: DictConfig) -> object:
        hydra = HydraConfig.get()
        folders.append(Path(hydra.runtime.output_dir))
        with quiet_import(keep_optional_imports=True):  # first, so that the caller has all of Keras
            import keras  # noqa: F401
        with _shown_and_kept(folders[0], bool(hydra.verbose)):
            return command_line.train(cfg)

    given = _checked(overrides)
    with _guest(), _one_line():
        arguments = command_line.as_hydra_takes(given)
        for override in OverridesParser.create().parse_overrides(command_line.overrides_in(arguments)):
            if override.is_sweep_override():
                raise UserError(
                    f"{override.input_line}: several values are for search([...]); a list has brackets, "
                    f"{override.get_key_element()}=[...]"
                )
        command_line.call(task, arguments)
    return Run(folders[0])


def search(overrides: Sequence[str]) -> Path:
    """Search with worker processes, as `python train.py -m` does, show its lines, and return the study's folder.

    An interrupt stops the search; the same call continues it. Workers import the modules of registered components.

    Args:
        overrides: As on the command line: `["search=quick", "study=first"]`.

    Raises:
        UserError: Bad input, a component that workers cannot import, or a search that failed, with its last line.
        KeyboardInterrupt: The search was interrupted, and has stopped.
    """
    given = _checked(overrides)
    with _guest(), _one_line():
        arguments = [one for one in command_line.as_hydra_takes(["-m", *given]) if one != "-m"]
        _refuse_parts_of_main(arguments)
        folder = _folder_of_sweep(arguments)
        # With the components' modules, and with all folders from which this process imports.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = program.importable(os.environ | {"PYTHONPATH": path})
    fixed = f"hydra.sweep.dir={override_text(str(relative(folder)))}"  # it may have the time in it
    _run_and_show([sys.executable, "-m", "sweeper_digits", "train", "-m", *given, fixed], environment)
    return folder


def compare(paths: "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]") -> "pd.DataFrame":
    """Return a table of runs, the best first, as `python -m sweeper_digits compare` prints it.

    Args:
        paths: One or more: a run, a study's folder, or a folder with many of them.

    Raises:
        UserError: No such folder, or no run in any of them.
    """
    with _guest(), _one_line():
        components.load()
        return _table([paths] if isinstance(paths, str | os.PathLike) else paths)


def _table(paths: "Sequence[str | os.PathLike[str]]") -> "pd.DataFrame":
    with quiet_import(keep_optional_imports=True):
        import pandas as pd

        with pd.option_context("mode.string_storage", "python"):  # which the import sets
            from sweeper_digits.results.table import build_table
            from sweeper_digits.runs.record import find_runs

            return build_table(find_runs(map(Path, paths)))


def _checked(overrides: Sequence[str]) -> list[str]:
    """Return the overrides; refuse what is no list of them, and flags: a call has no use for them."""
    if isinstance(overrides, str) or not all(isinstance(override, str) for override in overrides):
        raise UserError(f'{overrides!r}: a list of texts is expected, for example ["model=small", "epochs=2"]')
    for override in overrides:
        flag = override.startswith("-") and override.partition("=")[0] not in FLAGS
        if flag or override_key(override) == "hydra.mode":
            raise UserError(f"{override}: leave it out; train([...]) trains one model, search([...]) begins a sweep")
    if overrides and overrides[-1] in FLAGS:
        raise UserError(f"{overrides[-1]}: a value is needed behind it")
    return list(overrides)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Raise a UserError where the command line ends with one line."""
    try:
        yield
    except SystemExit as end:
        cause = end.__context__
        if not isinstance(end.code, str):
            raise
        if not isinstance(cause, UserError):
            cause = UserError(end.code.removeprefix("error: "))
        raise cause.with_traceback(None) from None
    except Exception as error:
        if isinstance(error, UserError) or (line := bad_input.bad_input(error)) is None:
            raise
        raise UserError(line) from None


def _refuse_parts_of_main(arguments: list[str]) -> None:
    """Refuse the choice of a component that was defined in the notebook, or in the script, that calls."""
    for component in components.registered():
        chosen = re.compile(rf"(?<![\w.]){component.group or component.kind}\s*[=:][^=:]*\b{component.name}\b")
        if component.make.__module__ == "__main__" and any(map(chosen.search, arguments)):
            raise UserError(
                f"{component.kind} {component.name}: worker processes cannot import it from where it is defined; "
                f"write it to a file of its own, for example my_parts.py, import that, and search again"
            )


def _folder_of_sweep(arguments: list[str]) -> Path:
    overrides = command_line.overrides_in(arguments)
    parsed = OverridesParser.create().parse_overrides(overrides)
    deciding = [
        text
        for text, override in zip(overrides, parsed, strict=True)
        if re.split(r"[./@]", override_key(text))[0] in FOLDER_KEYS and not override.is_sweep_override()
    ]
    given = command_line.what_to_compose_from(arguments)
    return Path(command_line.composed(deciding, given).hydra.sweep.dir).absolute()


def _run_and_show(command: list[str], environment: dict[str, str]) -> None:
    """Run a command, print its lines as they come, and raise its error; pass each interrupt on to it.

    It has a process group of its own, so that nobody else interrupts it too: for a sweep, the second one ends it at
    once. A notebook's output is no file that a process could write into.
    """
    error, interrupted = "", False
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    ) as process:
        assert process.stdout  # noqa: S101 - for mypy: it is a pipe
        while process.returncode is None:
            try:
                for line in iter(process.stdout.readline, ""):
                    if line.startswith("error: "):
                        error = line.removeprefix("error: ").strip()
                    else:
                        print(line, end="", flush=True)
                process.wait()
            except KeyboardInterrupt:
                interrupted = True
                process.send_signal(signal.SIGINT)
            except BaseException:
                process.terminate()
                raise
    if interrupted:
        raise KeyboardInterrupt
    if process.returncode:
        raise UserError(error or f"the search ended with status {process.returncode}")


@contextlib.contextmanager
def _guest() -> Iterator[None]:
    """Let the caller's own Hydra, of which a process has one, its environment and its log records be as they were."""
    hydra, name = GlobalHydra.instance().hydra, copy.deepcopy(JobRuntime.instance().conf)
    environment, records = dict(os.environ), logging.getLogRecordFactory()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    GlobalHydra.instance().clear()
    program.is_called = True
    try:
        yield
    finally:
        program.is_called = False
        GlobalHydra.instance().hydra, JobRuntime.instance().conf = hydra, name
        logging.setLogRecordFactory(records)
        for added in os.environ.keys() - environment.keys():
            del os.environ[added]
        os.environ.update(environment)


@contextlib.contextmanager
def _shown_and_kept(folder: Path, verbose: bool) -> Iterator[None]:
    """Print the messages of this package, and keep them in the run's train.log; the caller's loggers see none."""
    log = logging.getLogger("sweeper_digits")
    before = log.level, log.propagate
    screen, file = logging.StreamHandler(sys.stdout), logging.FileHandler(folder / "train.log", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.handlers += [screen, file]
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.handlers = [one for one in log.handlers if one not in (screen, file)]
        file.close()
        log.level, log.propagate = before
