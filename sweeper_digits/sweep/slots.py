"""The slots of a sweep: where its jobs run. A warm process for each on this machine, a launcher elsewhere, or here."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, Protocol

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from sweeper_digits.config import LOCAL_LAUNCHER
from sweeper_digits.errors import UserError
from sweeper_digits.sweep import job
from sweeper_digits.sweep.ending import described
from sweeper_digits.sweep.gpus import deal, environment, visible_gpus
from sweeper_digits.sweep.local import MAX_DEAD_STARTS, Job, LocalProcess, Lost, failed
from sweeper_digits.sweep.private import share_folder_of_jobs, start_ray
from sweeper_digits.sweep.record import OUT_OF_MEMORY
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.storage import interruption_requested

log = logging.getLogger(__name__)


class Slot(Protocol):
    """A place for one job at a time.

    Attributes:
        is_ready: Whether it can take a job, if it has none.
        has_ended: Whether `poll` has something to say.
    """

    @property
    def is_ready(self) -> bool: ...

    @property
    def has_ended(self) -> bool: ...

    def launch(self, overrides: list[str], number: int) -> None:
        """Start the job of a trial."""

    def poll(self) -> JobReturn | Lost | None:
        """Return how the job ended, once; None: it has not, or there is none."""

    def kill(self) -> None:
        """End the job at once, with its process."""


class Slots:
    """All slots of one process.

    Args:
        sweep: The sweep.
        launcher: `local` has a process for each slot, `basic` runs jobs in this one, others run them elsewhere.
    """

    def __init__(self, sweep: Sweep, launcher: Any) -> None:
        self.sweep, self.launcher = sweep, launcher
        self.stderr: int | None = None  # a copy of the file descriptor, while fd 2 is the log's
        kind = type(launcher)  # with its module: submitit has a LocalLauncher too
        self.is_local = f"{kind.__module__}.{kind.__qualname__}" == LOCAL_LAUNCHER
        self.is_here = kind is BasicLauncher
        if not self.is_local and not self.is_here:
            self._log_what_launchers_print()
            if hasattr(launcher, "ray_cfg"):  # its threads would each start a cluster
                start_ray(launcher.ray_cfg.init)
            share_folder_of_jobs(launcher)
        self.visible = visible_gpus() if self.is_local and sweep.config.device != "cpu" else []
        self.slots: dict[int, Slot] = {}
        self.busy: set[int] = set()
        self.resize(sweep.options.n_jobs)

    def _log_what_launchers_print(self) -> None:
        """Send the lines of launchers and schedulers to a log, until `kill`: each job would have some on the screen."""
        logging.getLogger("hydra_plugins").setLevel(logging.WARNING)
        self.sweep.folder.mkdir(parents=True, exist_ok=True)
        sys.stderr.flush()
        self.stderr = os.dup(2)
        with (self.sweep.folder / "worker-0.log").open("ab") as log_file:
            os.dup2(log_file.fileno(), 2)

    def resize(self, n_jobs: int) -> list[int]:
        """Have so many slots from now on; return those that are gone, whose jobs were ended.

        A job elsewhere ends as it would have, since it may have waited for hours; its slot takes no other one.
        """
        before, self.sweep.options.n_jobs = self.sweep.options.n_jobs, n_jobs
        try:
            gpus = deal(self.visible, self.sweep.options)
        except UserError as error:
            if not self.slots:
                raise
            self.sweep.options.n_jobs = before  # no reason to end a sweep that runs
            log.info("warning: %s", error)
            return []
        if self.slots and n_jobs != before:
            log.info("workers    %d from now on", n_jobs)
        surplus = [number for number in self.slots if number >= n_jobs] if self.is_local else []
        for number in surplus:
            self.slots.pop(number).kill()
            self.busy.discard(number)
        for number in range(1 if self.is_here else n_jobs):
            if number not in self.slots:
                self.slots[number] = self._slot(number, gpus)
        return surplus

    def idle(self) -> list[int]:
        """Return the slots that can take a job now."""
        n_jobs = self.sweep.options.n_jobs
        free = ((number, slot) for number, slot in self.slots.items() if number < n_jobs and number not in self.busy)
        return [number for number, slot in free if slot.is_ready]

    def launch(self, slot: int, overrides: list[str], number: int) -> None:
        """Start the job of a trial in an idle slot."""
        self.busy.add(slot)
        self.slots[slot].launch(overrides, number)

    def ended(self) -> Iterator[tuple[int, JobReturn | Lost]]:
        """Yield the slots whose jobs have ended, with how; they are idle then."""
        for number, slot in list(self.slots.items()):
            if (ended := slot.poll()) is not None:
                self.busy.discard(number)
                yield number, ended

    def free(self, slot: int) -> None:
        """End the job of a slot, which is idle then."""
        self.slots[slot].kill()
        self.busy.discard(slot)

    def rest(self, seconds: float) -> None:
        """Wait, but no longer than until a job has ended or a person wants to stop."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not interruption_requested.is_set():
            if any(slot.has_ended for slot in self.slots.values()):
                break
            time.sleep(0.05)

    def kill(self) -> None:
        """End all jobs at once; their files are whole at any moment."""
        for slot in self.slots.values():
            slot.kill()
        self.busy.clear()
        if self.stderr is not None:
            sys.stderr.flush()
            os.dup2(self.stderr, 2)
            os.close(self.stderr)
            self.stderr = None

    def _slot(self, number: int, gpus: list[str]) -> Slot:
        if self.is_local:
            return LocalSlot(self, number, gpus[number] if gpus else None)
        return HereSlot(self.launcher) if self.is_here else RemoteSlot(self.launcher)


