"""Fixtures: sweeps of sleeping or of training trials, started as a user starts them or worked on in this process."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import optuna
import psutil
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.study import set_up
from tests.conftest import ROOT
from tests.sweep.forked import Forked

MakeSweep = Callable[..., Sweep]
SLEEPER = ROOT / "benchmarks" / "sleeper.py"
LEARNING_RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"
# Every trial runs to its last epoch.
STEADY = ("patience=null", "hydra/sweeper/pruner=none")


def wait_for(happened: Callable[[], object], seconds: float = 90, seen: Callable[[], object] = str) -> None:
    """Wait until `happened` returns something true; on failure say what was `seen`."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"waited too long {seen()}"
        time.sleep(0.1)


class Program(subprocess.Popen[str]):
    """A process that a failed test does not wait for."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind:
            self.kill()
        super().__exit__(kind, error, traceback)


class ForkedProgram(Forked, Program):
    """A sleeper that is forked from this process."""


class Sweeps:
    """Starts sweeps in a folder, and reads what they left.

    Sleepers are forked from this process unless `forks` is false: they are killed, stopped and waited for as others.

    Args:
        folder: Where the sweeps run.
        program: What is started: train.py, or the sleeper.
        defaults: Overrides that come before a test's own.
        storage: Of the studies; None: each has its own, in its folder.
    """

    def __init__(self, folder: Path, program: Path, defaults: list[str], storage: str | None = None) -> None:
        self.folder = folder
        self.program = [sys.executable, str(program), "-m", *defaults]
        self.forks = program == SLEEPER
        self.environment = os.environ | {"PYTHONPATH": str(ROOT)}
        if storage:
            self.environment["OPTUNA_STORAGE"] = storage
        self.shared_url = storage
        self.started: list[Program] = []
        self.storages: dict[str, optuna.storages.RDBStorage] = {}

    def trials_last(self, seconds: float) -> None:
        """Let each trial of the sweeps that are started from now on sleep so long."""
        self.environment["SLEEPER_SECONDS"] = str(seconds)

    def start(self, *overrides: str) -> Program:
        process = (ForkedProgram if self.forks else Program)(
            [*self.program, *overrides],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.started.append(process)
        return process

    def run(self, *overrides: str) -> subprocess.CompletedProcess[str]:
        with self.start(*overrides) as process:
            out, error = process.communicate(timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, out, error)

    def ok(self, *overrides: str) -> str:
        done = self.run(*overrides)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    def url_of(self, name: str) -> str:
        return self.shared_url or f"sqlite:///{self.folder}/multirun/{name}/study.db"

    @property
    def url(self) -> str:
        return self.url_of("sweep")

    def study(self, name: str = "sweep") -> optuna.Study:
        url = self.url_of(name)
        if url not in self.storages:
            self.storages[url] = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        return optuna.load_study(study_name=name, storage=self.storages[url])

    def trials(self, name: str = "sweep") -> list[FrozenTrial]:
        return self.study(name).trials

    def states(self, name: str = "sweep") -> dict[TrialState, int]:
        return dict(Counter(trial.state for trial in self.trials(name)))

    def points(self, parameter: str, name: str = "sweep") -> list[object]:
        """The values that the complete trials have of a parameter."""
        return [trial.params[parameter] for trial in self.trials(name) if trial.state == TrialState.COMPLETE]

    def trial_folder(self, number: int, name: str = "sweep") -> RunFolder:
        return RunFolder(self.folder / "multirun" / name / str(number))

    def checkpoints(self, name: str = "sweep") -> list[Path]:
        return list(self.folder.glob(f"multirun/{name}/*/checkpoint.npz"))

    def close(self) -> None:
        """End what a failed test has left running; workers end by themselves when their supervisor is gone."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()
            process.wait()
        for storage in self.storages.values():
            storage.remove_session()
            storage.engine.dispose()


def workers_of(process: Program, count: int = 0) -> list[psutil.Process]:
    """The workers of a supervisor that live, once there are at least so many."""

    def living() -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children()
            return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        return []

    wait_for(lambda: len(living()) >= count)
    return living()


@pytest.fixture
def sweeps_of(tmp_path: Path) -> Iterator[Callable[..., Sweeps]]:
    """Make the sweeps of a program in the test's folder."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made: list[Sweeps] = []

    def make(program: Path = SLEEPER, defaults: list[str] | None = None, storage: str | None = None) -> Sweeps:
        made.append(Sweeps(tmp_path, program, defaults or [], storage))
        return made[-1]

    yield make
    for sweeps in made:
        sweeps.close()


@pytest.fixture
def sweeps(sweeps_of: Callable[..., Sweeps]) -> Sweeps:
    """Sweeps whose trials sleep."""
    return sweeps_of()


@pytest.fixture
def training_sweeps(sweeps_of: Callable[..., Sweeps], tiny: list[str]) -> Sweeps:
    """Sweeps whose trials train on 300 digits."""
    return sweeps_of(ROOT / "train.py", tiny)


@pytest.fixture
def in_process(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sweeps]:
    """Run a sweep whose trials sleep in this process: for what needs no kill."""

    def call(*overrides: str) -> Sweeps:
        from benchmarks import sleeper
        from sweeper_digits import command_line

        monkeypatch.chdir(sweeps.folder)
        monkeypatch.setattr(sys, "argv", ["train.py", "--multirun", "hydra/launcher=basic", *overrides])
        try:
            command_line.start(sleeper.main)
        finally:
            GlobalHydra.instance().clear()
        return sweeps

    return call


def epochs_of(run: RunFolder) -> list[int]:
    """The epochs that a run's history has, in its order."""
    return [int(row["epoch"]) for row in run.read_history()]


def checkpoint_pid(checkpoint: Path) -> int:
    """The process that has written a sleeping trial's checkpoint."""
    with np.load(checkpoint) as state:
        return int(state["pid"][0])


@pytest.fixture
def make_sweep() -> MakeSweep:
    """Make the sweep of some arguments from the shipped conf/, without running it."""

    def call(*arguments: str) -> Sweep:
        fixed = [text for text in arguments if not re.search(r"[(]|,(?![^\[{]*[\]}])", text)]
        with initialize_config_dir(str(ROOT / "conf")):
            loader = GlobalHydra.instance().config_loader()
            config = loader.load_configuration("config", fixed, RunMode.MULTIRUN)
            return Sweep.of(config.hydra.sweeper, config, list(arguments), loader)

    return call


def queue_of(make_sweep: MakeSweep, folder: Path, *arguments: str) -> tuple[Sweep, Queue]:
    """A sweep with a study of its own, and the study's queue."""
    places = f"hydra.sweeper.storage=sqlite:///{folder}/studies.db", f"hydra.sweep.dir={folder}/sweep"
    sweep = make_sweep(*arguments, *places)
    return sweep, set_up(sweep)


def begun(sweep: Sweep, queue: Queue, value: float | None = None) -> FrozenTrial:
    """The next trial, with its point; with a value, it has reported that after its first epoch and was pruned."""
    trial = queue.ask(sweep)
    assert trial
    queue.record_worker(trial)
    sweep.suggest(trial)
    if value is not None:
        trial.report(value, 0)
        queue.study.tell(trial, state=TrialState.PRUNED)
    return queue.read(trial.number)
