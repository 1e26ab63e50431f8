"""Sweeps over a real PostgreSQL that is restarted, cut off, or asked by frozen processes. The trials sleep."""

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from sweeper_digits.sweep.record import TrialRecord, with_point
from sweeper_digits.sweep.show import StudyReader
from sweeper_digits.sweep.storage import open_storage
from sweeper_digits.sweep.verbs import find_queue, queue_point, stop_trial
from tests.sweep.conftest import LEARNING_RATE, STEADY, Sweeps, wait_for, workers_of

COMPLETE, FAIL, WAITING = TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING
PASSWORD = "s3cret-w0rd"
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(p).parent for p in [shutil.which("initdb")] if p]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BINARIES, reason="no PostgreSQL server on this machine"),
]


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
            stream.write("host all all samenet scram-sha-256\n")
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


@pytest.fixture
def shared(postgres: Postgres, sweeps_of: Callable[..., Sweeps], request: pytest.FixtureRequest) -> Sweeps:
    """Sweeps on the server; the study has the test's name."""
    return sweeps_of(defaults=[f"study={request.node.name}"], storage=postgres.url)


def test_two_supervisors_share_a_study_and_the_password_stays_out_of_all_files(
    shared: Sweeps, request: pytest.FixtureRequest
) -> None:
    shared.trials_last(0.5)
    arguments = (*STEADY, LEARNING_RATE, "hydra.sweeper.n_trials=6")
    with shared.start(*arguments) as first, shared.start(*arguments) as second:
        printed = ["".join(process.communicate(timeout=200)) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), printed
    states = shared.states(request.node.name)
    assert states.pop(COMPLETE) == 6 and set(states) <= {WAITING}
    assert len(set(shared.points("optimizer.learning_rate", request.node.name))) == 6
    assert PASSWORD not in "".join(printed)
    for path in shared.folder.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path


def test_a_sweep_is_seen_and_steered_through_the_server(shared: Sweeps, request: pytest.FixtureRequest) -> None:
    name = request.node.name
    shared.trials_last(20)
    point = {"optimizer.learning_rate": 0.0123}

    def running() -> list[int]:
        known = shared.trials(name) if shared.checkpoints(name) else []
        return [
            trial.number
            for trial in known
            if trial.state == TrialState.RUNNING and "epoch" in (TrialRecord(trial).progress or {})
        ]

    with shared.start(*STEADY, LEARNING_RATE, "epochs=20", "hydra.sweeper.n_trials=9") as process:
        wait_for(lambda: running() == [0])
        queue = find_queue(shared.url, name)
        assert queue_point(queue, point) == 1
        queue.shared.change_jobs(2)
        wait_for(lambda: running() == [0, 1])
        assert shared.trials(name)[1].params == point
        seen = StudyReader(queue, is_enumerated=False).look().running
        assert [(one.number, one.epochs) for one in seen] == [(0, 20), (1, 20)]
        stop_trial(queue, 0)
        wait_for(lambda: shared.trials(name)[0].state == TrialState.PRUNED)
        queue.shared.stop()
        assert process.wait(timeout=60) == 130
    queue.storage.database.engine.dispose()


def test_many_that_begin_at_once_queue_each_point_once(shared: Sweeps, request: pytest.FixtureRequest) -> None:
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(shared.start("seed=1,2,3", "model.dropout=0,0.1", "epochs=1")) for _ in range(3)]
        outputs = [process.communicate(timeout=200) for process in many]
    assert [process.returncode for process in many] == [0, 0, 0], outputs
    points = [tuple(sorted(trial.params.items())) for trial in shared.trials(request.node.name)]
    assert len(points) == len(set(points)) == 6 and shared.states(request.node.name) == {COMPLETE: 6}


def test_a_wrong_password_is_one_line_without_it(postgres: Postgres, shared: Sweeps) -> None:
    shared.environment["OPTUNA_STORAGE"] = postgres.url.replace(PASSWORD, "n0t-this-one")
    done = shared.run("seed=1,2")
    assert done.returncode == 1
    assert done.stderr.startswith("error: hydra.sweeper.storage=postgresql")
    assert ": it cannot be opened: " in done.stderr
    assert done.stderr.count("\n") == 1 and "password authentication failed" in done.stderr
    assert "n0t-this-one" not in done.stdout + done.stderr


