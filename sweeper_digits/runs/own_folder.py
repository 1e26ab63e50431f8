"""A run folder belongs to one run: a run claims its folder before anything is written there."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sweeper_digits.bad_input import one_line
from sweeper_digits.config import check_plugins, is_study_sweeper, refuse_resume
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import check_no_reference
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.text import relative

# What a user can do about a folder that is taken.
OTHER_FOLDER = "choose another hydra.run.dir"

# Folders that this process has claimed: Hydra's callback claims the folder before the run itself does.
_claimed: set[Path] = set()


@contextlib.contextmanager
def claimed(folder: str | Path, resumed: str | Path | None = None, in_sweep: bool = False) -> Iterator[None]:
    """Keep a folder for one run while the block lasts; make the folder if it is missing.

    A folder in which a run failed before its first epoch ended has no files of a run; it can be used again.

    Args:
        folder: The run's folder.
        resumed: The run that is continued. It may be in this folder.
        in_sweep: Whether the run is a trial. A scheduler starts a trial that it cut off a second time, in the folder
            of the first time: what the first time left is removed.

    Raises:
        UserError: The folder has files of another run, or another process runs in it.
    """
    path = Path(os.path.realpath(folder))  # Path.resolve raises for a loop
    if path in _claimed:
        yield
        return
    with locked(path):
        run = RunFolder(path)
        if in_sweep and not run.metrics.exists():
            run.clear()
        same = resumed is not None and Path(resumed).resolve() == path
        if not same or run.metrics.exists():
            check_free(run, OTHER_FOLDER)
        _claimed.add(path)
        try:
            yield
        finally:
            _claimed.discard(path)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other process lock a folder while the block lasts; make the folder if it is missing.

    The lock is on the folder itself, so it leaves no file, and it ends with the process.

    Raises:
        UserError: Another process has locked the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{relative(folder)}: another process runs in this folder; {OTHER_FOLDER}") from None
        except OSError:  # a network file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def check_free(run: RunFolder, otherwise: str) -> None:
    """Raise a UserError that ends with what to do `otherwise` if a folder has files of a run."""
    shown = relative(run.folder)
    if run.metrics.exists():
        raise UserError(f"{shown}: it holds a finished run; {otherwise}, or delete it")
    if run.checkpoint.exists() or run.folds():
        raise UserError(f"{shown}: it holds an unfinished run; continue it with resume={shown}, or {otherwise}")
    if set(run.files()) - {run.images}:  # which a run writes before its first epoch
        raise UserError(f"{shown}: it holds a run that was cut off; {otherwise}, or delete it")


class OwnFolder(Callback):
    """Give each run a folder of its own, before Hydra writes its configuration and the log there.

    A folder that is taken ends the program by SystemExit: of another exception, Hydra makes a warning.
    """

    def __init__(self) -> None:
        self.kept = contextlib.ExitStack()

    def __reduce__(self) -> tuple[type["OwnFolder"], tuple[()]]:
        """Let a launcher pickle it with a job: the folders that are kept stay this process's."""
        return OwnFolder, ()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _exit_in_one_line():
            check_no_reference(config.hydra.run.dir)
            self.kept.enter_context(claimed(config.hydra.run.dir, config.resume))

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        self.kept.close()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the folder of a sweep by another sweeper than ours, which continues its sweeps."""
        with _exit_in_one_line():
            check_plugins(config.hydra)
            check_no_reference(config.hydra.sweep.dir)
            if config.resume:
                refuse_resume(config.resume)
        if is_study_sweeper(config.hydra.sweeper):
            return
        folder = Path(os.path.realpath(config.hydra.sweep.dir))
        with _exit_in_one_line():
            self.kept.enter_context(locked(folder))
            for hydra in folder.rglob(".hydra"):
                check_free(RunFolder(hydra.parent), "choose another study or hydra.sweep.dir")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        self.kept.close()


@contextlib.contextmanager
def _exit_in_one_line() -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, OSError) as error:
        sys.exit(f"error: {one_line(error)}")
