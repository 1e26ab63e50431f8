"""How trials end that do not end by themselves: told from their folders, by a limit, by a person, by a signal."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState

from benchmarks import sleeper
from sweeper_digits.config import Config
from sweeper_digits.errors import UserError
from sweeper_digits.runs import process
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.sweep import ending, local, loop, owner
from sweeper_digits.sweep.ending import Limits, described_end, take_over_finished, tell_from_folder
from sweeper_digits.sweep.pruning import PeerPruner
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.record import StudyRecord, TrialRecord
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.verbs import find_queue, stop_trial
from tests.sweep.conftest import LEARNING_RATE, STEADY, MakeSweep, Sweeps, begun, queue_of, wait_for, workers_of

COMPLETE, FAIL, PRUNED, RUNNING = TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING


def finished_run(sweep: Sweep, number: int, **metrics: object) -> Path:
    """The folder of a trial whose run has ended."""
    folder = sweep.folder / str(number)
    folder.mkdir(parents=True)
    folder.joinpath("metrics.json").write_text(json.dumps({"state": "finished", "val_loss": 0.25} | metrics))
    return folder


@pytest.mark.parametrize(("state", "told"), [("finished", COMPLETE), ("pruned", PRUNED), ("diverged", PRUNED)])
def test_a_run_that_had_ended_when_its_process_died_is_told(
    make_sweep: MakeSweep, tmp_path: Path, state: str, told: TrialState
) -> None:
    sweep, queue = queue_of(make_sweep, tmp_path, LEARNING_RATE)
    trial = begun(sweep, queue)
    finished_run(sweep, trial.number, state=state)
    queue.write(trial.number, worker=process.identity().replace(f":{os.getpid()}:", ":999999:"))
    gone = queue.reap(2, has_told=lambda number: tell_from_folder(queue, sweep, number))
    (only,) = queue.study.trials
    assert gone == [] and only.state == told and only.values == ([0.25] if told == COMPLETE else None)


def test_a_run_that_had_not_ended_is_not_told(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep, queue = queue_of(make_sweep, tmp_path, LEARNING_RATE)
    number = begun(sweep, queue).number
    assert not tell_from_folder(queue, sweep, number)
    folder = finished_run(sweep, number, val_loss=None)
    assert not tell_from_folder(queue, sweep, number)
    folder.joinpath("metrics.json").write_text('{"state": "failed"}')
    assert not tell_from_folder(queue, sweep, number) and queue.read(number).state == RUNNING


def test_what_continues_a_finished_run_takes_it_over(make_sweep: MakeSweep, tmp_path: Path) -> None:
    """The study took the trial for lost, because its machine was cut off: its run is not trained again."""
    sweep, queue = queue_of(make_sweep, tmp_path, LEARNING_RATE)
    lost = begun(sweep, queue)
    finished_run(sweep, lost.number)
    queue.fail_and_requeue(lost, "no sign of life", max_retries=2)
    again = queue.ask(sweep)
    assert again
    queue.record_worker(again)
    assert take_over_finished(queue, sweep, again)
    assert [trial.state for trial in queue.study.trials] == [FAIL, COMPLETE]
    assert queue.study.best_value == 0.25 and queue.study.trials[1].params == lost.params
    assert not (sweep.folder / "0").exists() and (sweep.folder / "1/metrics.json").exists()


def test_a_trial_that_a_person_stopped_ends_after_seconds(
    make_sweep: MakeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, queue = queue_of(make_sweep, tmp_path, LEARNING_RATE)
    stopped, other = begun(sweep, queue), begun(sweep, queue)
    limits, now = Limits(queue, sweep), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    queue.write(stopped.number, stop=True)
    assert limits.overdue() == []
    now[0] += ending.SECONDS_TO_STOP
    assert [trial.number for trial in limits.overdue()] == [stopped.number]
    assert [trial.state for trial in queue.study.trials] == [PRUNED, RUNNING]
    assert limits.overdue() == [] and queue.read(other.number).state == RUNNING


def test_a_trial_fails_at_its_limit_and_is_not_tried_again(
    make_sweep: MakeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, queue = queue_of(make_sweep, tmp_path, LEARNING_RATE, "hydra.sweeper.trial_timeout=7")
    trial, now = begun(sweep, queue), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    limits = Limits(queue, sweep)
    assert limits.overdue() == []
    now[0] += 6.9
    assert limits.overdue() == []
    now[0] += 0.1
    assert [one.number for one in limits.overdue()] == [trial.number]
    (failed,) = queue.study.trials
    assert failed.state == FAIL and TrialRecord(failed).error_line.endswith("trial_timeout=7 seconds")
    assert TrialRecord(failed).is_own_failure(max_retries=2)


def test_a_sweep_kills_the_worker_of_a_trial_that_hangs(sweeps: Sweeps) -> None:
    sweeps.trials_last(1000)
    space = (*STEADY, "seed=1,2", "hydra.sweeper.trial_timeout=2", "hydra.sweeper.max_failures=5", "epochs=1")
    done = sweeps.run(*space)
    assert done.returncode == 1 and "hydra.sweeper.trial_timeout=2 seconds" in done.stderr
    assert sweeps.states() == {FAIL: 2}


def test_a_person_stops_a_trial_that_sleeps_in_c(sweeps: Sweeps) -> None:
    sweeps.trials_last(1000)
    with sweeps.start(*STEADY, "seed=1,2", "epochs=1") as supervisor:
        first, second = (sweeps.trial_folder(number).folder / ".hydra/hydra.yaml" for number in (0, 1))
        wait_for(first.exists)
        (worker,) = workers_of(supervisor, 1)
        stop_trial(find_queue(sweeps.url, "sweep"), 0)
        began = time.monotonic()
        wait_for(lambda: sweeps.trials()[0].state == PRUNED and not worker.is_running())
        assert time.monotonic() - began < 10, "five seconds, on a machine that has nothing else to do"
        wait_for(second.exists)
        supervisor.terminate()


class ResourceExhaustedError(Exception):
    """As TensorFlow's, which the loop must not import to read it."""


