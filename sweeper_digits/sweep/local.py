"""Workers on this machine: their processes, their cores and their GPUs."""

import functools
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sweeper_digits import text
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_key, override_text
from sweeper_digits.runs import process
from sweeper_digits.runs.origin import SEARCH_PATH, Origin, origin_in
from sweeper_digits.sweep import budget
from sweeper_digits.sweep.ending import Limits, described_end, tell_from_folder
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.record import TrialRecord, trials_of
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.storage import interruption_requested
from sweeper_digits.sweep.worker import CHANGES, DISK_ERRORS, NUMBER, OTHER_DATA, SUPERVISOR, runs_elsewhere
from sweeper_digits.text import counted

log = logging.getLogger(__name__)
PATIENCE = 10.0  # seconds; with a broken driver, nvidia-smi may hang


def deal(gpus: list[str], options: Any) -> list[str]:
    """Return the GPU of each worker, dealt out in turn; nothing where there are none.

    Raises:
        UserError: More workers than `workers_per_gpu` lets share the GPUs.
    """
    most = options.workers_per_gpu
    if gpus and most is not None and options.n_jobs > most * len(gpus):
        room = f"{counted(len(gpus), 'GPU')} can have {counted(most * len(gpus), 'worker')}"
        raise UserError(
            f"hydra.sweeper.n_jobs={options.n_jobs}: {room} with hydra.sweeper.workers_per_gpu={most}; ask for fewer, "
            "or let more share a GPU"
        )
    return [gpus[number % len(gpus)] for number in range(options.n_jobs)] if gpus else []


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs to deal out, each once: those that CUDA_VISIBLE_DEVICES names, or all.

    An id is an index, or the UUID of a GPU or of a MIG device.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return _installed() if named is None else list(dict.fromkeys(_named(named)))


def _named(text: str) -> list[str]:
    """Read CUDA_VISIBLE_DEVICES as CUDA does: what follows the first name that is none is not visible.

    Source: https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables
    """
    names = []
    for name in text.split(","):
        if not re.fullmatch(r"\d+|(GPU|MIG)-\S+", name.strip()):
            break
        names.append(name.strip())
    return names


def _installed() -> list[str]:
    """Return what nvidia-smi lists; a GPU that is divided into MIG devices counts as these."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, errors="replace", timeout=PATIENCE)
    except OSError:  # no driver, no GPU
        return []
    except subprocess.TimeoutExpired:
        return _none(f"nvidia-smi did not answer within {PATIENCE:g} s")
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        return _none(f"nvidia-smi failed with status {done.returncode}{f' ({said[0]})' if said else ''}")
    gpus: list[tuple[str, list[str]]] = []
    for line in done.stdout.splitlines():
        if gpu := re.match(r"GPU (\d+):", line):
            gpus.append((gpu[1], []))
        elif gpus and (device := re.match(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)", line)):
            gpus[-1][1].append(device[1])
    return [one for index, devices in gpus for one in devices or [index]]


def _none(cause: str) -> list[str]:
    """Say why no GPU is dealt out."""
    log.info("warning: %s; no GPU is dealt out; CUDA_VISIBLE_DEVICES=0,1 names them without it", cause)
    return []


# A worker that ends without having asked for a trial, this often in a row, ends the sweep.
MAX_DEAD_STARTS = 3
STORAGE = "hydra.sweeper.storage="


class LocalWorkers:
    """The worker processes of one supervisor, each replaced when it ends.

    Args:
        sweep: The sweep that they work on.
        queue: The queue of its study.
        conf: The folder that they compose from.
        changes: How often the number of workers had been changed when the supervisor began.
    """

    def __init__(self, sweep: Sweep, queue: Queue, conf: Path, changes: int) -> None:
        self.sweep, self.conf, self.changes = sweep, conf, changes
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.signatures: dict[int, str] = {}  # of these processes
        self.dead_starts = 0
        self.elsewhere = runs_elsewhere(sweep)
        self.visible = [] if self.elsewhere or sweep.config.device == "cpu" else visible_gpus()
        self.gpus = deal(self.visible, sweep.options)
        self.limits = Limits(queue, sweep)
        self._fill()

    def tend(self, queue: Queue) -> None:
        for number, worker in list(self.processes.items()):
            status = worker.poll()
            if status is None:
                continue
            if status in DISK_ERRORS:
                raise UserError(
                    f"{text.relative(self.sweep.folder)}: {os.strerror(status)}; what is written is whole; once that "
                    "is mended, the same command continues"
                )
            if status == OTHER_DATA:
                raise UserError(_last_error(queue, self.signatures[number]))
            self._reap(queue, {self.signatures[number]: described_end(status)})
            if status != 0 and not queue.has_answered(self.signatures[number]):
                self.dead_starts += 1
                if self.dead_starts >= MAX_DEAD_STARTS:
                    log_file = self._log(number)
                    lines = [line for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
                    last = lines[-1] if lines else "it printed nothing"
                    raise UserError(
                        f"worker {number} ended with status {status}: {last} (log: {text.relative(log_file)})"
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

    def end_overdue(self, queue: Queue) -> None:
        """End the trials that a person stopped, or whose time is over, with the workers that do not end them."""
        for trial in self.limits.overdue():
            signature = TrialRecord(trial).worker
            for number in [number for number, known in self.signatures.items() if known == signature]:
                if not self.elsewhere:
                    self.processes[number].kill()
                    self.processes[number].wait()
                    self._start(number)

    def _reap(self, queue: Queue, reasons: dict[str, str]) -> None:
        told = functools.partial(tell_from_folder, queue, self.sweep)
        queue.reap(self.sweep.options.max_retries, has_told=told, reasons=reasons)

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
        self.signatures[number] = process.identity(self.processes[number].pid)

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
    records = (TrialRecord(trial) for trial in reversed(trials_of(queue.study)))
    return str(next(record.error for record in records if record.worker == signature and record.error))


def _cores() -> int:
    """Return how many cores this process may use: a scheduler or a container may allow it only some of them."""
    from joblib import cpu_count  # only here: its parallel machinery takes time to load

    return int(cpu_count())
