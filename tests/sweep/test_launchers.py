"""Trials that Hydra's launchers run elsewhere. The trials sleep."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState

from sweeper_digits.sweep import gpus
from sweeper_digits.sweep.private import share_folder_of_jobs
from sweeper_digits.sweep.verbs import find_queue, stop_trial
from tests.sweep.conftest import LEARNING_RATE, STEADY, Sweeps, checkpoint_pid, wait_for

COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING


class Slurm:
    """A cluster of one node, this one, with its own munge."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        own = [f"--{name}-file={folder / name}" for name in ("pid", "log", "seed")]
        munged = ["munged", "--foreground", f"--key-file={key}", f"--socket={folder / 'munge'}", *own]
        with socket.socket() as one, socket.socket() as two:
            for free in (one, two):
                free.bind(("127.0.0.1", 0))
            ports = [free.getsockname()[1] for free in (one, two)]
        host = socket.gethostname().partition(".")[0]
        self.conf = folder / "slurm.conf"
        self.conf.write_text(
            f"""ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthInfo=socket={folder / "munge"}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}
SlurmdSpoolDir={folder}
SlurmctldPidFile={folder / "slurmctld.pid"}
SlurmdPidFile={folder / "slurmd.pid"}
SlurmctldLogFile={folder / "slurmctld.log"}
SlurmdLogFile={folder / "slurmd.log"}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000
PartitionName=all Nodes=ALL Default=YES OverSubscribe=FORCE:2
"""
        )
        for command in (munged, ["slurmctld", "-D", "-f", str(self.conf)], ["slurmd", "-D", "-f", str(self.conf)]):
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(server.wait)
            stack.callback(server.terminate)
            if command is munged:
                wait_for((folder / "munge").exists, 10)
        wait_for(lambda: self.ask("sinfo", "-h", "-o", "%T").strip() == "idle", 30)

    def ask(self, *command: str) -> str:
        environment = os.environ | {"SLURM_CONF": str(self.conf)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if os.getuid() or not all(map(shutil.which, ("munged", "slurmctld", "slurmd", "sbatch"))):
        pytest.skip("needs slurm-wlm and munge, and root to start them")
    folder = Path("/tmp") / f"digits-slurm-{os.getpid()}"  # a socket's path must be short
    folder.mkdir(mode=0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        yield Slurm(folder, stack)


def needs_launcher(name: str, extra: str) -> None:
    if importlib.util.find_spec(f"hydra_plugins.hydra_{name}_launcher") is None:
        pytest.skip(f"needs pip install '.[{extra}]'")


def test_a_job_runs_in_the_process_of_a_launcher_and_tells_its_study(sweeps: Sweeps) -> None:
    needs_launcher("submitit", "slurm")
    sweeps.ok(LEARNING_RATE, "epochs=2", "hydra/launcher=submitit_local", "hydra.sweeper.n_trials=1")
    (trial,) = sweeps.trials()
    metrics = sweeps.trial_folder(0).read_metrics()
    assert trial.state == COMPLETE and trial.value == metrics["objective"][0]
    assert list(trial.intermediate_values) == [0, 1]
    assert str(metrics["pid"]) != trial.user_attrs["worker"].split(":")[1]
    logs = list(sweeps.folder.glob("multirun/sweep/.submitit/*_log.out"))
    assert logs, "submitit ran it: its launcher has the name of ours, LocalLauncher"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "submitit_slurm", "ray"])