# By seed: what a trial raises where memory runs out; the last one trains.
SCARCE = (
    MemoryError("Unable to allocate 7.45 GiB"),
    ResourceExhaustedError("Graph execution error: OOM when allocating tensor with shape[100,100000]"),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes."),
    UserError("mine.py:3: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"),
    None,
)


def test_trials_that_run_out_of_memory_fail_once_each_and_the_sweep_goes_on(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them in a row than `max_failures`, each in a process of its own."""
    sleep = sleeper.sleep_through

    def train(config: Config, run: RunFolder, number: int) -> list[float] | None:
        run.folder.joinpath("pid").write_text(str(os.getpid()))
        if error := SCARCE[config.seed]:
            raise error
        return sleep(config, run, number)

    monkeypatch.setattr(sleeper, "sleep_through", train)  # the sweep and its workers are forked from here
    out = sweeps.ok(*STEADY, f"seed=range(0,{len(SCARCE)})", "epochs=1", "hydra.sweeper.max_failures=2")
    assert sweeps.states() == {FAIL: 4, COMPLETE: 1} and "1 complete, 4 failed" in out
    errors = [str(trial.user_attrs["error"]) for trial in sweeps.trials() if trial.state == FAIL]
    advice = "out of memory; a smaller batch_size or hydra.sweeper.n_jobs needs less: "
    said = [f"{type(one).__name__}: {one}".removeprefix("UserError: ") for one in SCARCE if one]
    assert sorted(errors) == sorted(advice + one for one in said)
    assert len({file.read_text() for file in sweeps.folder.glob("multirun/sweep/*/pid")}) == 5


def test_a_sweep_whose_trials_all_run_out_of_memory_ends(
    in_process: Callable[..., Sweeps], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(config: Config, run: RunFolder, number: int) -> None:
        raise MemoryError

    monkeypatch.setattr(sleeper, "sleep_through", train)
    monkeypatch.setattr(loop, "SCARCITIES", 3)
    with pytest.raises(SystemExit) as end:
        in_process(*STEADY, LEARNING_RATE, "hydra.sweeper.n_trials=9", "hydra.sweeper.max_failures=2")
    assert "6 trials in a row failed, the first was #0: out of memory; a smaller" in str(end.value)


def test_what_the_kernel_kills_is_out_of_memory_and_what_another_kills_is_tried_again(
    sweeps: Sweeps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 1\noom_kill 3\n")
    monkeypatch.setattr(local, "VMSTAT", vmstat)
    sweeps.trials_last(20)
    with sweeps.start(*STEADY, "seed=0,1,2", "epochs=99", "hydra.sweeper.max_failures=1") as supervisor:
        for number, kills in ((0, 4), (1, 4), (2, 5)):  # the kernel's: of the first and the third
            wait_for(sweeps.trial_folder(number).history.exists)
            vmstat.write_text(f"nr_free_pages 1\noom_kill {kills}\n")
            if number == 2:
                sweeps.trial_folder(2).write_metrics({"state": "finished", "val_loss": 0.5})
            workers_of(supervisor, 1)[0].kill()
        wait_for(sweeps.trial_folder(3).history.exists)
        supervisor.terminate()
    first, second, ended, again = sweeps.trials()[:4]
    assert first.user_attrs["error"].endswith("needs less: MemoryError: the kernel killed its worker")
    assert TrialRecord(first).is_own_failure(max_retries=2) and TrialRecord(second).is_cut_off
    assert ended.state == COMPLETE, "its run had ended"
    assert TrialRecord(again).continues == [second.number]


def test_a_point_whose_worker_is_killed_each_time_fails_once_and_the_sweep_goes_on(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel does not count its kills, anybody may have done it."""
    sleep = sleeper.sleep_through

    def train(config: Config, run: RunFolder, number: int) -> list[float] | None:
        if config.seed == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return sleep(config, run, number)

    monkeypatch.setattr(sleeper, "sleep_through", train)
    monkeypatch.setattr(local, "VMSTAT", Path("/none"))
    options = ("hydra.sweeper.max_failures=1", "hydra.sweeper.max_retries=1")
    out = sweeps.ok(*STEADY, "seed=0,1", "epochs=1", *options)
    assert sweeps.states() == {FAIL: 2, COMPLETE: 1} and "1 complete, 1 failed" in out
    last = [trial for trial in sweeps.trials() if trial.state == FAIL][-1]
    assert "killed by SIGKILL, as the kernel does where memory runs out" in last.user_attrs["error"]


@pytest.mark.parametrize(
    ("status", "says"), [(7, "exit status 7"), (-9, "killed by SIGKILL, as the kernel"), (-11, "killed by SIGSEGV")]
)
def test_the_end_of_a_worker_is_described(status: int, says: str) -> None:
    assert described_end(status).startswith("its worker died: ") and says in described_end(status)


def test_an_error_is_kept_short_and_printable(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep, queue = queue_of(make_sweep, tmp_path, LEARNING_RATE)
    trial = begun(sweep, queue)
    ending.tell(queue, sweep, queue.attach(trial.number), FAIL, error="a\nb\udce9\x1b[1m" + "x" * 10**6)
    error = str(queue.read(trial.number).user_attrs["error"])
    assert error.startswith("a b") and len(error) <= 1000 and error.isprintable() and error.encode()


def test_another_pruner_holds_for_whoever_joins(make_sweep: MakeSweep, tmp_path: Path) -> None:
    for percentile in (35.0, 20.0):
        _, queue = queue_of(make_sweep, tmp_path, LEARNING_RATE, f"hydra.sweeper.pruner.percentile={percentile}")
        assert StudyRecord(queue.study).pruner["percentile"] == percentile
        assert isinstance(queue.study.pruner, PeerPruner) and queue.study.pruner.percentile == percentile


def jobs_of(make_sweep: MakeSweep, folder: Path, n_jobs: int) -> tuple[Queue, int | None]:
    """The number of workers that a person set, after a command that asks for so many is given."""
    _, queue = queue_of(make_sweep, folder, LEARNING_RATE, f"hydra.sweeper.n_jobs={n_jobs}")
    return queue, queue.shared.steering().n_jobs


def test_the_same_command_keeps_a_changed_number_of_workers(make_sweep: MakeSweep, tmp_path: Path) -> None:
    queue, jobs = jobs_of(make_sweep, tmp_path, 2)
    assert jobs is None
    queue.shared.change_jobs(5)
    assert jobs_of(make_sweep, tmp_path, 2)[1] == 5
    assert jobs_of(make_sweep, tmp_path, 3)[1] is None  # another command says another number


def test_the_owner_of_a_folder_is_written_whole_and_once(tmp_path: Path) -> None:
    (tmp_path / owner.OWNER).touch()  # a disk that was full
    assert owner.owner_of(tmp_path) is None
    owner.write_owner(tmp_path, "quick", "1")
    with pytest.raises(FileExistsError):
        owner.write_owner(tmp_path, "other", "2")
    assert owner.owner_of(tmp_path) == owner.Owner("quick", "1")
    assert [path.name for path in tmp_path.iterdir()] == [owner.OWNER]
