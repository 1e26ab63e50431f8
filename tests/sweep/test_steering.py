"""A sweep is steered while it runs, by another process, through the study alone."""

import argparse
import json
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from sweeper_digits.errors import UserError
from sweeper_digits.sweep import verbs
from sweeper_digits.sweep.budget import watched_seconds
from sweeper_digits.sweep.points import in_space
from sweeper_digits.sweep.record import TrialRecord
from sweeper_digits.sweep.steering import Space
from tests.sweep.conftest import LEARNING_RATE, STEADY, Sweeps, wait_for, workers_of

COMPLETE, PRUNED, RUNNING, WAITING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING
# No trial ends by itself before a test has steered it.
SPACE = (LEARNING_RATE, "optimizer=adamw,sgd", "epochs=20", *STEADY)


def call(sweeps: Sweeps, verb: str, study: str | None = "sweep", **arguments: Any) -> None:
    """Do what the command line does, in this process."""
    given = {"storage": sweeps.url, "study": study, "json": False, "watch": False, "trial": None}
    getattr(verbs, verb)(argparse.Namespace(**given | arguments))


def running(sweeps: Sweeps) -> list[int]:
    """The trials that have told of an epoch; none before the database has the study."""
    if not sweeps.checkpoints():
        return []
    return [t.number for t in sweeps.trials() if t.state == RUNNING and "epoch" in (TrialRecord(t).progress or {})]


def test_a_stopped_trial_is_pruned_and_its_place_is_free(sweeps: Sweeps, capsys: pytest.CaptureFixture[str]) -> None:
    sweeps.trials_last(20)
    with sweeps.start(*SPACE, "hydra.sweeper.n_trials=9") as process:
        wait_for(lambda: running(sweeps) == [0])
        call(sweeps, "stop", trial=0)
        assert capsys.readouterr().out == "sweep #0: is pruned when its epoch ends, or in five seconds\n"
        wait_for(lambda: running(sweeps) == [1])
        assert sweeps.trials()[0].state == PRUNED
        with pytest.raises(UserError, match=r"#0: it has ended already \(pruned\)"):
            call(sweeps, "stop", trial=0)
        with pytest.raises(UserError, match="#99: no such trial; the study has 2 trials"):
            call(sweeps, "stop", trial=99)
        with pytest.raises(UserError, match="#-1: no such trial"):
            call(sweeps, "stop", trial=-1)
        call(sweeps, "stop")
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped after 1 trial; the same command continues" in out
    assert sweeps.states() == {PRUNED: 1, TrialState.FAIL: 1, WAITING: 1}, "as at Ctrl-C"
    with pytest.raises(UserError, match="sweep: no sweep runs"):
        call(sweeps, "stop")
    call(sweeps, "stop", trial=2)
    assert sweeps.trials()[2].state == PRUNED


def test_a_point_is_tried_next(sweeps: Sweeps, capsys: pytest.CaptureFixture[str]) -> None:
    sweeps.trials_last(2)
    point = ["optimizer=sgd", "optimizer.learning_rate=0.0123"]
    with sweeps.start(LEARNING_RATE, "optimizer=adamw,sgd", "epochs=4", *STEADY, "hydra.sweeper.n_trials=3") as process:
        wait_for(lambda: running(sweeps) == [0])
        call(sweeps, "enqueue", point=point)
        said = re.fullmatch(r"sweep #(\d): queued; it is tried next\n", capsys.readouterr().out)
        assert said
        number = int(said[1])
        for faulty, message in (
            (point, rf"#{number} has this point already \((waiting|running|complete)\)"),
            (["optimizer=muon"], "optimizer=muon is not one of adamw, sgd"),
            (["optimizer.learning_rate=1"], "optimizer.learning_rate=1 is not one of the numbers from 0.0001 to 0.1"),
            (["epoch=4"], "epoch is not searched; the space has optimizer.learning_rate, optimizer"),
            (["optimizer=adamw,sgd"], "a point has one value for each key"),
            (["optimizer"], "not of the form KEY=VALUE"),
        ):
            with pytest.raises(UserError, match=message):
                call(sweeps, "enqueue", point=faulty)
        assert process.wait(timeout=60) == 0
    assert sweeps.trials()[number].params == {"optimizer": "sgd", "optimizer.learning_rate": 0.0123}
    assert sweeps.states() == {COMPLETE: 3}, "the point is one of n_trials"
    capsys.readouterr()
    call(sweeps, "enqueue", point=["optimizer=adamw"])
    assert "no sweep runs: its command, given again with a larger hydra.sweeper.n_trials" in capsys.readouterr().out


