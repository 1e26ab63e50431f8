"""The queue of a study: one budget over many processes, one process for each trial, retries, its database."""

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import sqlalchemy.exc
from optuna.trial import TrialState

from sweeper_digits.sweep import points
from sweeper_digits.sweep import storage as storage_module
from sweeper_digits.sweep.budget import Budget, epochs_of
from sweeper_digits.sweep.job import ProgressWriter
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.record import TrialRecord, trials_of, tried_points
from sweeper_digits.sweep.sampler import SeededSampler
from sweeper_digits.sweep.steering import Space
from sweeper_digits.sweep.storage import StorageError, open_storage, study_lock
from sweeper_digits.training.reporting import RunningTrial
from tests.conftest import ROOT
from tests.sweep.conftest import LEARNING_RATE, MakeSweep, queue_of
from tests.sweep.forked import Forked

COMPLETE, WAITING = TrialState.COMPLETE, TrialState.WAITING


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """An empty study in an SQLite file."""
    storage = open_storage(f"sqlite:///{tmp_path}/queue.db", 60)
    yield Queue(optuna.create_study(study_name="queue", storage=storage), storage)
    storage.database.engine.dispose()


class WorstOfAll:
    """A trial that its pruner always wants to stop."""

    def report(self, value: float, step: int) -> None:
        pass

    def should_prune(self) -> bool:
        return True


def test_a_trial_that_has_all_its_epochs_behind_it_is_not_pruned() -> None:
    for splits, by_fold in itertools.product((1, 3), (False, True)):
        running = RunningTrial(WorstOfAll(), by_fold=by_fold, prunes=True)
        running.splits = splits
        running.folds = [0.1] * (splits - 1)
        assert running.epoch(0.5, 0, 2, last=False) is not by_fold
        assert not running.epoch(0.5, 1, 2, last=True)
        assert not running.fold(0.5)
    running = RunningTrial(WorstOfAll(), by_fold=False, prunes=True)
    running.splits = 2
    assert running.epoch(0.5, 1, 2, last=True)  # another fold is to come


