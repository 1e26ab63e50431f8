"""One process on this machine that runs jobs, one after the other: warm, apart, and gone when its parent is."""

import contextlib
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from sweeper_digits import components, program, text
from sweeper_digits.errors import UserError
from sweeper_digits.quiet import quiet_import
from sweeper_digits.sweep.ending import described, described_end
from sweeper_digits.sweep.job import SLOT
from sweeper_digits.sweep.space import Sweep

# A process that dies before it can take a job, this often in a row, ends the sweep.
MAX_DEAD_STARTS = 3
READY = "ready"
# What such a process is told by its environment, beside its number: its connection's file descriptor, and its parent.
CONNECTION, PARENT = "SWEEPER_DIGITS_CONNECTION", "SWEEPER_DIGITS_PARENT"
SERVE = "import sys; sys.path[:] = {!r}; from sweeper_digits.sweep.local import serve; serve({!r}, {!r})"
# Where Linux counts the processes that it has killed because memory ran out.
VMSTAT = Path("/proc/vmstat")
# Packages that the parent has imported, whose errors it may read.
READ_BY_PARENT = ("builtins", "sweeper_digits", "hydra", "omegaconf", "optuna")
# The function that trains, and the module that it loads when it is called: loaded while the study is set up.
TRAIN, TRAINS_BY = ("sweeper_digits.command_line", "train"), "sweeper_digits.training.run"


@dataclass(frozen=True)
class Lost:
    """A job that gave no result: its process died, or its launcher lost it.

    Attributes:
        reason: Why, in words.
        is_tried_again: Whether another try may end otherwise; where memory ran out, it would run out again.
    """

    reason: str
    is_tried_again: bool = True


