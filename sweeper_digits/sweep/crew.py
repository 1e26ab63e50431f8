"""The worker processes of one supervisor, and their cores."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from sweeper_digits import screen
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_key, override_text
from sweeper_digits.runs import process
from sweeper_digits.runs.origin import SEARCH_PATH, Origin, origin_in
from sweeper_digits.sweep import budget
from sweeper_digits.sweep.gpus import deal, visible_gpus
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.storage import interruption_requested
from sweeper_digits.sweep.trials import WORKER, trials_of
from sweeper_digits.sweep.worker import CHANGES, DISK_ERRORS, NUMBER, OTHER_DATA, SUPERVISOR, runs_elsewhere

log = logging.getLogger(__name__)

# A worker that ends without having asked for a trial, this often in a row, ends the sweep.
MAX_DEAD_STARTS = 3
STORAGE = "hydra.sweeper.storage="


class Crew:
    """The worker processes of one supervisor, each replaced when it ends.

    Args:
        sweep: The sweep that they work on.
        conf: The folder that they compose from.
        changes: How often the number of workers had been changed when the supervisor began.
    """

    def __init__(self, sweep: Sweep, conf: Path, changes: int) -> None:
        self.sweep, self.conf, self.changes = sweep, conf, changes
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.signatures: dict[int, str] = {}  # of these processes
        self.dead_starts = 0
        self.elsewhere = runs_elsewhere(sweep)
        self.visible = [] if self.elsewhere or sweep.config.device == "cpu" else visible_gpus()
        self.gpus = deal(self.visible, sweep.options)
        self._fill()

    def tend(self, queue: Queue) -> None:
        """Replace workers that have ended."""
        for number, worker in list(self.processes.items()):
            status = worker.poll()
            if status is None:
                continue
            if status in DISK_ERRORS:
                raise UserError(
                    f"{screen.relative(self.sweep.folder)}: {os.strerror(status)}; what is written is whole; once that "
                    "is mended, the same command continues"
                )
            if status == OTHER_DATA:
                raise UserError(_last_error(queue, self.signatures[number]))
            queue.reap(self.sweep.options.max_retries)
            if status != 0 and not queue.has_answered(self.signatures[number]):
                self.dead_starts += 1
                if self.dead_starts >= MAX_DEAD_STARTS:
                    log_file = self._log(number)
                    lines = [line for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
                    last = lines[-1] if lines else "it printed nothing"
                    raise UserError(
                        f"worker {number} ended with status {status}: {last} (log: {screen.relative(log_file)})"
                    )
            else:
                self.dead_starts = 0
            self._start(number)

    def resize(self, n_jobs: int, queue: Queue) -> None:
        """Have so many workers from now on; a trial of one that is too many is queued again, and continued."""
        before, self.sweep.options.n_jobs = self.sweep.options.n_jobs, n_jobs
        try:
            self.gpus = deal(self.visible, self.sweep.options)
        except UserError as error:  # no reason to end a sweep
            self.sweep.options.n_jobs = before
            log.info("warning: %s", error)
            return
        log.info("workers    %d from now on", n_jobs)
        if self.elsewhere:  # its one process reads the number from the study
            return
        for number in [number for number in self.processes if number >= n_jobs]:
            surplus = self.processes.pop(number)
            surplus.kill()
            surplus.wait()
        queue.reap(max_retries=None, reason="its worker was one too many; queued again")
        self._fill()

    def _fill(self) -> None:
        for number in range(1 if self.elsewhere else self.sweep.options.n_jobs):
            if number not in self.processes:
                self._start(number)

    def rest(self, seconds: float) -> None:
        """Wait, but no longer than until a worker has ended or a person wants to stop."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not interruption_requested.is_set():
            if any(worker.poll() is not None for worker in self.processes.values()):
                break
            time.sleep(0.1)

    def kill(self) -> None:
        """End all workers at once; their files are whole at any moment."""
        for worker in self.processes.values():
            if worker.poll() is None:
                worker.kill()
        for worker in self.processes.values():
            worker.wait()

    def _start(self, number: int) -> None:
        environment = os.environ | {NUMBER: str(number), SUPERVISOR: str(os.getpid()), CHANGES: str(self.changes)}
        if self.sweep.options.n_jobs > 1 and not self.elsewhere:
            threads = str(max(1, _cores() // self.sweep.options.n_jobs))
            names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
            environment |= {name: threads for name in names if name not in os.environ}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[number]
        elif self.sweep.config.device == "cpu" and not self.elsewhere:
            # Keras' backends start every GPU that they see, and take some of its memory. Without one, JAX needs a word.
            environment |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
        # The URL may hold a password, which the list of processes would show.
        environment["OPTUNA_STORAGE"] = self.sweep.options.storage
        replaced = (STORAGE.removesuffix("="), SEARCH_PATH)
        given = [argument for argument in sys.orig_argv[1:] if override_key(argument) not in replaced]
        command = [sys.executable, *given, *self._decided_here(), "--config-path", str(self.conf)]
        with self._log(number).open("ab") as output:
            # A session of its own: Ctrl-C reaches the supervisor alone.
            self.processes[number] = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self.signatures[number] = process.signature(self.processes[number].pid)

    def _decided_here(self) -> list[str]:
        """Return the overrides for what workers would otherwise decide anew."""
        return [
            # It may have been raised in conf/, of which the workers have the copy of the first day.
            *(f"hydra.sweeper.{key}={override_text(self.sweep.options[key])}" for key in (*budget.KEYS, "n_jobs")),
            # It may have the time in it.
            f"hydra.sweep.dir={override_text(str(self.sweep.folder))}",
            # Relative paths count from where the user stands; no file is written relative to the current folder.
            "hydra.job.chdir=false",
            STORAGE + "${oc.env:OPTUNA_STORAGE}",
            *self._folders(),
        ]

    def _folders(self) -> list[str]:
        """Return what replaces the folders that the user gave: the sweep's copy has their files."""
        origin = origin_in(self.sweep.config.hydra)
        if not origin.folders:
            return []
        packages = Origin(tuple(origin.packages)).flags() or [f"{SEARCH_PATH}=[]"]
        return ["--config-dir", str(self.conf), *packages]

    def _log(self, number: int) -> Path:
        return self.sweep.folder / f"worker-{number}.log"


def _last_error(queue: Queue, signature: str) -> str:
    """Return why the last trial of a worker that has ended could not run."""
    ours = (trial for trial in reversed(trials_of(queue.study)) if trial.user_attrs.get(WORKER) == signature)
    return str(next(trial.user_attrs["error"] for trial in ours if "error" in trial.user_attrs))


def _cores() -> int:
    """Return how many cores this process may use: a scheduler or a container may allow it only some of them."""
    from joblib import cpu_count  # only here: its parallel machinery takes time to load

    return int(cpu_count())
