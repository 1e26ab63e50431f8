"""Sweeps over a real PostgreSQL, and through Hydra's launchers; faults on real processes."""

import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from sweeper_digits.sweep.storage import open_storage
from tests.conftest import ROOT

PASSWORD = "s3cret-w0rd"
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(p).parent for p in [shutil.which("initdb")] if p]
LEARNING_RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"
STEADY = ("patience=null", "hydra/sweeper/pruner=none")
needs_postgres = pytest.mark.skipif(not BINARIES, reason="no PostgreSQL server on this machine")


# Two ends of a cable: one here, one in a network of its own.
HERE, THERE, NETWORK = "10.213.7.1", "10.213.7.2", "10.213.7.0/30"


class Postgres:
    """A server of its own that asks for a password."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "password").write_text(PASSWORD)
        if self.as_user:
            shutil.chown(folder, "postgres")
        self.run("initdb", "-A", "scram-sha-256", "-U", "digits", f"--pwfile={folder / 'password'}")
        with (folder / "data" / "pg_hba.conf").open("a") as stream:
            stream.write(f"host all all {NETWORK} scram-sha-256\n")
        self.start()
        self.url = self.url_at("127.0.0.1")

    def url_at(self, address: str) -> str:
        return f"postgresql+psycopg://digits:{PASSWORD}@{address}:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        command = [*self.as_user, str(BINARIES[-1] / program), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60)

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=*"
        self.run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    folder = Path("/tmp") / f"digits-postgres-{os.getpid()}"  # a socket's path must be short
    folder.mkdir()
    folder.chmod(0o755)
    server = Postgres(folder)
    yield server
    server.stop()
    shutil.rmtree(folder)


class Sweep:
    """Starts one sweep in a folder, its study in PostgreSQL."""

    def __init__(self, folder: Path, tiny: list[str], server: Postgres | None, name: str) -> None:
        self.folder, self.server, self.name = folder, server, name
        self.command = [sys.executable, str(ROOT / "train.py"), "-m", *tiny, f"study={name}"]
        self.environment = os.environ | ({"OPTUNA_STORAGE": server.url} if server else {})
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.command, *overrides],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def ok(self, *overrides: str) -> str:
        with self.start(*overrides) as process:
            out, _ = process.communicate(timeout=240)
        assert process.returncode == 0, out
        return out

    @functools.cached_property
    def storage(self) -> optuna.storages.RDBStorage:
        url = self.server.url if self.server else f"sqlite:///{self.folder}/multirun/optuna.db"
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})

    def study(self) -> optuna.Study:
        return optuna.load_study(study_name=self.name, storage=self.storage)

    def states(self) -> dict[str, int]:
        return dict(Counter(trial.state.name for trial in self.study().trials))

    def checkpoints(self) -> int:
        return len(list(self.folder.glob(f"multirun/{self.name}/*/checkpoint.npz")))


def wait_for(happened: Callable[[], bool], seconds: float = 90, seen: Callable[[], object] = str) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"waited too long {seen()}"
        time.sleep(0.2)


@pytest.fixture
def sweep_of(tmp_path: Path, tiny: list[str]) -> Iterator[Callable[..., Sweep]]:
    """Make a sweep in the test's folder; its connections are closed afterwards."""
    made: list[Sweep] = []

    def make(server: Postgres | None, name: str) -> Sweep:
        made.append(Sweep(tmp_path, tiny, server, name))
        return made[-1]

    yield make
    for sweep in made:
        if "storage" in vars(sweep):
            sweep.storage.remove_session()
            sweep.storage.engine.dispose()


@needs_postgres
def test_two_supervisors_share_a_study_and_the_password_stays_out_of_all_files(
    postgres: Postgres, tmp_path: Path, sweep_of: Callable[..., Sweep]
) -> None:
    sweep = sweep_of(postgres, "shared")
    arguments = (LEARNING_RATE, "epochs=1", "hydra.sweeper.n_trials=6")
    with sweep.start(*arguments) as first, sweep.start(*arguments) as second:
        printed = [process.communicate(timeout=200)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), printed
    states = sweep.states()
    assert states.pop("COMPLETE") == 6 and set(states) <= {"WAITING"}
    drawn = [trial.params["optimizer.learning_rate"] for trial in sweep.study().trials if trial.value is not None]
    assert len(set(drawn)) == 6
    assert PASSWORD not in "".join(printed)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path


@needs_postgres
def test_many_that_begin_at_once_queue_each_point_once(postgres: Postgres, sweep_of: Callable[..., Sweep]) -> None:
    sweep = sweep_of(postgres, "at_once")
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(sweep.start("seed=1,2,3", "model.dropout=0,0.1", "epochs=1")) for _ in range(3)]
        outputs = [process.communicate(timeout=200)[0] for process in many]
    assert [process.returncode for process in many] == [0, 0, 0], outputs
    points = [tuple(sorted(trial.params.items())) for trial in sweep.study().trials]
    assert len(points) == len(set(points)) == 6 and sweep.states() == {"COMPLETE": 6}


