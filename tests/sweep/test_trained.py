"""Sweeps that really train, on 300 digits: what the sleeping trials of the other tests cannot show."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from optuna.trial import TrialState

from sweeper_digits.runs.folder import RunFolder
from tests.conftest import WHOLE
from tests.sweep.conftest import LEARNING_RATE, STEADY, Sweeps, epochs_of, wait_for, workers_of

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


@pytest.fixture
def trained(
    train: Callable[..., RunFolder], training_sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Sweeps]:
    """Run a sweep that trains in this process."""

    def call(*overrides: str) -> Sweeps:
        train("--multirun", "hydra/launcher=basic", *overrides)
        return training_sweeps

    return call


def check_enumerated(folder: Path, points: list[tuple[object, ...]]) -> optuna.Study:
    """Assert that the sweep in a folder has tried these points, and has left the files of its result."""
    storage = f"sqlite:///{folder}/study.db"
    study = optuna.load_study(study_name=folder.name, storage=storage)
    assert sorted(tuple(trial.params.values()) for trial in study.trials) == points
    assert {trial.state for trial in study.trials} == {COMPLETE}
    for trial in study.trials:
        assert RunFolder(folder / str(trial.number)).read_metrics()["objective"] == trial.value
    results = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert results["best_params"] == study.best_params and results["best_value"] == study.best_value
    assert results["best_trial"]["number"] == study.best_trial.number
    assert len((folder / "trials.csv").read_text().splitlines()) == 1 + len(points)
    return study


def test_a_finite_space_is_enumerated_and_leaves_its_files(swept: Path) -> None:
    check_enumerated(swept / "multirun" / "first", [("adam", 1), ("adam", 2), ("sgd", 1), ("sgd", 2)])


@pytest.mark.slow
def test_two_workers_enumerate_a_finite_space(training_sweeps: Sweeps) -> None:
    sweeps = training_sweeps
    out = sweeps.ok("optimizer=adam,sgd", "model.dropout=0.1,0.3", "hydra.sweeper.n_jobs=2")
    folder = sweeps.folder / "multirun" / "sweep"
    study = check_enumerated(folder, [("adam", 0.1), ("adam", 0.3), ("sgd", 0.1), ("sgd", 0.3)])
    told = [trial.system_attrs["sweeper_digits:progress"]["worker"].rpartition("/")[2] for trial in study.trials]
    assert set(told) == {"0", "1"}
    assert len(re.findall(r"^#\d+ +val_loss", out, re.MULTILINE)) == 4
    results = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert results["best_trial"]["command"] in out
    # A finished study prints its result and trains nothing.
    again = sweeps.ok("optimizer=adam,sgd", "model.dropout=0.1,0.3", "hydra.sweeper.n_jobs=2")
    assert f"best       #{study.best_trial.number}" in again and len(sweeps.trials()) == 4


def test_bad_trials_are_pruned_and_cost_nothing_more(trained: Callable[..., Sweeps]) -> None:
    rates = [0.01, 0.012, 0.000101]
    sweeps = trained(
        LEARNING_RATE,
        f"search.points=[{','.join(f'{{optimizer.learning_rate:{rate}}}' for rate in rates)}]",
        "epochs=4",
        "schedule=constant",
        "hydra.sweeper.n_trials=3",
        "hydra/sweeper/pruner=median",
        "hydra.sweeper.pruner.n_startup_trials=2",
        "hydra.sweeper.pruner.n_warmup_steps=2",
    )
    trials = sweeps.trials()
    assert [t.params["optimizer.learning_rate"] for t in trials] == rates
    assert [t.state for t in trials] == [COMPLETE, COMPLETE, PRUNED]
    for trial in trials[2:]:
        run = sweeps.trial_folder(trial.number)
        metrics = run.read_metrics()
        assert metrics["state"] == "pruned" and metrics["epochs"] == len(run.read_history()) < 4
        assert len(trial.intermediate_values) == metrics["epochs"]
        assert not run.model.exists() and not run.checkpoint.exists()


@pytest.mark.parametrize(
    ("pruner", "startup", "folds"),
    [
        ("median", "n_startup_trials=1", 3),
        # Of fewer pairs it can be sure of nothing.
        pytest.param("wilcoxon", "n_startup_steps=2", 5, marks=pytest.mark.slow),
    ],
)
def test_folds_are_pruned_too(trained: Callable[..., Sweeps], pruner: str, startup: str, folds: int) -> None:
    sweeps = trained(
        LEARNING_RATE,
        "search.points=[{optimizer.learning_rate:0.01},{optimizer.learning_rate:0.000101}]",
        f"hydra/sweeper/pruner={pruner}",
        f"hydra.sweeper.pruner.{startup}",
        "split=kfold",
        f"split.folds={folds}",
        "epochs=2",
        "schedule=constant",
        "hydra.sweeper.n_trials=2",
    )
    good, bad = sweeps.trials()
    assert (good.state, bad.state) == (COMPLETE, PRUNED)
    # One value per epoch, counted over the folds, or one per fold.
    assert list(good.intermediate_values) == list(range(2 * folds if pruner == "median" else folds))
    metrics = sweeps.trial_folder(1).read_metrics()
    assert metrics["state"] == "pruned" and len(metrics["folds"]) < folds
    assert len(bad.intermediate_values) < len(good.intermediate_values)


@pytest.mark.slow
def test_a_killed_workers_training_continues_from_its_weights(training_sweeps: Sweeps) -> None:
    sweeps = training_sweeps
    arguments = (*WHOLE, *STEADY, LEARNING_RATE, "epochs=40", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2")
    with sweeps.start(*arguments) as process:
        wait_for(lambda: len(sweeps.checkpoints()) == 2)
        os.kill(workers_of(process, 2)[0].pid, signal.SIGKILL)
        out, error = process.communicate(timeout=200)
    assert process.returncode == 0, out + error
    assert sweeps.states() == {COMPLETE: 2, FAIL: 1}
    trials = sweeps.trials()
    (dead,) = [t for t in trials if t.state == FAIL]
    (retried,) = [t for t in trials if t.system_attrs.get("retry_history")]
    assert retried.system_attrs["retry_history"] == [dead.number] and retried.params == dead.params
    before, after = sweeps.trial_folder(dead.number), sweeps.trial_folder(retried.number)
    assert f"resumed    {before.folder}" in (after.folder / "train.log").read_text()
    assert epochs_of(after) == list(range(1, 41))
    done = int(before.read_checkpoint()["progress"][0])
    first, rest = after.read_history()[:done], after.read_history()[done:]
    assert first == before.read_history()[:done]
    # Fresh weights would begin again with the loss of the first epoch.
    assert rest[0]["loss"] < first[0]["loss"]


def test_a_diverging_trial_is_pruned(trained: Callable[..., Sweeps]) -> None:
    rate = "optimizer.learning_rate=interval(1e36,1e37)"
    sweeps = trained("optimizer=sgd", "schedule=constant", rate, "hydra.sweeper.n_trials=1")
    assert sweeps.states() == {PRUNED: 1}
    metrics = sweeps.trial_folder(0).read_metrics()
    assert metrics["state"] == "diverged"


def test_the_reported_metric_is_the_objective(trained: Callable[..., Sweeps]) -> None:
    sweeps = trained("objective=val_accuracy", LEARNING_RATE, "hydra.sweeper.n_trials=1")
    (trial,) = sweeps.trials()
    history = [row["val_accuracy"] for row in sweeps.trial_folder(0).read_history()]
    assert list(trial.intermediate_values.values()) == history


@pytest.mark.parametrize(
    "name", ["quick", *(pytest.param(one, marks=pytest.mark.slow) for one in ("optimizer", "architecture", "full"))]
)
def test_shipped_spaces_draw_points_that_train(trained: Callable[..., Sweeps], name: str) -> None:
    sampler = ["hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=0"]
    sweeps = trained(f"search={name}", "hydra.sweeper.n_trials=2", "epochs=1", *sampler)
    assert sum(sweeps.states(name).values()) == 2
    for trial in sweeps.trials(name):
        # A learning rate that was drawn may be too high; no point may fail.
        assert trial.state == COMPLETE or (trial.state == PRUNED and trial.user_attrs.get("error") is None)
        metrics = sweeps.trial_folder(trial.number, name).read_metrics()
        assert metrics["state"] == ("finished" if trial.state == COMPLETE else "diverged")
        if trial.state == COMPLETE:
            assert np.isfinite(trial.value)
        config = yaml.safe_load((sweeps.trial_folder(trial.number, name).folder / ".hydra/config.yaml").read_text())
        assert config["study"] == name and json.dumps(trial.params)
