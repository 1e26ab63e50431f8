"""Kills and stops of workers and supervisors: nothing is lost, nothing is done twice. The trials sleep."""

import contextlib
import itertools
import random
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState

from sweeper_digits.sweep.record import with_point
from tests.sweep.conftest import LEARNING_RATE, SLEEPER, STEADY, Program, Sweeps, epochs_of, wait_for, workers_of

COMPLETE, FAIL, WAITING, RUNNING = TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING, TrialState.RUNNING
TWO_WORKERS = (*STEADY, LEARNING_RATE, "epochs=20", "hydra.sweeper.n_jobs=2")


def test_killed_worker_loses_nothing_and_its_trial_continues(sweeps: Sweeps) -> None:
    sweeps.trials_last(2)
    with sweeps.start(*TWO_WORKERS, "hydra.sweeper.n_trials=3") as process:
        wait_for(lambda: len(sweeps.checkpoints()) == 2)
        workers_of(process, 2)[0].kill()
        out, error = process.communicate(timeout=200)
    assert process.returncode == 0, out + error
    assert sweeps.states() == {COMPLETE: 3, FAIL: 1}
    (dead,) = [trial for trial in sweeps.trials() if trial.state == FAIL]
    (retried,) = [trial for trial in sweeps.trials() if trial.system_attrs.get("retry_history")]
    assert retried.system_attrs["retry_history"] == [dead.number] and retried.params == dead.params
    check_continued(sweeps, retried.number, [dead.number], 20)


def test_everything_killed_then_the_same_command_finishes_the_rest(sweeps: Sweeps) -> None:
    sweeps.trials_last(2)
    with sweeps.start(*TWO_WORKERS, "hydra.sweeper.n_trials=3") as process:
        wait_for(lambda: sweeps.checkpoints() and {COMPLETE, RUNNING} <= sweeps.states().keys())
        workers = workers_of(process, 2)
        for victim in (process, *workers):
            victim.kill()
        psutil.wait_procs(workers, timeout=10)
    before = {trial.number: trial.value for trial in sweeps.trials() if trial.state == COMPLETE}
    assert sweeps.states()[RUNNING] >= 1
    sweeps.ok(*TWO_WORKERS, "hydra.sweeper.n_trials=3")
    states = sweeps.states()
    # A worker that asks for the last place second gives its trial back, without a point.
    assert states[COMPLETE] == 3 and RUNNING not in states and not with_point(sweeps.trials())
    assert {trial.number: trial.value for trial in sweeps.trials() if trial.number in before} == before
    assert len(set(sweeps.points("optimizer.learning_rate"))) == 3


def test_workers_end_when_their_supervisor_is_killed(sweeps: Sweeps) -> None:
    sweeps.trials_last(1000)
    with sweeps.start(*TWO_WORKERS) as process:
        wait_for(lambda: len(list(sweeps.folder.glob("multirun/sweep/[01]/.hydra/hydra.yaml"))) == 2)
        workers = workers_of(process, 2)
        process.kill()
        _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


def test_a_second_interrupt_ends_at_once_with_one_line(sweeps: Sweeps) -> None:
    sweeps.trials_last(100)
    with sweeps.start(*TWO_WORKERS) as process:
        wait_for(lambda: len(sweeps.checkpoints()) == 2)
        workers = workers_of(process, 2)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, error = process.communicate(timeout=60)
        psutil.wait_procs(workers, timeout=30)
    assert process.returncode == 130
    assert error in ("", "\nstopped at once; the same command queues the trials that were running again\n")
    assert not [worker for worker in workers if worker.is_running()]


@pytest.mark.slow  # the moments are those of a process that starts from nothing
@pytest.mark.parametrize("seconds", [0.2, 1.0])
def test_an_interrupt_at_the_start_leaves_nothing(sweeps: Sweeps, seconds: float) -> None:
    sweeps.forks = False
    sweeps.trials_last(100)
    with sweeps.start(*TWO_WORKERS) as process:
        wait_for((sweeps.folder / "multirun/sweep/study.db").exists)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "")
    with contextlib.suppress(KeyError):  # the study may not have been made yet
        assert RUNNING not in sweeps.states()


