"""Workers that share GPUs which are not there: only what workers are given counts. The trials sleep."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from sweeper_digits.errors import UserError
from sweeper_digits.sweep import gpus
from sweeper_digits.sweep.verbs import find_queue
from tests.sweep.conftest import LEARNING_RATE, STEADY, Program, Sweeps, wait_for, workers_of

Smi = Callable[[str], None]
# What nvidia-smi -L prints, of driver 550: the second GPU is divided into two MIG devices.
LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-b6e4b0a1-3c2f-4f5e-8f0a-6f4b4d3c2b1a)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 3g.20gb     Device  1: (UUID: MIG-0b4c4b6e-6f0e-5c8d-9a53-2f7d0a1b9c8e)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0)
"""
MIG = ["MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-0b4c4b6e-6f0e-5c8d-9a53-2f7d0a1b9c8e"]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    """Put an nvidia-smi before all others: a script that does this when it is asked for the list."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def install(script: str) -> None:
        program = folder / "nvidia-smi"
        program.write_text(f'#!/bin/sh\n[ "$*" = -L ] || exit 99\n{script}\n')
        program.chmod(0o755)

    return install


def lists(text: str) -> str:
    return f"cat <<'EOF'\n{text}EOF"


NAMED: list[tuple[str, list[str]]] = [
    ("4,7", ["4", "7"]),
    ("4, 7", ["4", "7"]),
    ("GPU-5d5ba0d6,GPU-0f1e", ["GPU-5d5ba0d6", "GPU-0f1e"]),
    ("MIG-c6d4f1ef-42e4,MIG-GPU-5d5ba0d6/1/0", ["MIG-c6d4f1ef-42e4", "MIG-GPU-5d5ba0d6/1/0"]),
    ("1,1", ["1"]),  # one GPU, however often it is named
    ("0,-1,1", ["0"]),  # CUDA sees none after the first that is none
    ("-1", []),
    ("", []),
    ("NoDevFiles", []),  # what SLURM gives to a job without GPUs
]


def test_the_gpus_are_those_that_cuda_would_see(smi: Smi, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(lists(LISTED))
    for named, given in NAMED:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert gpus.visible_gpus() == given, named


def test_all_gpus_are_dealt_out_if_none_is_named(smi: Smi) -> None:
    smi(lists(LISTED))
    assert gpus.visible_gpus() == ["0", *MIG, "2"]
    smi("exit 0")
    assert gpus.visible_gpus() == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'NVIDIA-SMI has failed: no driver'; exit 9", "failed with status 9 (NVIDIA-SMI has failed: no driver)"),
        ("kill -SEGV $$", "failed with status -11"),
        ("exec sleep 60", "did not answer within 0.3 s"),
    ],
)
def test_an_nvidia_smi_that_is_broken_costs_a_line(
    smi: Smi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, script: str, said: str
) -> None:
    if "sleep" in script:  # the others need not answer so soon on a busy machine
        monkeypatch.setattr(gpus, "PATIENCE", 0.3)
    smi(script)
    with caplog.at_level("INFO"):
        assert gpus.visible_gpus() == []
    hint = "no GPU is dealt out; CUDA_VISIBLE_DEVICES=0,1 names them without it"
    assert caplog.messages == [f"warning: nvidia-smi {said}; {hint}"]


def test_a_machine_without_nvidia_smi_has_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level("INFO"):
        assert gpus.visible_gpus() == []
    assert caplog.messages == []


def given_to(worker: psutil.Process) -> tuple[str, str | None]:
    """A worker's number and GPU; right after its fork it still has its supervisor's environment."""
    wait_for(lambda: "SWEEPER_DIGITS_SLOT" in worker.environ())
    environment = worker.environ()
    return environment["SWEEPER_DIGITS_SLOT"], environment.get("CUDA_VISIBLE_DEVICES")


def end(process: Program) -> str:
    """Stop a sweep; return what it says to that."""
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=60)[0]


def test_workers_are_dealt_over_the_gpus(smi: Smi, sweeps: Sweeps) -> None:
    smi(lists(LISTED))
    sweeps.forks = False  # what a worker was started with is looked at
    sweeps.environment = os.environ | {"PYTHONPATH": sweeps.environment["PYTHONPATH"]}
    sweeps.trials_last(100)
    with pytest.raises(UserError, match=r"^hydra\.sweeper\.n_jobs=5: 4 GPUs can have 4 workers"):
        gpus.deal(gpus.visible_gpus(), SimpleNamespace(n_jobs=5, workers_per_gpu=1))
    arguments = (*STEADY, LEARNING_RATE, "hydra.sweeper.n_trials=9", "hydra.sweeper.n_jobs=5")
    with sweeps.start(*arguments) as process:
        given = dict(map(given_to, workers_of(process, 5)))
        end(process)
    assert given == {"0": "0", "1": MIG[0], "2": MIG[1], "3": "2", "4": "0"}


def test_a_sweep_on_the_cpu_asks_for_no_gpu_and_its_workers_see_none(smi: Smi, sweeps: Sweeps) -> None:
    smi("exit 9")
    sweeps.forks = False
    sweeps.environment = os.environ | {"PYTHONPATH": sweeps.environment["PYTHONPATH"]}
    sweeps.trials_last(100)
    limits = ("hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", "hydra.sweeper.workers_per_gpu=1")
    with sweeps.start(*STEADY, LEARNING_RATE, "device=cpu", *limits) as process:
        given = dict(map(given_to, workers_of(process, 2)))
        assert all(worker.environ()["JAX_PLATFORMS"] == "cpu" for worker in workers_of(process, 2))
        said = end(process)
    assert given == {"0": "-1", "1": "-1"} and "nvidia-smi" not in said


def test_a_sweep_that_runs_gets_no_more_workers_than_its_gpus_can_have(sweeps: Sweeps) -> None:
    sweeps.environment["CUDA_VISIBLE_DEVICES"] = "4,7"
    sweeps.trials_last(100)
    limits = ("hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=3", "hydra.sweeper.workers_per_gpu=2")
    with sweeps.start(*STEADY, LEARNING_RATE, *limits) as process:
        workers_of(process, 3)
        find_queue(sweeps.url, "sweep").shared.change_jobs(5)
        assert process.stdout
        while (said := process.stdout.readline()) and not said.startswith("warning: "):
            pass
        assert said.startswith("warning: hydra.sweeper.n_jobs=5: 2 GPUs can have 4 workers")
        assert len(workers_of(process)) == 3
        end(process)