def test_a_budget_and_a_number_of_workers_that_are_raised_take_effect(
    sweeps: Sweeps, capsys: pytest.CaptureFixture[str]
) -> None:
    sweeps.trials_last(20)
    command = (*SPACE, "hydra.sweeper.n_trials=1", "hydra.sweeper.timeout=3000")
    with sweeps.start(*command) as process:
        wait_for(lambda: running(sweeps) == [0])
        call(sweeps, "change", values=["n_trials=3", "hydra.sweeper.timeout=4000.5", "n_jobs=3"])
        assert capsys.readouterr().out == "sweep: 3 trials, or 66:40 minutes; 3 workers from now on\n"
        wait_for(lambda: running(sweeps) == [0, 1, 2])
        call(sweeps, "change", values=["n_jobs=1"])
        workers_of(process)
        wait_for(lambda: len(workers_of(process)) == 1)
        wait_for(lambda: sweeps.states().get(WAITING) == 2)  # given back, with their checkpoints
        for faulty, message in (
            ("n_job=4", r"n_job=4: not one of n_trials, timeout, n_epochs, n_jobs \(did you mean 'n_jobs'\?\)"),
            ("n_trials=many", "n_trials=many: a whole number is needed"),
            ("timeout=0", "timeout=0: must be above 0"),
            ("timeout=nan", "timeout=nan: must be above 0; null is no limit"),
            ("timeout", "timeout: a value is needed, for example timeout=100"),
            ("n_jobs=null", "n_jobs=null: a whole number is needed"),
        ):
            with pytest.raises(UserError, match=message):
                call(sweeps, "change", values=[faulty])
        with pytest.raises(
            UserError, match="n_trials, timeout and n_epochs would all be null; a sweep needs one of them"
        ):
            call(sweeps, "change", values=["n_trials=null", "timeout=null"])
        capsys.readouterr()
        wait_for(lambda: watched_seconds(sweeps.study()) > 0.1)  # written every five seconds
        call(sweeps, "change", values=["timeout=0.1"])
        assert "hydra.sweeper.timeout is used up: the sweep ends" in capsys.readouterr().out
        call(sweeps, "change", values=["timeout=null"])
        assert capsys.readouterr().out == "sweep: 3 trials\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    sweeps.trials_last(0)
    sweeps.ok(*command)  # the same command leaves the changed budget alone
    assert sum(trial.state == COMPLETE for trial in sweeps.trials()) == 3
    sweeps.ok(*SPACE, "hydra.sweeper.n_trials=4", "hydra.sweeper.timeout=3000")
    assert sum(trial.state == COMPLETE for trial in sweeps.trials()) == 4
    with pytest.raises(UserError, match=r"n_jobs: no sweep of sweep runs; give hydra\.sweeper\.n_jobs=2"):
        call(sweeps, "change", values=["n_jobs=2"])


def test_status_shows_the_sweep_that_another_process_runs(sweeps: Sweeps, capsys: pytest.CaptureFixture[str]) -> None:
    sweeps.trials_last(20)
    with sweeps.start(*SPACE, "hydra.sweeper.n_trials=9") as process:
        wait_for(lambda: running(sweeps) == [0])
        call(sweeps, "status", study=None)
        first, titles, trial, totals = capsys.readouterr().out.splitlines()
        assert first == "sweep: the sweep runs"
        assert titles.split()[:5] == ["trial", "worker", "epoch", "loss", "val_loss"]
        assert trial.startswith("#0") and "/20" in trial and "1/1" in trial
        assert totals.startswith("0/9 done, 1 running")
        call(sweeps, "status", json=True)
        document = json.loads(capsys.readouterr().out)
        assert document["runs"] and document["trials"] == {"running": 1}
        assert document["running"][0]["epochs"] == 20 and document["best"] is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    call(sweeps, "status", study=str(sweeps.folder / "multirun" / "sweep"))
    assert capsys.readouterr().out.startswith("sweep: no sweep runs since 20")
    call(sweeps, "status", study=None)
    assert "sweep                val_loss: 0/9 done" in capsys.readouterr().out
    with pytest.raises(UserError, match="swep: no such study"):
        call(sweeps, "status", study="swep")


def test_status_watches_until_the_sweep_ends(sweeps: Sweeps, capsys: pytest.CaptureFixture[str]) -> None:
    sweeps.trials_last(1.5)
    with sweeps.start(LEARNING_RATE, "epochs=2", *STEADY, "hydra.sweeper.n_trials=2") as process:
        wait_for(lambda: running(sweeps) == [0])
        began = time.monotonic()
        call(sweeps, "status", watch=True)
        assert process.wait(timeout=60) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "sweep: the sweep runs" and lines[-3].startswith("sweep: no sweep runs since")
    assert [line[:2] for line in lines if line.startswith("#")][-1] == "#1"
    assert lines[-2] == "2/2 done" and lines[-1].startswith("best #")
    assert time.monotonic() - began < 60


def test_where_each_point_is_tried_once_none_is_enqueued_and_no_number_of_trials_is_set(
    in_process: Callable[..., Sweeps], capsys: pytest.CaptureFixture[str]
) -> None:
    sweeps = in_process("optimizer=adamw,sgd", "epochs=1")
    with pytest.raises(UserError, match="this sweep tries each point of its space once, without being told"):
        call(sweeps, "enqueue", point=["optimizer=sgd"])
    with pytest.raises(UserError, match="n_trials: this sweep tries each point of its space once"):
        call(sweeps, "change", values=["n_trials=9"])
    capsys.readouterr()
    call(sweeps, "change", values=["timeout=300"])
    assert capsys.readouterr().out.startswith("sweep: each point once, or 5:00 minutes; no sweep runs")
    call(sweeps, "status")
    assert "2/2 done" in capsys.readouterr().out


def test_a_sweep_that_ends_at_once_does_not_count_as_one_that_runs(in_process: Callable[..., Sweeps]) -> None:
    in_process("optimizer=adamw,sgd", "epochs=1")
    sweeps = in_process("optimizer=adamw,sgd", "epochs=1")
    with pytest.raises(UserError, match="sweep: no sweep runs"):
        call(sweeps, "stop")


def test_a_choice_is_queued_as_the_sampler_would_draw_it() -> None:
    space = {"batch_size": CategoricalDistribution([64, 128]), "model.filters": IntDistribution(8, 64, step=8)}
    point = in_space({"batch_size": 64.0, "model.filters": 16.0}, Space(space, is_enumerated=False))
    assert [type(value) for value in point.values()] == [int, int]