def test_a_reader_that_has_seen_enough_ends_it_silently(sweeps: Sweeps) -> None:
    sweeps.trials_last(0.5)
    with sweeps.start(*TWO_WORKERS, "hydra.sweeper.n_trials=100") as process:
        assert process.stdout and process.stderr
        assert "study" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        process.wait(timeout=60)
    assert RUNNING not in sweeps.states()


@pytest.mark.slow
def test_workers_that_are_killed_together_do_not_end_the_sweep(sweeps: Sweeps) -> None:
    sweeps.trials_last(2)
    with sweeps.start(*STEADY, LEARNING_RATE, "hydra.sweeper.n_jobs=4", "hydra.sweeper.n_trials=4") as process:
        wait_for(lambda: len(sweeps.checkpoints()) == 4)
        process.send_signal(signal.SIGSTOP)  # so that it finds them all in one look
        for worker in workers_of(process, 4):
            worker.kill()
        process.send_signal(signal.SIGCONT)
        out, error = process.communicate(timeout=200)
    assert process.returncode == 0, out + error
    assert sweeps.states() == {COMPLETE: 4, FAIL: 4}


def test_a_worker_whose_supervisor_died_while_it_started_ends(sweeps: Sweeps) -> None:
    sweeps.trials_last(1000)
    with sweeps.start(LEARNING_RATE, *STEADY) as process:
        (worker,) = workers_of(process, 1)
        worker.suspend()
        process.kill()
        process.wait()
        worker.resume()
        psutil.wait_procs([worker], timeout=30)
    assert not worker.is_running()


@pytest.mark.parametrize(
    "how", [signal.SIGINT, *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGTERM, signal.SIGHUP))]
)
def test_stopping_leaves_no_process_and_no_running_trial(sweeps: Sweeps, how: signal.Signals) -> None:
    sweeps.trials_last(100)
    with sweeps.start(*TWO_WORKERS, "hydra.sweeper.n_trials=2") as process:
        wait_for(lambda: len(sweeps.checkpoints()) == 2)
        workers = workers_of(process, 2)
        process.send_signal(how)
        out, _ = process.communicate(timeout=60)  # less than what the trials have left
    assert process.returncode == 130
    assert not [worker for worker in workers if worker.is_running()]
    assert sweeps.states() == {FAIL: 2, WAITING: 2}
    assert "the same command continues" in out and "sleeper.py -m" in out
    assert out.count("cut off stopped with the sweep; queued again") == 2
    sweeps.trials_last(0)
    sweeps.ok(*TWO_WORKERS, "hydra.sweeper.n_trials=2")
    states = sweeps.states()
    states.pop(WAITING, None)  # one that was given back: both workers asked for the last place at once
    assert states == {FAIL: 2, COMPLETE: 2}


KILLS = 8  # processes, for each kind of space
EPOCHS = 25
SPACES = {
    "sampled": (LEARNING_RATE, "hydra.sweeper.n_trials=10"),
    "enumerated": ("seed=range(0,5)", "model.dropout=0,0.1", "hydra.sweeper.n_trials=10"),
}
# What is killed, and how often each is drawn.
TARGETS = {"worker": 5, "workers": 3, "tree": 1, "supervisor": 1}
# The share of kills that do not wait for a trial to run: they hit processes that start, or set up the study.
ANYWHERE = 0.4


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
def test_kills_at_random_instants_lose_nothing_and_repeat_nothing(sweeps: Sweeps, space: str) -> None:
    draw = random.Random(space)
    sweeps.forks = False  # a kill may hit a process that starts
    pids = sweeps.folder / "pids.txt"
    sweeps.environment["SLEEPER_PIDS"] = str(pids)
    sweeps.trials_last(1.5)
    # A worker may die as often as it likes.
    patient = ("hydra.sweeper.max_retries=1000", "hydra.sweeper.max_failures=1000", "hydra.sweeper.n_jobs=2")
    left = KILLS
    for number in itertools.count():
        name = f"{space}_{number}"
        command = (*STEADY, *SPACES[space], *patient, f"epochs={EPOCHS}", f"study={name}")
        left -= kill_at_random(sweeps, command, draw, left)
        sweeps.ok(*command)
        check_finished(sweeps, name, enumerated=space == "enumerated")
        wait_for(lambda: not living(pids), 30, seen=lambda: living(pids))
        if left <= 0:
            break


