"""Fixtures: a few real digits, and the real program run in this process or in its own."""

import contextlib
import functools
import gc
import io
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import omegaconf.resolvers.oc
import pytest
import sqlalchemy
from absl import logging as absl_logging
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import grammar_parser
from optuna.storages._rdb.storage import _VersionManager

from sweeper_digits import bad_input, components
from sweeper_digits.data.dataset import Dataset, load_mnist_5k
from sweeper_digits.runs.folder import RunFolder
from tests import warm

ROOT = Path(__file__).parent.parent
# A network that trains for two epochs in half a second: most of that is TensorFlow's tracing, which counts operations.
TINY = (
    "model=small",
    "model.filters=4",
    "model.stages=1",
    "model.normalization=false",
    "model.dense_units=16",
    "model.dense_dropout=0",
    "augmentation=none",
    "epochs=2",
    "batch_size=32",
    "figures=false",
    "precision=float32",
)
# After these: with all that a training draws, and all that it keeps from step to step, for tests of equal numbers.
WHOLE = (
    "model.stages=2",
    "model.normalization=true",
    "model.dense_dropout=0.2",
    "augmentation=medium",
)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
sys.path.insert(0, str(ROOT))
# Started in the background, or by nohup, this process ignores a signal, and so would the sweeps that tests stop.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# TensorFlow's log handler closes its stream when Hydra sets up logging, unless the stream is one of Python's own: of a
# test that imports TensorFlow, it closed pytest's capture, and every later test failed.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__
components.load()
gc.set_threshold(bad_input.OBJECTS_BETWEEN_COLLECTIONS)  # as the programs that run in this process do sooner or later

# Each composition parses the same few interpolations, a sixth of its time, and each connection to a study looks for the
# newest version of Optuna's tables in files, six sevenths of its time. Here and in what is forked from here, once.
parse = functools.cache(grammar_parser.parse)
for module in (omegaconf._utils, omegaconf.base, omegaconf.resolvers.oc):
    module.parse = parse  # type: ignore[attr-defined]
look_for_version, versions = _VersionManager.get_head_version, list[str]()


def newest_version(manager: _VersionManager) -> str:
    """The newest version of Optuna's tables."""
    if not versions:
        versions.append(look_for_version(manager))
    return versions[0]


_VersionManager.get_head_version = newest_version  # type: ignore[assignment, method-assign]


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def without_waiting_for_the_disk(connection: Any, record: object) -> None:
    """Let SQLite leave writing to the system, 4 ms a commit: tests kill processes, and no machine."""
    if type(connection).__module__ == "sqlite3":
        connection.execute("PRAGMA synchronous=OFF")


def option(group: str, name: str, **values: object) -> Any:
    """Return an option of a config group as a parsed config has it."""
    return components.options_of(group)[name].judged(values)


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: many tests wait for processes that sleep."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def no_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back, after each test, what the command line tells later processes: other tests' programs inherit it."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setenv(components.PLUGINS, os.environ.get(components.PLUGINS, ""))  # as it is now, afterwards


def forget_components(known: set[int]) -> None:
    """Take back what was registered beside the parts with these ids, and forget the modules that did so."""
    repo = ConfigStore.instance().repo
    for part in components.registered():
        if id(part) not in known:
            if part.group:
                repo[part.group].pop(f"{part.name}.yaml", None)
            del components._registered[part.kind][part.name]
            if part.make.__module__ != "__main__":
                sys.modules.pop(part.make.__module__, None)
                components._loaded.discard(part.make.__module__)


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget, after a test, what it registered, and the modules that did so; one that fails is named `bad`."""
    known = {id(part) for part in components.registered()}
    monkeypatch.setattr(
        components, "_registered", {kind: dict(named) for kind, named in components._registered.items()}
    )
    monkeypatch.setattr(components, "_loaded", set(components._loaded))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    forget_components(known)
    sys.modules.pop("bad", None)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """300 real digits, 30 of each class."""
    everything = load_mnist_5k()
    chosen = np.concatenate([np.flatnonzero(everything.labels == label)[:30] for label in range(10)])
    return everything.part(chosen)


@pytest.fixture(scope="session")
def npz(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 300 digits as a file for data=npz."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, images=digits.images, labels=digits.labels)
    return path


@pytest.fixture(scope="session")
def tiny(npz: Path) -> list[str]:
    """Overrides that train in half a second."""
    return ["data=npz", f"data.path={npz}", *TINY]


@pytest.fixture
def train(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny: list[str],
) -> Callable[..., RunFolder]:
    """Call `python train.py` on the 300 digits, in this process, with further overrides."""

    def call(*overrides: str, folder: str = "run", defaults: list[str] = tiny) -> RunFolder:
        from sweeper_digits import command_line

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["train.py", f"hydra.run.dir={folder}", *defaults, *overrides])
        try:
            command_line.main()
        finally:
            GlobalHydra.instance().clear()
        return RunFolder(tmp_path / folder)

    return call


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python train.py` as a user does, in an empty folder."""

    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return call


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Path:
    """A folder in which a sweep of two optimizers on two seeds was made; not to be changed."""
    folder = tmp_path_factory.mktemp("swept")
    space = ["study=first", "optimizer=adam,sgd", "seed=1,2", "split.test_size=0.2", "hydra.sweeper.keep_models=3"]
    space += ["augmentation=medium"]  # for test-time augmentation
    printed, status = warm.python([str(ROOT / "train.py"), "-m", *tiny, *space], folder, os.environ)
    assert status == 0, printed
    return folder


@pytest.fixture
def tool(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Call `python -m sweeper_digits` on a copy of the sweep, in this process; return what it prints."""
    shutil.copytree(swept, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        from sweeper_digits import __main__

        monkeypatch.setattr(sys, "argv", ["sweeper_digits", *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            __main__.main()
        return printed.getvalue()

    return call


# What moves the cursor of a terminal or colours it.
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(command: list[str], seconds: float = 60, folder: Path = ROOT, **environment: str) -> str:
    """What Python, with these arguments, writes to a terminal of 60 columns and 20 lines."""
    ours, theirs = pty.openpty()
    known = os.environ | {"TERM": "xterm-256color", "COLUMNS": "60", "LINES": "20", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, *command], stdin=theirs, stdout=theirs, stderr=theirs, env=known | environment, cwd=folder
    )
    os.close(theirs)
    written, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                written += os.read(ours, 65536)
            except OSError:  # all of it was read, and the program has ended
                break
    os.close(ours)
    text = written.decode().replace("\r\n", "\n")
    try:
        assert process.wait(timeout=10) == 0, text
    finally:
        process.kill()
    return text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser without a window."""
    if BROWSER is None:
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()
