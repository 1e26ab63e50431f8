"""What MLflow has of runs and sweeps; what a tracker that fails costs."""

import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.training.trackers import registered
from tests.training.tracked import BEST, SETTINGS, context, needs, train, whole

# MLflow 3.17 under SQLAlchemy 2.1.
pytestmark = [
    needs("mlflow"),
    pytest.mark.usefixtures("alone"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, without a run: to make them takes seconds."""
    import mlflow

    file = tmp_path_factory.mktemp("tables") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}")
    return file


@pytest.fixture
def tables(database: Path, alone: None) -> None:
    shutil.copy(database, "mlflow.db")


def client() -> Any:
    """MLflow's, of the database in the current folder: by its whole path, for MLflow keeps what it has opened."""
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{Path('mlflow.db').resolve()}")


def mlflow_runs(condition: str = "") -> list[Any]:
    """The runs of MLflow, the oldest first."""
    found = client().search_runs([client().get_experiment_by_name("sweeper_digits").experiment_id], condition)
    return sorted(found, key=lambda run: run.info.start_time)


def children() -> list[Any]:
    return [run for run in mlflow_runs() if "mlflow.parentRunId" in run.data.tags]


def steps(run: Any, metric: str) -> list[int]:
    history = client().get_metric_history(run.info.run_id, metric)
    return sorted(value.step for value in history)


@pytest.mark.usefixtures("tables")
def test_mlflow_has_a_parent_for_the_sweep_and_a_child_for_each_trial() -> None:
    whole("mlflow", context())
    whole("mlflow", context("multirun/quick/1", trial=1), state="pruned")
    parent, first, second = mlflow_runs()
    assert [run.info.run_name for run in (parent, first, second)] == ["quick", "quick/0", "quick/1"]
    assert {run.data.tags["mlflow.parentRunId"] for run in (first, second)} == {parent.info.run_id}
    assert [run.info.status for run in (parent, first, second)] == ["FINISHED", "FINISHED", "KILLED"]
    assert second.data.tags["sweeper_digits.state"] == "pruned"
    assert first.data.params == {
        "optimizer": "adamw",
        "optimizer.learning_rate": "0.001",
        "model.normalization": "True",
    }
    history = RunFolder("multirun/quick/0").read_history()
    assert steps(first, "val_loss") == [1, 2] and first.data.metrics["val_loss"] == history[1]["val_loss"]
    assert first.data.metrics["best_val_loss"] == 0.25 and first.data.metrics["learning_rate"] > 0
    names = {file.path for file in client().list_artifacts(first.info.run_id)}
    assert names == {"figures", "history.csv", "metrics.json", "model.keras"}
    (picture,) = client().list_artifacts(first.info.run_id, "figures")
    assert picture.path == "figures/learning_curves.png"


@pytest.mark.usefixtures("tables")
def test_mlflow_gives_a_single_run_no_parent() -> None:
    whole("mlflow", context("outputs/one", study=None, trial=None), model=False)
    (run,) = mlflow_runs()
    assert run.info.run_name == "one" and "mlflow.parentRunId" not in run.data.tags
    assert "model.keras" not in {file.path for file in client().list_artifacts(run.info.run_id)}


@pytest.mark.usefixtures("tables")
def test_mlflow_continues_the_child_of_a_killed_trial_and_records_each_epoch_once() -> None:
    killed = context()
    train(registered.mlflow(killed), killed, epochs=2)
    assert [run.info.status for run in mlflow_runs()] == ["RUNNING", "RUNNING"]
    again = context("multirun/quick/5", trial=5, resumed=True, settings=SETTINGS | {"resume": "multirun/quick/0"})
    for row in RunFolder(killed.folder).read_history():
        RunFolder(again.folder).append_history(row)
    callback = registered.mlflow(again)
    train(callback, again, epochs=4, first=2)
    callback.on_run_end("finished")
    parent, child = mlflow_runs()
    assert child.info.run_name == "quick/5" and child.info.status == parent.info.status == "FINISHED"
    assert steps(child, "val_loss") == [1, 2, 3, 4]


@pytest.mark.usefixtures("tables")
def test_mlflow_goes_on_in_the_run_of_a_folder_that_a_kill_left_empty_but_not_in_a_finished_one() -> None:
    registered.mlflow(context()).on_train_begin()
    whole("mlflow", context())
    (child,) = children()
    file = Path("multirun/quick/0/.mlflow_run_id")
    assert file.read_text() == child.info.run_id
    RunFolder("multirun/quick/0").clear()
    whole("mlflow", context())
    assert [run.info.status for run in children()] == ["FINISHED", "FINISHED"]
    registered.mlflow(context("multirun/quick/1", trial=1)).on_train_begin()
    (open_still,) = (run for run in children() if run.info.status == "RUNNING")
    Path("multirun/quick/2").mkdir()
    Path("multirun/quick/2/.mlflow_run_id").write_text(open_still.info.run_id)
    whole("mlflow", context("multirun/quick/2", trial=2))
    assert client().get_run(open_still.info.run_id).info.status == "RUNNING", "a stranger's folder names another's run"


@pytest.mark.usefixtures("tables")
def test_mlflow_has_all_folds_of_a_trial_in_one_child() -> None:
    whole("mlflow", context("multirun/quick/0/fold_0"))
    second = context("multirun/quick/0/fold_1")
    callback = registered.mlflow(second)
    train(callback, second)
    RunFolder(second.folder).write_metrics({"state": "finished"} | BEST | {"val_loss": 0.75})
    callback.on_run_end("finished")
    (child,) = children()
    assert steps(child, "fold_0/val_loss") == steps(child, "fold_1/val_loss") == [1, 2]
    assert child.data.metrics["best_val_loss"] == 0.5 and child.info.status == "FINISHED"


BEGIN = """
import sys, time
from pathlib import Path
from sweeper_digits.training.trackers import registered
from sweeper_digits.training.context import RunContext
number = int(sys.argv[1])
folder = Path(f"multirun/quick/{number}")
folder.mkdir(parents=True)
callback = registered.mlflow(RunContext(folder, {"seed": number}, "quick", number, False))
Path(f"ready{number}").touch()
while not Path("go").exists():
    time.sleep(0.001)
callback.on_train_begin()
"""


@pytest.mark.slow
def test_mlflow_gets_one_parent_from_workers_that_begin_in_the_same_moment(tmp_path: Path) -> None:
    backend = os.environ | {"KERAS_BACKEND": "numpy"}  # imported in half the time; nothing is trained
    workers = [subprocess.Popen([sys.executable, "-c", BEGIN, str(number)], env=backend) for number in range(2)]
    while not all((tmp_path / f"ready{number}").exists() for number in range(2)):
        assert not any(worker.poll() for worker in workers)
        time.sleep(0.01)
    (tmp_path / "go").touch()
    assert [worker.wait(300) for worker in workers] == [0, 0]
    parents = mlflow_runs("tags.`sweeper_digits.sweep` = 'quick'")
    assert len(parents) == 1
    assert {run.data.tags["mlflow.parentRunId"] for run in children()} == {parents[0].info.run_id}
    assert len(children()) == 2


@pytest.mark.usefixtures("tables")
def test_mlflow_keeps_the_oldest_of_parents_that_machines_made_in_the_same_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mlflow

    create = mlflow.MlflowClient.create_run

    def with_a_rival(self: Any, experiment: str, *given: Any, **options: Any) -> Any:
        if "sweeper_digits.sweep" in options["tags"]:
            create(self, experiment, start_time=1, **options)
        return create(self, experiment, *given, **options)

    callback = registered.mlflow(context())
    with monkeypatch.context() as patched:
        patched.setattr(mlflow.MlflowClient, "create_run", with_a_rival)
        callback.on_train_begin()
    (parent,) = mlflow_runs("tags.`sweeper_digits.sweep` = 'quick'")
    assert parent.info.start_time == 1
    assert children()[0].data.tags["mlflow.parentRunId"] == parent.info.run_id


@pytest.mark.usefixtures("tables")
def test_mlflow_says_how_a_run_ended() -> None:
    states = {"diverged": "FAILED", "failed": "FAILED", "stopped": "KILLED", "pruned": "KILLED"}
    for trial, state in enumerate(states):
        run = context(f"multirun/quick/{trial}", trial=trial)
        RunFolder(run.folder).append_history({"epoch": 1, "loss": float("nan")})  # of the epoch that ended the run
        registered.mlflow(run).on_run_end(state)
    assert [child.info.status for child in children()] == [*states.values()]
    assert all(np.isnan(child.data.metrics["loss"]) for child in children())


@pytest.mark.usefixtures("tables")
def test_a_server_that_is_away_ends_the_run_in_one_line_without_its_password(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    callback = registered.mlflow(context())
    with pytest.raises(UserError, match=r"^callbacks=\[mlflow\]: .*; mend it, or leave it out$") as raised:
        callback.on_train_begin()
    callback.on_run_end("failed")
    assert "secret" not in str(raised.value) + caplog.text and "\n" not in str(raised.value)


@pytest.mark.usefixtures("tables")
def test_a_tracker_that_fails_later_costs_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = context()
    callback = registered.mlflow(run)

    def away(*given: Any, **options: Any) -> None:
        raise OSError("http://me:secret@host is away\nand more")

    monkeypatch.setattr(type(callback), "record", away)
    with caplog.at_level(logging.WARNING):
        train(callback, run)
        callback.on_run_end("finished")
    assert caplog.messages == ["mlflow     records no more: OSError: http://***@host is away"]