def kill_at_random(sweeps: Sweeps, command: tuple[str, ...], draw: random.Random, most: int) -> int:
    """Kill processes of a sweep until it is done or `most` are killed, and return how many were.

    A sweep whose supervisor was killed, or gave up, is begun again by the same command.
    """
    print("seeded, at", f"{time.monotonic():.2f}", *command)  # with the kills below, shown if the test fails
    process, killed = sweeps.start(*command), 0
    histories = f"multirun/{command[-1].removeprefix('study=')}/*/history.csv"

    def written() -> int:
        return sum(path.stat().st_size for path in sweeps.folder.glob(histories))

    while killed < most and process.poll() != 0:
        if draw.random() > ANYWHERE:
            before = written()
            wait_for(lambda: written() > before or process.poll() is not None)  # noqa: B023 - called here only
        time.sleep(draw.uniform(0, 0.5))
        killed += kill(process, draw)
        if process.poll() not in (None, 0, -signal.SIGKILL):
            print("gave up:", process.communicate())
        if process.poll() not in (None, 0):
            process.communicate()
            process = sweeps.start(*command)
    process.kill()
    process.communicate()
    return killed


def kill(process: Program, draw: random.Random) -> int:
    """Kill a worker, all workers, the supervisor or all of them, and return how many processes that were."""
    (target,) = draw.choices(list(TARGETS), list(TARGETS.values()))
    workers = workers_of(process)
    victims: list[Any]
    if target == "worker":
        victims = draw.sample(workers, min(1, len(workers)))
    elif target == "workers":
        victims = workers
    else:
        victims = [process, *(workers if target == "tree" else [])]
    print(f"{time.monotonic():.2f} {target} {[victim.pid for victim in victims]}")
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    if target in ("tree", "supervisor"):
        process.wait()
    return len(victims)


def check_finished(sweeps: Sweeps, name: str, enumerated: bool) -> None:
    """Assert that a sweep of 10 trials has done all that it was to do, once."""
    trials = sweeps.trials(name)
    complete = [trial for trial in trials if trial.state == COMPLETE]
    assert len(complete) == 10
    assert {trial.state for trial in trials} <= {COMPLETE, FAIL, WAITING}
    # One that was given back has no point.
    waiting = [trial for trial in trials if trial.state == WAITING]
    assert not [trial for trial in waiting if trial.params or "fixed_params" in trial.system_attrs]
    points = [tuple(sorted(trial.params.items())) for trial in complete]
    assert len(set(points)) == 10
    if enumerated:
        assert {trial.params["seed"] for trial in complete} == set(range(5))
    histories = {trial.number: trial.system_attrs.get("retry_history", []) for trial in trials}
    continued = set(itertools.chain(*histories.values()))
    assert {trial.number for trial in trials if trial.state == FAIL} <= continued
    for trial in complete:
        check_continued(sweeps, trial.number, histories[trial.number], EPOCHS, name)


def check_continued(sweeps: Sweeps, number: int, history: list[int], epochs: int, name: str = "sweep") -> None:
    """Assert that a complete trial has each epoch once and continued the latest checkpoint of those before it."""
    run = sweeps.trial_folder(number, name)
    assert epochs_of(run) == list(range(1, epochs + 1))
    sources = [sweeps.trial_folder(before, name) for before in reversed(history)]
    source = next((before for before in sources if before.checkpoint.exists()), None)
    expected = [str(source.folder), int(source.read_checkpoint()["progress"][0])] if source else None
    metrics = run.read_metrics()
    assert metrics["resumed"] == expected


def living(pids: Path) -> list[int]:
    """The processes of the list that still are sleepers."""
    found = []
    for pid in map(int, pids.read_text().split()):
        try:
            if str(SLEEPER) in psutil.Process(pid).cmdline():
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found