@needs_postgres
def test_a_wrong_password_is_one_line_without_it(
    postgres: Postgres, tmp_path: Path, sweep_of: Callable[..., Sweep]
) -> None:
    sweep = sweep_of(postgres, "wrong")
    sweep.environment["OPTUNA_STORAGE"] = postgres.url.replace(PASSWORD, "n0t-this-one")
    with sweep.start("seed=1,2") as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and out.startswith("error: hydra.sweeper.storage: the study cannot be opened")
    assert out.count("\n") == 1 and "n0t-this-one" not in out and "password authentication failed" in out


@needs_postgres
def test_a_restarted_database_is_waited_for(postgres: Postgres, tmp_path: Path, sweep_of: Callable[..., Sweep]) -> None:
    sweep = sweep_of(postgres, "restarted")
    arguments = (*STEADY, LEARNING_RATE, "epochs=100", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2")
    with sweep.start(*arguments) as process:
        wait_for(lambda: sweep.checkpoints() == 2)
        postgres.stop()
        time.sleep(4)
        postgres.start()
        out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    assert sweep.states() == {"COMPLETE": 3}
    assert all(len(trial.intermediate_values) == 100 for trial in sweep.study().trials)


@needs_postgres
def test_a_frozen_worker_comes_too_late(postgres: Postgres, tmp_path: Path, sweep_of: Callable[..., Sweep]) -> None:
    sweep = sweep_of(postgres, "frozen")
    arguments = (*STEADY, LEARNING_RATE, "epochs=100", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2")
    with sweep.start(*arguments, "hydra.sweeper.heartbeat_seconds=1") as process:
        wait_for(lambda: sweep.checkpoints() == 2)
        frozen = psutil.Process(process.pid).children()[0]
        frozen.send_signal(signal.SIGSTOP)
        wait_for(lambda: sweep.states().get("FAIL", 0) == 1, 60, seen=sweep.states)
        (late,) = [trial for trial in sweep.study().trials if trial.state == TrialState.FAIL]
        assert late.user_attrs["worker"].split(":")[1] == str(frozen.pid)
        frozen.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    assert sweep.states() == {"COMPLETE": 3, "FAIL": 1}
    trials = sweep.study().trials
    assert trials[late.number].state == TrialState.FAIL and trials[late.number].value is None
    (retried,) = [trial for trial in trials if trial.system_attrs.get("retry_history")]
    assert retried.params == late.params and retried.state == TrialState.COMPLETE


@needs_postgres
def test_a_lock_of_a_process_that_stands_still_is_given_up(postgres: Postgres) -> None:
    still, alive = (open_storage(postgres.url, 1, lambda study, trial: None) for _ in range(2))
    with contextlib.ExitStack() as stack:
        for storage in (still, alive):
            stack.callback(storage.engine.dispose)
        study = still.create_new_study([optuna.study.StudyDirection.MINIMIZE], "locked")
        trial = still.create_new_trial(study)
        # As an inserted intermediate value does, until it is committed.
        still.scoped_session().execute(text(f"SELECT 1 FROM trials WHERE trial_id = {trial} FOR KEY SHARE"))
        fail = threading.Thread(target=alive.set_trial_state_values, args=(trial, TrialState.FAIL), daemon=True)
        fail.start()
        fail.join(20)
        assert not fail.is_alive() and alive.get_trial(trial).state == TrialState.FAIL
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):  # its connection is gone; it takes another
            still.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])


@pytest.fixture
def cable() -> Iterator["Cable"]:
    with contextlib.ExitStack() as stack:
        yield Cable(stack)


