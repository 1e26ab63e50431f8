"""What Weights & Biases and TensorBoard have of runs, read back from what was written."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.training.trackers import registered
from tests.training.tracked import SETTINGS, context, needs, train, whole

pytestmark = pytest.mark.usefixtures("alone")


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format, which Weights & Biases writes after 7 bytes of its own.

    A block has 32 KiB. Each part of a record begins with a checksum of 4 bytes, its length, and whether it is the last.
    """
    place, record = 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            yield record
            record = b""


def wandb_records(folder: Path) -> list[Any]:
    """The records that Weights & Biases wrote into its own folder of a run, in order."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # its service writes the last block when it ends
    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    return [Record.FromString(data) for file in files for data in leveldb_records(file.read_bytes())]


def wandb_history(records: list[Any], name: str) -> list[float]:
    items = [item for record in records for item in record.history.item]
    return [json.loads(item.value_json) for item in items if name in (item.key, *item.nested_key)]


@needs("wandb")
def test_wandb_has_the_trials_of_a_sweep_in_one_group() -> None:
    run = context()
    whole("wandb", run, state="pruned", model=True)
    records = wandb_records(run.folder)
    begun = next(record.run for record in records if record.HasField("run"))
    assert (begun.project, begun.run_group, begun.display_name) == ("sweeper_digits", "quick", "quick/0")
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert {key: config.get(key) for key in SETTINGS} == {
        **dict.fromkeys(SETTINGS),
        "optimizer": "adamw",
        "optimizer.learning_rate": 0.001,
        "model.normalization": True,
    }
    rows = RunFolder(run.folder).read_history()
    assert wandb_history(records, "val_loss") == [row["val_loss"] for row in rows]
    summary = {item.key: item.value_json for record in records for item in record.summary.update}
    assert summary["state"] == '"pruned"' and summary["best_val_loss"] == "0.25"
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]
    assert [tag for record in records for tag in record.run.tags] == ["pruned"]
    assert wandb_history(records, "learning_curves")
    assert [record.artifact.type for record in records if record.HasField("artifact")] == ["model"]


@needs("wandb")
def test_wandb_continues_the_run_of_a_killed_trial_under_its_id() -> None:
    killed = context()
    callback = registered.wandb(killed)
    train(callback, killed)
    callback.on_run_end("stopped")
    again = context("multirun/quick/5", trial=5, resumed=True, settings=SETTINGS | {"resume": "multirun/quick/0"})
    for row in RunFolder(killed.folder).read_history():
        RunFolder(again.folder).append_history(row)
    resumed = registered.wandb(again)
    train(resumed, again, epochs=3, first=2)
    resumed.on_run_end("diverged")
    records = wandb_records(again.folder)
    ids = [record.run.run_id for record in (*wandb_records(killed.folder), *records) if record.HasField("run")]
    assert len(set(ids)) == 1
    assert len(wandb_history(records, "val_loss")) == 3  # all epochs: the folder alone can be synchronized
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [1]


@needs("wandb")
def test_wandb_has_the_folds_of_a_run_in_one_group() -> None:
    run = context("outputs/one/fold_0", study=None, trial=None)
    whole("wandb", run, epochs=1)
    begun = next(record.run for record in wandb_records(run.folder) if record.HasField("run"))
    assert (begun.run_group, begun.display_name) == ("one", "one/fold_0")


@needs("wandb")
def test_wandb_says_that_nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="nobody is logged in; type wandb login, or export WANDB_MODE=offline"):
        registered.wandb(context()).on_train_begin()


def tensorboard_values(folder: Path) -> dict[str, Any]:
    """The last value of each tag in the event files of one folder; of HParams, what it says."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.plugins.hparams import metadata
    from tensorboard.util.tensor_util import make_ndarray

    values: dict[str, Any] = {}
    for path in sorted(folder.glob("events*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                plugin = value.metadata.plugin_data
                if plugin.plugin_name == metadata.PLUGIN_NAME:
                    kind = value.tag.rpartition("/")[2]
                    values[kind] = getattr(metadata, f"parse_{kind}_plugin_data")(plugin.content)
                else:
                    values[value.tag] = make_ndarray(value.tensor).item()
    return values


@needs("tensorboard")
@pytest.mark.parametrize(("state", "status"), [("finished", 1), ("pruned", 0), ("diverged", 2)])
def test_tensorboard_has_the_curves_and_what_hparams_compares(state: str, status: int) -> None:
    run = context()
    whole("tensorboard", run, state=state)
    folder = run.folder / "tensorboard"
    rows = RunFolder(run.folder).read_history()
    assert tensorboard_values(folder / "train")["epoch_loss"] == pytest.approx(rows[1]["loss"])
    assert tensorboard_values(folder / "validation")["epoch_loss"] == pytest.approx(rows[1]["val_loss"])
    own = tensorboard_values(folder)
    started = own["session_start_info"]
    assert {key: value.WhichOneof("kind") for key, value in started.hparams.items()} == {
        "optimizer": "string_value",
        "optimizer.learning_rate": "number_value",
        "model.normalization": "bool_value",
    }
    assert own["best_val_loss"] == 0.25 and own["best_val_accuracy"] == 0.75
    assert own["session_end_info"].status == status


@needs("tensorboard")
def test_hparams_compares_by_what_is_drawn_and_names_the_trial_first(tmp_path: Path) -> None:
    for name in ("0", "1/fold_2"):
        run = context(f"multirun/quick/{name}", drawn=("optimizer", "model.normalization"))
        whole("tensorboard", run, epochs=1)
        started = tensorboard_values(run.folder / "tensorboard")["session_start_info"]
        assert {*started.hparams} == {"optimizer", "model.normalization"}  # not the learning rate of the optimizer
        assert started.group_name == f"{name} in {Path('multirun/quick').resolve()}"
