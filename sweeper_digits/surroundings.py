"""The process that this program runs in, where it is another program's: a notebook, a script, a test."""

import contextlib
import copy
import gc
import logging
import os
import sys
from collections.abc import Iterator

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase

from sweeper_digits import program


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let this program run as if it had the process alone, and leave the process as it was.

    The environment, the command line, Hydra, logging and garbage collection are kept. The global random generators of
    Python, NumPy and Keras are not: a training seeds them.
    """
    with _process(), _hydra(), _logging(), _garbage():
        yield


@contextlib.contextmanager
def _process() -> Iterator[None]:
    environment, argv = dict(os.environ), sys.argv
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Commands that a run prints are to be typed into a terminal: a notebook cannot be started so.
    sys.argv = [str(program.PACKAGE / "__main__.py")]
    try:
        yield
    finally:
        sys.argv = argv
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


@contextlib.contextmanager
def _hydra() -> Iterator[None]:
    """Put another user's Hydra aside: it may be initialized, or compose for another version."""
    kinds = (GlobalHydra, HydraConfig, VersionBase)
    kept = {kind: dict(vars(kind.instance())) for kind in kinds}
    runtime = copy.deepcopy(JobRuntime.instance().conf)
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        JobRuntime.instance().conf = runtime
        for kind, values in kept.items():
            vars(kind.instance()).update(values)


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Keep the handlers and levels of others; close the files that were opened meanwhile.

    Python's `logging.config` closes every handler that it knows of before it sets up new ones. So it is told of none.
    """
    root, known, named = logging.getLogger(), logging._handlerList, logging._handlers  # type: ignore[attr-defined]
    handlers, listed, names = root.handlers[:], known[:], dict(named)
    loggers = {root: root.level, **_loggers()}
    disabled = {logger: logger.disabled for logger in loggers}
    known.clear()
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers and isinstance(handler, logging.FileHandler):
                handler.close()
        root.handlers[:] = handlers
        known[:] = [*listed, *(reference for reference in known if reference not in listed)]
        named.clear()  # of those made meanwhile, garbage may still be there
        named.update(names)
        for logger, level in loggers.items():
            logger.setLevel(level)
            logger.disabled = disabled[logger]


def _loggers() -> dict[logging.Logger, int]:
    """Return all loggers that there are, and their levels."""
    found = logging.Logger.manager.loggerDict.values()
    return {logger: logger.level for logger in found if isinstance(logger, logging.Logger)}


@contextlib.contextmanager
def _garbage() -> Iterator[None]:
    """Have collections skip what exists, which is faster, and let it be collected again afterwards."""
    frozen = gc.get_freeze_count()
    gc.freeze()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()
