"""The GPUs of this machine, dealt out to jobs, and the environment of a job's process."""

import logging
import os
import re
import subprocess
from typing import Any

from sweeper_digits.errors import UserError
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


def environment(options: Any, device: str, gpu: str | None) -> dict[str, str]:
    """Return the variables of a process that runs jobs: its GPU, and its share of the cores unless the user has set it.

    Args:
        options: hydra.sweeper.
        device: `device` of the config.
        gpu: The id of its GPU; None: it has none of its own.
    """
    found: dict[str, str] = {}
    if options.n_jobs > 1:
        share = str(max(1, _cores() // options.n_jobs))
        names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
        found |= {name: share for name in names if name not in os.environ}
    if gpu is not None:
        found["CUDA_VISIBLE_DEVICES"] = gpu
    elif device == "cpu":
        # Keras' backends start every GPU that they see, and take some of its memory. Without one, JAX needs a word.
        found |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    return found


def _cores() -> int:
    """Return how many cores this process may use: a scheduler or a container may allow it only some of them."""
    from joblib import cpu_count  # only here: its parallel machinery takes time to load

    return int(cpu_count())