def test_launchers_run_the_trials_elsewhere_with_pruning(
    request: pytest.FixtureRequest, sweeps: Sweeps, launcher: str
) -> None:
    needs_launcher(*(("ray", "ray") if launcher == "ray" else ("submitit", "slurm")))
    if launcher == "submitit_slurm":
        sweeps.environment["SLURM_CONF"] = str(request.getfixturevalue("slurm").conf)
    sweeps.forks = False
    sweeps.trials_last(1)
    rates = (0.01, 0.012, 0.0101, 0.000101)  # when the last one begins, two of the others have ended
    points = f"[{','.join(f'{{optimizer.learning_rate:{rate}}}' for rate in rates)}]"
    sweeps.ok(
        LEARNING_RATE,
        f"search.points={points}",
        f"hydra/launcher={launcher}",
        "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.n_trials=4",
        "hydra/sweeper/pruner=median",
        "hydra.sweeper.pruner.n_startup_trials=2",
        "hydra.sweeper.pruner.n_warmup_steps=2",
        "epochs=6",
    )
    trials = sweeps.trials()
    assert [trial.state for trial in trials] == [COMPLETE, COMPLETE, COMPLETE, PRUNED]
    assert len(trials[3].intermediate_values) < 6 == len(trials[0].intermediate_values)
    assert len({trial.user_attrs["worker"] for trial in trials}) == 1  # one light process keeps all of them in flight
    assert trials[1].datetime_start < trials[0].datetime_complete


@pytest.mark.slow
def test_jobs_elsewhere_are_steered_through_the_study(sweeps: Sweeps) -> None:
    needs_launcher("submitit", "slurm")
    sweeps.trials_last(300)  # no trial ends by itself, however long the next one takes to start
    arguments = (*STEADY, LEARNING_RATE, "epochs=300", "hydra.sweeper.n_trials=9", "hydra/launcher=submitit_local")

    def running() -> list[int]:
        return [trial.number for trial in sweeps.trials() if trial.state == RUNNING and trial.intermediate_values]

    with sweeps.start(*arguments) as process:
        wait_for(lambda: sweeps.checkpoints() and running() == [0])
        queue = find_queue(sweeps.url, "sweep")
        queue.shared.change_jobs(2)
        wait_for(lambda: running() == [0, 1])
        stop_trial(queue, 0)
        wait_for(lambda: running() == [1, 2])
        assert sweeps.trials()[0].state == PRUNED
        queue.shared.change_jobs(1)
        stop_trial(queue, 1)
        wait_for(lambda: running() == [2] and sweeps.trials()[1].state == PRUNED)
        queue.shared.stop()
        assert process.wait(timeout=60) == 130
    assert {trial.state for trial in sweeps.trials()[3:]} <= {TrialState.WAITING}, "no job took the place of #1"


@pytest.mark.slow
def test_a_local_job_may_start_faster_than_its_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_launcher("submitit", "slurm")
    from submitit.local import local

    begin = local.LocalJob.__init__

    def begin_late(self: Any, **options: Any) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            options["process"].wait(2)  # it has started, and without a folder it dies
        begin(self, **options)

    monkeypatch.setattr(local.LocalJob, "__init__", begin_late)
    launcher = SimpleNamespace(_EXECUTOR="local", params={"submitit_folder": f"{tmp_path}/.submitit/%j"})
    share_folder_of_jobs(launcher)
    executor = local.LocalExecutor(launcher.params["submitit_folder"])
    assert executor.submit(int, "3").result() == 3


@pytest.mark.slow
def test_a_job_that_is_killed_on_its_node_is_run_again(slurm: Slurm, sweeps: Sweeps) -> None:
    needs_launcher("submitit", "slurm")
    sweeps.forks = False
    sweeps.environment["SLURM_CONF"] = str(slurm.conf)
    sweeps.trials_last(5)
    arguments = (*STEADY, LEARNING_RATE, "epochs=100", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1")
    with sweeps.start(*arguments, "hydra.sweeper.heartbeat_seconds=1", "hydra/launcher=submitit_slurm") as process:
        wait_for(lambda: len(sweeps.checkpoints()) == 1)
        # As when memory runs out: the kernel's kill, not scancel's, which a job is told of beforehand.
        os.kill(checkpoint_pid(sweeps.checkpoints()[0]), signal.SIGKILL)
        printed = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    assert sweeps.states() == {COMPLETE: 2, FAIL: 1}
    lost, again = sweeps.trials()[:2]
    assert lost.state == FAIL and again.params == lost.params
    assert sweeps.trial_folder(1).read_metrics()["resumed"][0] == str(sweeps.trial_folder(0).folder)


def test_the_cores_are_those_that_a_container_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert gpus._cores() == 2