class LocalSlot:
    """A warm process on this machine, which is replaced when it dies.

    Args:
        slots: All slots.
        number: Of this one.
        gpu: The id of its GPU; None: it has none of its own.
    """

    def __init__(self, slots: Slots, number: int, gpu: str | None) -> None:
        self.slots, self.number, self.gpu = slots, number, gpu
        self.has_job, self.dead_starts = False, 0
        self.process = self._start()

    def _start(self) -> LocalProcess:
        sweep = self.slots.sweep
        variables = environment(sweep.options, sweep.config.device, self.gpu)
        asked_for: Any = OmegaConf.to_container(sweep.config.hydra.job.env_set, resolve=True)
        variables |= {str(name): str(value) for name, value in asked_for.items()}  # Keras reads some as it loads
        return LocalProcess(sweep, self.slots.launcher.task_function, variables, self.number)

    @property
    def is_ready(self) -> bool:
        return self.process.is_ready

    @property
    def has_ended(self) -> bool:
        return self.process.has_news

    def launch(self, overrides: list[str], number: int) -> None:
        """Compose the job here, and send it."""
        self.has_job = True
        self.process.send(Job.of(self.slots.launcher, overrides, number))

    def poll(self) -> JobReturn | Lost | None:
        """Return how the job ended, once.

        Raises:
            UserError: The process died several times before it could take a job.
        """
        if (found := self.process.receive()) is not None:
            self.has_job = False
            if found.status == JobStatus.FAILED and OUT_OF_MEMORY.search(described(found._return_value)):
                self.process.kill()  # it may hold what the next job needs
                self.process = self._start()
            return found
        if self.process.is_alive:
            return None
        end, had_job = self.process.end(), self.has_job
        self.dead_starts = 0 if self.process.is_ready else self.dead_starts + 1
        if self.dead_starts >= MAX_DEAD_STARTS:
            raise UserError(self.process.last_words())
        self.has_job, self.process = False, self._start()
        return end if had_job else None

    def kill(self) -> None:
        """End the process; `poll` starts another."""
        self.process.kill()
        self.has_job = False


class HereSlot:
    """This process: one job after the other, so that a debugger works."""

    is_ready = True

    def __init__(self, launcher: Any) -> None:
        self.launcher = launcher
        self.ended: JobReturn | None = None

    @property
    def has_ended(self) -> bool:
        return self.ended is not None

    def launch(self, overrides: list[str], number: int) -> None:
        """Run the job to its end."""
        job.is_alone = False
        logging.getLogger(BasicLauncher.__module__).setLevel(logging.WARNING)  # it would announce each job
        try:
            (self.ended,) = self.launcher.launch([overrides], initial_job_idx=number)
        except (SystemExit, KeyboardInterrupt) as end:
            self.ended = failed(end)
        finally:
            job.is_alone = True

    def poll(self) -> JobReturn | None:
        """Return how the job ended, once."""
        ended, self.ended = self.ended, None
        return ended

    def kill(self) -> None:
        """Do nothing: there is no job while the loop acts."""


class RemoteSlot:
    """A thread that waits for a job of a launcher such as submitit, Ray or joblib."""

    is_ready = True

    def __init__(self, launcher: Any) -> None:
        self.launcher = launcher
        self.job: Future[Any] | None = None

    @property
    def has_ended(self) -> bool:
        return self.job is not None and self.job.done()

    def launch(self, overrides: list[str], number: int) -> None:
        """Hand the job to the launcher."""
        job: Future[Any] = Future()

        def run() -> None:
            try:
                (done,) = self.launcher.launch([overrides], initial_job_idx=number)
                job.set_result(done)
            except BaseException as error:  # the scheduler's: the job was killed, or its node died
                said = described(error)
                job.set_result(Lost(said, is_tried_again=not OUT_OF_MEMORY.search(said)))

        self.job = job
        threading.Thread(target=run, daemon=True).start()  # not of an executor, which would be waited for at the end

    def poll(self) -> JobReturn | Lost | None:
        """Return how the job ended, once."""
        if self.job is None or not self.job.done():
            return None
        ended: JobReturn | Lost = self.job.result()
        self.job = None
        return ended

    def kill(self) -> None:
        """Leave the job to itself: it ends when it sees that its trial has ended."""
        self.job = None