def test_a_restarted_database_is_waited_for(postgres: Postgres, shared: Sweeps, request: pytest.FixtureRequest) -> None:
    name = request.node.name
    shared.trials_last(3)
    arguments = (*STEADY, LEARNING_RATE, "epochs=50", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2")
    with shared.start(*arguments) as process:
        wait_for(lambda: len(shared.checkpoints(name)) == 2)
        postgres.stop()
        time.sleep(2)
        postgres.start()
        printed = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    states = shared.states(name)
    states.pop(WAITING, None)  # given back by the worker that asked for the last place second
    assert states == {COMPLETE: 3} and not with_point(shared.trials(name))
    assert all(len(trial.intermediate_values) == 50 for trial in shared.trials(name) if trial.state == COMPLETE)


def check_lost_and_retried(shared: Sweeps, name: str) -> None:
    """Assert that three trials are complete, and that one that was lost has been retried with its point."""
    states = shared.states(name)
    states.pop(WAITING, None)
    assert states == {COMPLETE: 3, FAIL: 1}
    (lost,) = [trial for trial in shared.trials(name) if trial.state == FAIL]
    (retried,) = [trial for trial in shared.trials(name) if trial.system_attrs.get("retry_history")]
    assert lost.value is None and retried.params == lost.params and retried.state == COMPLETE


def test_a_frozen_worker_comes_too_late(shared: Sweeps, request: pytest.FixtureRequest) -> None:
    name = request.node.name
    shared.trials_last(3)
    arguments = (*STEADY, LEARNING_RATE, "epochs=50", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2")
    with shared.start(*arguments, "hydra.sweeper.heartbeat_seconds=1") as process:
        wait_for(lambda: len(shared.checkpoints(name)) == 2)
        frozen = workers_of(process, 2)[0]
        frozen.send_signal(signal.SIGSTOP)
        wait_for(lambda: shared.states(name).get(FAIL) == 1, 60, seen=lambda: shared.states(name))
        frozen.send_signal(signal.SIGCONT)
        printed = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    check_lost_and_retried(shared, name)


def test_a_lock_of_a_process_that_stands_still_is_given_up(postgres: Postgres) -> None:
    still, alive = (open_storage(postgres.url, 1) for _ in range(2))
    with contextlib.ExitStack() as stack:
        for storage in (still, alive):
            stack.callback(storage.database.engine.dispose)
        study = still.create_new_study([optuna.study.StudyDirection.MINIMIZE], "locked")
        trial = still.create_new_trial(study)
        # As an inserted intermediate value does, until it is committed.
        still.database.scoped_session().execute(text(f"SELECT 1 FROM trials WHERE trial_id = {trial} FOR KEY SHARE"))
        fail = threading.Thread(target=alive.set_trial_state_values, args=(trial, FAIL), daemon=True)
        fail.start()
        fail.join(20)
        assert not fail.is_alive() and alive.get_trial(trial).state == FAIL
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):  # its connection is gone; it takes another
            still.set_trial_state_values(trial, COMPLETE, [1.0])


class Cable:
    """A network namespace, joined to this one by a pair of virtual interfaces; their names have this process's id."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        name, self.end, other = (f"dig{os.getpid()}{end}" for end in ("", "a", "b"))
        self.inside = ["ip", "netns", "exec", name]
        try:
            self.here, there = self.free_addresses()
            self.ip("netns", "add", name)
            stack.callback(self.ip, "netns", "del", name)  # takes both interfaces with it
            self.ip("link", "add", self.end, "type", "veth", "peer", "name", other, "netns", name)
            self.ip("addr", "add", f"{self.here}/30", "dev", self.end)
            self.ip("-n", name, "addr", "add", f"{there}/30", "dev", other)
            self.ip("-n", name, "link", "set", other, "up")
            self.ip("-n", name, "link", "set", "lo", "up")
            self.plug("up")
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("needs iproute2 and the right to make a network namespace")

    def free_addresses(self) -> list[str]:
        """Two addresses of a network that nothing here is connected to or has a route to."""
        shown = subprocess.run(["ip", "-j", "-4", "route", "show", "table", "all"], check=True, capture_output=True)
        routes = [route["dst"] for route in json.loads(shown.stdout or "[]") if route["dst"] != "default"]
        taken = [ipaddress.IPv4Network(route, strict=False) for route in routes]
        subnets = list(ipaddress.IPv4Network("10.0.0.0/8").subnets(new_prefix=24))
        first = os.getpid() % len(subnets)
        for subnet in subnets[first:] + subnets[:first]:
            if not any(subnet.overlaps(other) for other in taken):
                return [str(address) for address in list(subnet.hosts())[:2]]
        raise OSError("no network is free")

    def ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    def plug(self, state: str) -> None:
        self.ip("link", "set", self.end, state)


@pytest.fixture
def cable() -> Iterator[Cable]:
    with contextlib.ExitStack() as stack:
        yield Cable(stack)


def test_a_machine_that_is_cut_off_loses_its_trial_and_joins_again(
    postgres: Postgres,
    cable: Cable,
    shared: Sweeps,
    sweeps_of: Callable[..., Sweeps],
    request: pytest.FixtureRequest,
) -> None:
    name = request.node.name
    there = sweeps_of(defaults=[f"study={name}"], storage=postgres.url_at(cable.here))
    there.program, there.forks = [*cable.inside, *there.program], False
    arguments = (*STEADY, LEARNING_RATE, "epochs=50", "hydra.sweeper.n_trials=3", "hydra.sweeper.heartbeat_seconds=1")
    for sweeps in (there, shared):
        sweeps.trials_last(6)
    with there.start(*arguments) as far, shared.start(*arguments) as near:
        wait_for(lambda: len(shared.checkpoints(name)) == 2)
        cable.plug("down")
        wait_for(lambda: shared.states(name).get(FAIL) == 1, 60, seen=lambda: shared.states(name))
        cable.plug("up")
        outputs = [process.communicate(timeout=200) for process in (near, far)]
    assert (near.returncode, far.returncode) == (0, 0), outputs
    check_lost_and_retried(shared, name)