@dataclass(frozen=True)
class Job:
    """A job as it is sent to a process.

    Attributes:
        config: Its composed config.
        task: The function that it calls: module and name.
        callbacks: Hydra's.
        whitelist: What Hydra may call for a config.
    """

    config: DictConfig
    task: tuple[str, str]
    callbacks: Any
    whitelist: Any

    @classmethod
    def of(cls, launcher: Any, overrides: list[str], number: int) -> "Job":
        """Compose a job, as Hydra's launchers do."""
        config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        assert isinstance(config, DictConfig)  # noqa: S101 - it is a config
        context = launcher.hydra_context
        return cls(config, task_of(launcher.task_function), context.callbacks, context.execution_whitelist)

    def run(self) -> JobReturn:
        """Run the job in this process; whatever it raises is its result."""
        setup_globals()
        HydraConfig.instance().set_config(self.config)
        try:
            done = run_job(
                hydra_context=HydraContext(None, self.callbacks, self.whitelist),  # type: ignore[arg-type]
                task_function=getattr(importlib.import_module(self.task[0]), self.task[1]),
                config=self.config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        except BaseException as error:  # SystemExit too: the job failed, and this process goes on
            done = failed(error)
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return sendable(done)


def failed(error: BaseException) -> JobReturn:
    """Return what a job returns that failed."""
    done = JobReturn()
    done.status, done.return_value = JobStatus.FAILED, error
    return done


def task_of(function: Any) -> tuple[str, str]:
    """Return where a process of its own finds a function: module and name."""
    return function.__module__, function.__name__


def script_of(task: Any) -> str | None:
    """Return the script that this process runs, if it has the function of the jobs or components; None otherwise."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    made = {task.__module__, *(component.make.__module__ for component in components.registered())}
    return str(Path(file).resolve()) if "__main__" in made and file else None


def run_script(path: str) -> None:
    """Run the script of the parent as `__main__`, without the block that its name guards, as `multiprocessing` does."""
    main = types.ModuleType("__mp_main__")
    main.__file__ = path
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    program.is_run_again = True  # for a script without such a block
    exec(compile(Path(path).read_text(encoding="utf-8"), path, "exec"), main.__dict__)
    program.is_run_again = False


def sendable(done: JobReturn) -> JobReturn:
    """Return the status and the value of a job.

    An error becomes its text if it cannot be sent, or if the parent would import another package to read it: for one
    of TensorFlow's, for seconds.
    """
    less, result = JobReturn(), done._return_value
    less.status, less.return_value = done.status, result
    try:
        if isinstance(result, BaseException) and type(result).__module__.partition(".")[0] not in READ_BY_PARENT:
            raise TypeError
        pickle.loads(pickle.dumps(less))
    except Exception:  # a user's exception can raise anything
        less.return_value = UserError(f"{type(result).__name__}: {result}")
    return less


def kernels_kills() -> str | None:
    """Return how many processes the kernel has killed because memory ran out; None: it does not say."""
    with contextlib.suppress(OSError):
        return dict(line.split(maxsplit=1) for line in VMSTAT.read_text().splitlines()).get("oom_kill")
    return None


class LocalProcess:
    """A process that runs jobs, in a session of its own: Ctrl-C reaches its parent alone.

    Args:
        sweep: The sweep.
        task: The function of its jobs.
        environment: The variables that it has beside those of this process.
        number: Names its log.

    Attributes:
        is_ready: Whether it has loaded what it needs.
    """

    def __init__(self, sweep: Sweep, task: Any, environment: dict[str, str], number: int) -> None:
        self.log = sweep.folder / f"worker-{number}.log"
        self.number, self.is_ready = number, False
        ours, theirs = socket.socketpair()
        told = {SLOT: str(number), CONNECTION: str(theirs.fileno()), PARENT: str(os.getpid())}
        # The URL may hold a password, which the list of processes would show.
        told["OPTUNA_STORAGE"] = sweep.options.storage
        self.log.parent.mkdir(parents=True, exist_ok=True)
        preload = TRAINS_BY if task_of(task) == TRAIN else None
        code = SERVE.format(sys.path, script_of(task), preload)
        with self.log.open("ab") as output, theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                env=os.environ | environment | told,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )
        self.connection = Connection(ours.detach())
        self.kills_before = kernels_kills()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    @property
    def has_news(self) -> bool:
        """Whether it has said something, or has died."""
        return not self.is_alive or self.connection.poll()

    def send(self, job: Job) -> None:
        """Send a job; a process that is dead is found out by `receive`."""
        self.kills_before = kernels_kills()
        with contextlib.suppress(OSError):
            self.connection.send(job)

    def receive(self) -> JobReturn | None:
        """Return the result of the job, if it is there."""
        try:
            while self.connection.poll():
                message = self.connection.recv()
                if message != READY:
                    return message
                self.is_ready = True
        except (EOFError, OSError):  # it died
            self.process.wait()
        return None

    def end(self) -> Lost:
        """Return how it ended."""
        status = self.process.wait()
        if status == -signal.SIGKILL and kernels_kills() != self.kills_before:
            return Lost(described(MemoryError("the kernel killed its worker")), is_tried_again=False)
        return Lost(described_end(status))

    def last_words(self) -> str:
        """Return the last line of its log, and its status."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        last = lines[-1] if lines else "it printed nothing"
        status = self.process.wait()
        return f"worker {self.number} ended with status {status}: {last} (log: {text.relative(self.log)})"

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.connection.close()


def serve(script: str | None, preload: str | None) -> None:
    """Be such a process: take jobs and send results, until the parent is gone.

    Args:
        script: The script of the parent, if the jobs need it.
        preload: A module that the jobs will need.
    """
    parent = int(os.environ.pop(PARENT))
    connection = Connection(int(os.environ.pop(CONNECTION)))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if script:
        run_script(script)
    components.load()
    if preload:
        with quiet_import(keep_optional_imports=components.has_users()):
            importlib.import_module(preload)
    connection.send(READY)
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        connection.send(job.run())


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.3)
    os._exit(1)
