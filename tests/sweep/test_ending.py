"""How trials end that do not end by themselves: told from their folders, by a limit, by a person, by a signal."""

import json
import os
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from sweeper_digits.runs import process
from sweeper_digits.sweep import ending, owner
from sweeper_digits.sweep.ending import Limits, described_end, take_over_finished, tell_from_folder
from sweeper_digits.sweep.pruning import PeerPruner
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.record import StudyRecord, TrialRecord
from sweeper_digits.sweep.space import Sweep
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
    gone = queue.reap(2, has_told=lambda number: tell_from_folder(queue, sweep, number), unsigned_seconds=0)
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


@pytest.mark.parametrize(
    ("status", "says"), [(7, "exit status 7"), (-9, "killed by SIGKILL, as the kernel"), (-11, "killed by SIGSEGV")]
)
def test_the_end_of_a_worker_is_described(status: int, says: str) -> None:
    assert described_end(status).startswith("its worker died: ") and says in described_end(status)


def test_a_killed_worker_is_named_by_its_signal(sweeps: Sweeps) -> None:
    sweeps.trials_last(20)
    with sweeps.start(*STEADY, LEARNING_RATE, "hydra.sweeper.n_trials=1", "epochs=20") as supervisor:
        wait_for(lambda: sweeps.trial_folder(0).folder.exists())
        workers_of(supervisor)[0].kill()
        wait_for(lambda: any(trial.state == FAIL for trial in sweeps.trials()))
        supervisor.terminate()
    assert "killed by SIGKILL" in sweeps.trials()[0].user_attrs["error"]


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