class Cable:
    """A network namespace, joined to this one by a pair of virtual interfaces."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        name = f"digits{os.getpid()}"
        self.inside = ["ip", "netns", "exec", name]
        try:
            self.ip("netns", "add", name)
            stack.callback(self.ip, "netns", "del", name)  # takes both interfaces with it
            self.ip("link", "add", "digits0", "type", "veth", "peer", "name", "digits1", "netns", name)
            self.ip("addr", "add", f"{HERE}/30", "dev", "digits0")
            self.ip("-n", name, "addr", "add", f"{THERE}/30", "dev", "digits1")
            self.ip("-n", name, "link", "set", "digits1", "up")
            self.ip("-n", name, "link", "set", "lo", "up")
            self.plug("up")
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("needs iproute2 and the right to make a network namespace")

    def ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    def plug(self, state: str) -> None:
        self.ip("link", "set", "digits0", state)


@needs_postgres
def test_a_machine_that_is_cut_off_loses_its_trial_and_joins_again(
    postgres: Postgres, cable: Cable, sweep_of: Callable[..., Sweep]
) -> None:
    sweep = sweep_of(postgres, "cut")
    arguments = (*STEADY, LEARNING_RATE, "epochs=150", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1")
    arguments += ("hydra.sweeper.heartbeat_seconds=1",)
    there = sweep_of(postgres, "cut")
    there.command = [*cable.inside, *there.command]
    there.environment["OPTUNA_STORAGE"] = postgres.url_at(HERE)
    with there.start(*arguments) as far, sweep.start(*arguments) as near:
        wait_for(lambda: sweep.checkpoints() == 2)
        cable.plug("down")
        wait_for(lambda: sweep.states().get("FAIL", 0) == 1, 60, seen=sweep.states)
        cable.plug("up")
        outputs = [process.communicate(timeout=200)[0] for process in (near, far)]
    assert (near.returncode, far.returncode) == (0, 0), outputs
    states = sweep.states()
    states.pop("WAITING", None)
    assert states == {"COMPLETE": 3, "FAIL": 1}
    (lost,) = [trial for trial in sweep.study().trials if trial.state == TrialState.FAIL]
    (retried,) = [trial for trial in sweep.study().trials if trial.system_attrs.get("retry_history")]
    assert lost.value is None and retried.params == lost.params and retried.state == TrialState.COMPLETE


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


@pytest.mark.parametrize("launcher", ["submitit_local", "submitit_slurm", "ray"])
def test_launchers_run_the_trials_elsewhere_with_pruning(
    request: pytest.FixtureRequest, sweep_of: Callable[..., Sweep], launcher: str
) -> None:
    needs_launcher(*(("ray", "ray") if launcher == "ray" else ("submitit", "slurm")))
    sweep = sweep_of(None, "elsewhere")
    if launcher == "submitit_slurm":
        sweep.environment["SLURM_CONF"] = str(request.getfixturevalue("slurm").conf)
    points = "[{optimizer.learning_rate:0.01},{optimizer.learning_rate:0.012},{optimizer.learning_rate:0.000101}]"
    sweep.ok(
        LEARNING_RATE,
        f"search.points={points}",
        f"hydra/launcher={launcher}",
        "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.pruner.n_startup_trials=2",
        "hydra.sweeper.pruner.n_warmup_steps=2",
        "epochs=6",
        "schedule=constant",
    )
    study = sweep.study()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert len(study.trials[2].intermediate_values) < 6 == len(study.trials[0].intermediate_values)
    workers = {trial.user_attrs["worker"] for trial in study.trials}
    assert len(workers) == 1  # one light process keeps all of them in flight
    first, second = study.trials[:2]
    assert second.datetime_start < first.datetime_complete


def test_a_job_that_is_killed_on_its_node_is_run_again(slurm: Slurm, sweep_of: Callable[..., Sweep]) -> None:
    needs_launcher("submitit", "slurm")
    sweep = sweep_of(None, "killed")
    sweep.environment["SLURM_CONF"] = str(slurm.conf)
    arguments = (*STEADY, LEARNING_RATE, "epochs=100", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1")
    arguments += ("hydra.sweeper.heartbeat_seconds=1", "hydra/launcher=submitit_slurm")
    with sweep.start(*arguments) as process:
        wait_for(lambda: sweep.checkpoints() == 1)
        # As when memory runs out: the kernel's kill, not scancel's, which a job is told of beforehand.
        for job in psutil.process_iter(["cmdline"]):
            if "submitit.core._submit" in (words := job.info["cmdline"] or []) and str(sweep.folder) in words[-1]:
                job.kill()
        out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    assert sweep.states() == {"COMPLETE": 2, "FAIL": 1}
    lost, again = sweep.study().trials[:2]
    assert lost.state == TrialState.FAIL and again.params == lost.params
    assert "resumed" in (sweep.folder / "multirun/killed/1/train.log").read_text()


def test_workers_are_dealt_over_the_gpus(tmp_path: Path, sweep_of: Callable[..., Sweep]) -> None:
    sweep = sweep_of(None, "gpus")
    sweep.environment["CUDA_VISIBLE_DEVICES"] = "4,7"  # named, not there: only what workers are given counts
    arguments = (*STEADY, LEARNING_RATE, "epochs=40", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=3")
    with sweep.start(*arguments, "hydra.sweeper.workers_per_gpu=1") as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out.splitlines()[-1].startswith("error: hydra.sweeper.n_jobs=3: 2 GPU(s) take 2 workers")
    with sweep.start(*arguments, "hydra.sweeper.workers_per_gpu=2") as process:
        wait_for(lambda: len(psutil.Process(process.pid).children()) == 3)
        children = psutil.Process(process.pid).children()
        wait_for(lambda: all("SWEEPER_DIGITS_WORKER" in child.environ() for child in children))
        given = {c.environ()["SWEEPER_DIGITS_WORKER"]: c.environ()["CUDA_VISIBLE_DEVICES"] for c in children}
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert given == {"0": "4", "1": "7", "2": "4"}