OPEN = """
import sys, time
sys.path.insert(0, {root!r})
from types import SimpleNamespace
import optuna
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.storage import StorageError, open_storage, study_lock
optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = open_storage("sqlite:///queue.db", 60)
study = optuna.load_study(study_name="queue", storage=storage, sampler=optuna.samplers.RandomSampler())
queue = Queue(study, storage)
"""
RACE = """
options = SimpleNamespace(pruner={}, max_retries=2)
sweep = SimpleNamespace(is_enumerated=False, size=None, prior=None, options=options)
while not queue.is_finished(sweep):
    trial = queue.ask(sweep)
    if trial is None:
        time.sleep(0.01)
        continue
    trial.suggest_float("x", 0, 1)
    study.tell(trial, 1.0)
"""
POP = """
print("ready", flush=True)
input()
while trial := queue.ask(SimpleNamespace(is_enumerated=True)):
    print(trial.number, flush=True)
"""
LOCK = """
print("ready", flush=True)
with study_lock(storage, "queue"):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def start(queue: Queue, tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Start a process with the queue open."""
    started: list[subprocess.Popen[str]] = []

    def call(code: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", OPEN.format(root=str(ROOT)) + code]
        process = Forked(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


def test_six_processes_never_overshoot_one_budget(queue: Queue, start: Callable[..., Any]) -> None:
    queue.shared.begin(Budget(25, None, None), Space({}, is_enumerated=False), n_jobs=1)
    processes = [start(RACE) for _ in range(6)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 6
    states = [trial.state for trial in trials_of(queue.study)]
    assert states.count(COMPLETE) == 25 and set(states) <= {COMPLETE, WAITING}


def test_a_trial_that_has_a_point_comes_before_one_that_was_given_back(queue: Queue) -> None:
    queue.shared.begin(Budget(2, None, None), Space({}, is_enumerated=False), n_jobs=1)
    options = SimpleNamespace(pruner={}, max_retries=2)
    sweep: Any = SimpleNamespace(is_enumerated=False, size=None, prior=None, options=options)
    given_back = queue.ask(sweep)
    assert given_back
    queue.storage.set_trial_state_values(queue._id(given_back.number), WAITING)
    queue.study.enqueue_trial({"x": 1})
    trials = [queue.ask(sweep), queue.ask(sweep)]
    assert [trial and trial.number for trial in trials] == [1, 0]


def test_a_queued_trial_is_begun_by_one_process_only(queue: Queue, start: Callable[..., Any]) -> None:
    for number in range(40):
        queue.study.enqueue_trial({"x": number})
    processes = [start(POP) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    numbers = [int(line) for process in processes for line in process.communicate(timeout=120)[0].split()]
    assert sorted(numbers) == list(range(40))


def test_a_worker_may_die_max_retries_times_and_be_stopped_as_often_as_one_likes(queue: Queue) -> None:
    queue.study.enqueue_trial({"x": 1})
    fates = [None, 2, None, None, 2, None, 2]  # the last is one death too many
    for fate in fates:
        trial = queue.ask(SimpleNamespace(is_enumerated=True))  # type: ignore[arg-type]
        assert trial is not None
        assert queue.fail_and_requeue(queue.read(trial.number), "its worker died", fate)
    trials = queue.study.trials
    assert len(trials) == len(fates) and trials[-1].system_attrs["retry_history"] == list(range(len(fates) - 1))
    assert [TrialRecord(trial).is_own_failure(2) for trial in trials] == [False] * 6 + [True]


def test_a_trial_is_drawn_by_its_number_whatever_was_drawn_before() -> None:
    def sampler(number: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=number, n_startup_trials=2)

    def draw(trial: optuna.Trial) -> list[float]:
        return [trial.suggest_float(name, 0, 1) for name in "xy"]

    def drawn_alone(number: int) -> list[float]:
        alone = optuna.create_study(sampler=sampler(number))
        alone.add_trials([trial for trial in study.trials if trial.number != number])
        return draw(alone.ask())

    study = optuna.create_study(sampler=SeededSampler(sampler))
    for number in range(4):
        trial = study.ask()
        assert draw(trial) == drawn_alone(number)
        study.tell(trial, number)
    for trial in [study.ask(), study.ask()]:  # two threads that ask and then draw
        assert draw(trial) == drawn_alone(trial.number)


def test_a_set_up_that_is_killed_leaves_no_lock(
    queue: Queue, start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    holder = start(LOCK)
    assert [holder.stdout.readline() for _ in range(2)] == ["ready\n", "locked\n"]
    threading.Timer(1, holder.kill).start()
    began = time.monotonic()
    with caplog.at_level("INFO"), study_lock(queue.storage, "queue"):
        assert time.monotonic() - began > 0.9
    assert "waiting    for another process that changes study=queue" in caplog.text


def test_a_database_that_is_away_is_waited_for(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(storage_module, "RETRY_SECONDS", 0.01)
    queue.study.enqueue_trial({"x": 1})
    answers, read = [], queue.storage.database.get_trial

    def away_twice(trial_id: int) -> optuna.trial.FrozenTrial:
        answers.append(trial_id)
        if len(answers) < 3:
            raise optuna.exceptions.StorageInternalError("away") from sqlalchemy.exc.OperationalError("", {}, OSError())
        return read(trial_id)

    monkeypatch.setattr(queue.storage.database, "get_trial", away_twice)
    assert queue.read(0).number == 0 and len(answers) == 3
    said = "waiting    for the database: hydra.sweeper.storage=sqlite:///"
    assert caplog.text.count(said) == 1
    monkeypatch.setattr(storage_module, "SAY_SECONDS", 0)  # instead of a minute
    answers.clear()
    assert queue.read(0).number == 0 and caplog.text.count(said) == 3
    monkeypatch.setattr(storage_module, "PATIENCE_SECONDS", 0)
    answers.clear()
    with pytest.raises(StorageError, match=r"hydra\.sweeper\.storage=sqlite:"):
        queue.read(0)
    storage_module.interruption_requested.set()
    try:
        answers.clear()
        with pytest.raises(KeyboardInterrupt):
            queue.read(0)
    finally:
        storage_module.interruption_requested.clear()


def test_what_is_not_the_absence_of_the_database_is_not_repeated(queue: Queue) -> None:
    with pytest.raises(KeyError):
        queue.read(7)


GRID = SimpleNamespace(options=SimpleNamespace(max_retries=2), is_enumerated=True)


def begun(queue: Queue) -> optuna.trial.FrozenTrial:
    """A trial of a grid that a process of this machine has begun."""
    queue.study.enqueue_trial({"x": 1})
    trial = queue.ask(GRID)  # type: ignore[arg-type]
    assert trial
    queue.record_worker(trial)
    return queue.read(trial.number)


def test_a_grid_is_not_finished_between_failing_and_queueing_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = begun(queue)
    with monkeypatch.context() as killed:
        killed.setattr(Queue, "_queue_again", lambda queue, trial: None)
        assert queue.fail_and_requeue(trial, "its worker died", 2)
    assert not queue.is_finished(GRID)  # type: ignore[arg-type]
    for _ in range(2):  # it is made up for, once
        queue.reap(max_retries=2)
    assert [trial.state for trial in queue.study.trials] == [TrialState.FAIL, WAITING]
    assert queue.study.trials[1].system_attrs["retry_history"] == [0]
    assert tried_points(queue.study.trials) == 1


def test_a_new_point_does_not_take_the_place_of_a_trial_between_failing_and_queueing_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the trial that was cut off waits for ever, beside as many others as the budget has."""
    queue.shared.begin(Budget(1, None, None), Space({}, is_enumerated=False), n_jobs=1)
    options = SimpleNamespace(pruner={}, max_retries=2)
    sweep: Any = SimpleNamespace(is_enumerated=False, size=None, prior=None, options=options)
    queue.study.enqueue_trial({"x": 1})
    trial = queue.ask(sweep)
    assert trial
    queue.record_worker(trial)
    with monkeypatch.context() as between:
        between.setattr(Queue, "_queue_again", lambda queue, trial: None)
        assert queue.fail_and_requeue(queue.read(trial.number), "its worker died", 2)
    assert queue.ask(sweep) is None and not queue.is_finished(sweep)
    queue.reap(max_retries=2)
    again = queue.ask(sweep)
    assert again and queue.read(again.number).system_attrs["retry_history"] == [trial.number]


def test_a_point_between_failing_and_queueing_again_is_not_queued_anew(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by kills at random instants: the supervisor dies there, and the next one sets the sweep up again."""
    sweep: Any = SimpleNamespace(
        options=SimpleNamespace(n_trials=1, max_retries=2, retry_failed=False),
        config=SimpleNamespace(search=SimpleNamespace(points=None, from_sweep=None)),
        distributions={"x": optuna.distributions.CategoricalDistribution([1])},
        is_enumerated=True,
        points=lambda given=None: iter([{"x": 1}]),
        prior=None,
        runs_listed=list,
    )
    trial = begun(queue)
    with monkeypatch.context() as killed:
        killed.setattr(Queue, "_queue_again", lambda queue, trial: None)
        assert queue.fail_and_requeue(trial, "its worker died", 2)
    queue.fill(sweep)
    queue.reap(max_retries=2)
    assert [trial.state for trial in queue.study.trials] == [TrialState.FAIL, WAITING]
    queue.fill(sweep)
    assert len(queue.study.trials) == 2


def test_a_trial_that_a_person_stopped_stays_so_when_its_worker_dies(queue: Queue) -> None:
    trial = begun(queue)
    queue.write(trial.number, stop=True)
    assert queue.fail_and_requeue(trial, "its worker died", 2)
    again = queue.ask(GRID)  # type: ignore[arg-type]
    assert again and ProgressWriter(queue, again.number, "here").tell({"epoch": 1, "epochs": 2})


@pytest.mark.parametrize(("restored", "trained"), [(9, 1), (8, 2), (0, 10)])  # the checkpoint; an older one; none
@pytest.mark.parametrize("prunes", [True, False])  # with several objectives, a trial reports no value
def test_each_epoch_that_was_trained_counts_once(queue: Queue, prunes: bool, restored: int, trained: int) -> None:
    def train(trial: optuna.trial.FrozenTrial, first: int, end: int) -> None:
        link = ProgressWriter(queue, trial.number, "here")
        link.begin()
        running = RunningTrial(queue.attach(trial.number), by_fold=False, prunes=prunes, link=link)
        running.restore([0.5] * first, epochs=10)
        for epoch in range(first, end):
            running.epoch(0.5, epoch, 10, last=False)
            running.tell({}, epoch, 10, last=False)

    def used() -> list[int]:
        return list(epochs_of(trials_of(queue.study)))

    first = begun(queue)
    train(first, 0, 9)
    assert queue.fail_and_requeue(queue.read(first.number), "its worker died", 2)
    assert used() == [9], "its retry waits"
    again = queue.ask(GRID)  # type: ignore[arg-type]
    assert again and used() == [9, 0]
    train(queue.read(again.number), restored, 10)
    assert used() == [9, trained]
    again.set_user_attr("epochs", 10)
    queue.study.tell(again, 1.0)
    assert used() == [9, trained]


def test_points_of_a_sweep_are_all_queued_although_the_first_command_was_killed_meanwhile(
    make_sweep: MakeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = [0.01, 0.02, 0.03]
    of_sweep = [{"optimizer.learning_rate": rate} for rate in rates]
    monkeypatch.setattr(points, "points_of_sweep", lambda config, distributions: of_sweep)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(optuna.Study, "enqueue_trial", of_one(optuna.Study.enqueue_trial))
        queue_of(make_sweep, tmp_path, LEARNING_RATE)
    for _ in range(2):
        _, queue = queue_of(make_sweep, tmp_path, LEARNING_RATE)
        queued = [TrialRecord(trial).point["optimizer.learning_rate"] for trial in queue.study.trials]
        assert queued == rates


def of_one(method: Callable[..., None]) -> Callable[..., None]:
    """The method, which ends the program when it is called a second time."""
    calls: list[object] = []

    def call(*args: Any) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(args)
        method(*args)

    return call


def test_a_trial_that_two_supervisors_find_dead_is_queued_once(queue: Queue) -> None:
    trial = begun(queue)
    queue.fail_and_requeue(trial, "its worker died", 2)
    threads = [threading.Thread(target=queue._queue_again, args=(queue.read(0),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(queue.study.trials) == 2


@pytest.mark.parametrize(
    ("changed", "dead"), [({}, False), ({"pid": "999999"}, True), ({"pid": "999999", "machine": "b007-1"}, False)]
)
def test_a_process_is_looked_up_on_its_own_machine_only(queue: Queue, changed: dict[str, str], dead: bool) -> None:
    trial = begun(queue)
    host, pid, machine, started = trial.user_attrs["worker"].split(":")
    parts = {"host": host, "pid": pid, "machine": machine, "started": started} | changed
    queue.storage.set_trial_user_attr(trial._trial_id, "worker", ":".join(parts.values()))
    assert queue.is_dead(queue.read(0)) is dead


def test_another_machines_clock_does_not_kill_a_trial_that_is_about_to_be_signed(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.study.enqueue_trial({"x": 1})
    asked = queue.ask(GRID)  # type: ignore[arg-type]
    assert asked
    trial = queue.read(0)
    trial.datetime_start = datetime(2000, 1, 1)
    assert not queue.is_dead(trial)
    later = time.monotonic() + 4
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert queue.is_dead(trial)
    assert queue.reap(max_retries=2) and not queue.record_worker(asked), "its worker woke up too late, and asks anew"
