"""Kills and stops of workers and supervisors: nothing is lost, nothing is done twice. The trials sleep."""

import contextlib
import itertools
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from optuna.trial import TrialState

from benchmarks import sleeper
from sweeper_digits.results.doctor import diagnose
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.sweep.record import with_point
from tests.sweep.conftest import LEARNING_RATE, STEADY, Program, Sweeps, epochs_of, wait_for, workers_of

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


KILLS = 50  # in each kind of space
# What the kills are drawn by: their victims and the seconds before them; a failed test shows it.
SEED = os.environ.get("KILLS_SEED", "30")
TRIALS, EPOCHS = 6, 10
SPACES = {"sampled": (LEARNING_RATE,), "enumerated": ("seed=1,2,3", "model.dropout=0,0.1")}
# How often each is drawn: the process of one slot, those of all slots, the loop, or all of them.
VICTIMS = {"slot": 5, "slots": 2, "loop": 2, "all": 2}
# The share of kills of the loop whose seconds count from its start; those of the others from when there are slots.
FROM_START = 0.5
LIFE_SECONDS = 1.2
# The share of commands that begin as a user's do: a kill may hit the imports of the loop, or of a slot.
FROM_NOTHING = 0.05


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
def test_kills_at_random_instants_lose_nothing_and_repeat_nothing(
    sweeps: Sweeps, in_process: Callable[..., Sweeps], space: str
) -> None:
    in_process("optimizer=adamw,sgd", "epochs=1", "study=imports")  # all that a sweep imports: forks have it
    print(f"KILLS_SEED={SEED}")
    draw, left = random.Random(f"{SEED} {space}"), KILLS
    sweeps.trials_last(0.4)
    for number in itertools.count():
        name = f"{space}_{number}"
        command = (*STEADY, *SPACES[space], f"study={name}", f"epochs={EPOCHS}", f"hydra.sweeper.n_trials={TRIALS}")
        command += ("hydra.sweeper.n_jobs=2", "hydra.sweeper.max_retries=1000")
        left -= kill_at_random(sweeps, command, draw, left)
        sweeps.ok(*command)
        check_finished(sweeps, name)
        if not left:
            break


def kill_at_random(sweeps: Sweeps, command: tuple[str, ...], draw: random.Random, most: int) -> int:
    """Kill processes of a sweep until it is done, at most so often, and return how often.

    The same command begins a sweep again whose loop was killed.
    """
    kills, ended = 0, -signal.SIGKILL
    while kills < most and ended:
        sweeps.forks = draw.random() > FROM_NOTHING
        with sweeps.start(*command) as process:
            while kills < most and process.poll() is None:
                (victim,) = draw.choices(list(VICTIMS), list(VICTIMS.values()))
                if "slot" in victim or draw.random() > FROM_START:
                    wait_for(lambda: workers_of(process) or process.poll() is not None)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(draw.uniform(0, LIFE_SECONDS))
                kills += kill(process, victim, draw)
            process.kill()
            out, error = process.communicate()
        ended = process.returncode
        gave_up = "ended with status -9" in error  # workers that were killed while they began, three in a row
        assert gave_up or (ended in (0, -signal.SIGKILL) and not error), out + error
    sweeps.forks = True
    return kills


def kill(process: Program, victim: str, draw: random.Random) -> bool:
    """Kill what was drawn of a sweep; return whether something was there to be killed."""
    slots: list[Any] = workers_of(process)
    if victim == "slot":
        slots = draw.sample(slots, min(1, len(slots)))
    victims = [] if victim == "loop" else slots
    victims += [process] if victim in ("loop", "all") and process.poll() is None else []
    draw.shuffle(victims)
    print(f"{time.time():.2f} {process.pid} {victim} {[one.pid for one in victims]}")
    for one in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    if process in victims:
        process.wait()
    return bool(victims)


def check_finished(sweeps: Sweeps, name: str) -> None:
    """Assert that a sweep has done all that it was to do, once, and left no process and a whole folder."""
    trials, folder = sweeps.trials(name), sweeps.folder / "multirun" / name
    complete = [trial for trial in trials if trial.state == COMPLETE]
    assert len(complete) == len({str(sorted(trial.params.items())) for trial in complete}) == TRIALS
    assert {trial.state for trial in trials} <= {COMPLETE, FAIL, WAITING} and not with_point(trials)
    histories = {trial.number: trial.system_attrs.get("retry_history", []) for trial in trials}
    continued = set(itertools.chain(*histories.values()))
    assert {trial.number for trial in trials if trial.state == FAIL} <= continued
    runs = {int(run.name): RunFolder(run) for run in folder.iterdir() if run.name.isdecimal()}
    finished = {number for number, run in runs.items() if run.metrics.exists()}
    assert finished == {trial.number for trial in complete}, "each trained to its end once"
    for trial in complete:
        rate = trial.params.get("optimizer.learning_rate")
        assert rate is None or trial.value == sleeper.val_loss(rate, EPOCHS)
        check_continued(sweeps, trial.number, histories[trial.number], EPOCHS, name)
    results = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert results["best_value"] == min(trial.value for trial in complete)
    assert len((folder / "trials.csv").read_text().splitlines()) == len(trials) + 1
    (diagnosis,) = diagnose(sweeps.url_of(name), folder.parent, name)
    assert len(diagnosis.lines) == 1 + len(diagnosis.left), diagnosis.lines
    hidden = {path for path in folder.rglob(".*") if path.name not in (".hydra", ".study.json")}
    assert hidden == set(diagnosis.left), "doctor knows all that a killed process may leave"
    wait_for(lambda: not living(sweeps.folder), 5, seen=lambda: living(sweeps.folder))


def check_continued(sweeps: Sweeps, number: int, history: list[int], epochs: int, name: str = "sweep") -> None:
    """Assert that a complete trial has each epoch once and continued the latest checkpoint of those before it."""
    run = sweeps.trial_folder(number, name)
    assert epochs_of(run) == list(range(1, epochs + 1))
    sources = [sweeps.trial_folder(before, name) for before in reversed(history)]
    source = next((before for before in sources if before.checkpoint.exists()), None)
    expected = [str(source.folder), int(source.read_checkpoint()["progress"][0])] if source else None
    metrics = run.read_metrics()
    assert metrics["resumed"] == expected


def living(folder: Path) -> list[int]:
    """The processes that run in a folder, those of no parent too."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return [pid for pid in found if pid != os.getpid()]
