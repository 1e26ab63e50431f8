"""Whole runs on 300 digits: what they leave, that they learn, repeat, continue and refuse."""

import contextlib
import csv
import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from sweeper_digits.data.digits import Digits
from sweeper_digits.runs.folder import Run
from tests.conftest import ROOT

Train = Callable[..., Run]


def without_times(run: Run) -> list[dict[str, float]]:
    times = ("seconds", "images_per_second")
    return [{key: value for key, value in row.items() if key not in times} for row in run.read_history()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, npz: Path) -> tuple[Run, subprocess.CompletedProcess[str]]:
    """One run as a user starts it, on the 300 digits, with everything on."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = ["data=npz", f"data.path={npz}", "epochs=12", "batch_size=20", "model=small", "hydra.run.dir=run"]
    arguments += ["patience=null"]  # which epoch is the best differs between machines
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return Run(folder / "run"), done


def test_a_run_learns_and_its_numbers_agree(whole: tuple[Run, object], digits: Digits) -> None:
    run, _ = whole
    metrics, history = run.read_metrics(), run.read_history()
    assert [row["epoch"] for row in history] == list(range(1, 13))
    assert metrics["val_accuracy"] > 0.7  # 255 images; chance is 0.1
    best = min(history, key=lambda row: row["val_loss"])
    assert metrics["objective"] == metrics["val_loss"] == best["val_loss"]
    assert metrics["best_epoch"] == best["epoch"]
    assert (metrics["train_images"], metrics["validation_images"]) == (255, 45)
    matrix = np.array(metrics["confusion_matrix"])
    assert matrix.sum() == 45 and np.trace(matrix) / 45 == pytest.approx(metrics["val_accuracy"], abs=1e-6)
    assert (
        metrics["state"] == "finished"
        and metrics["seed"] == 0
        and re.fullmatch(r"[0-9a-f]{40}(\+changes)?", metrics["git_commit"] or "0" * 40)
    )
    assert {"python", "keras", "tensorflow", "numpy"} <= set(metrics["versions"])


def test_a_training_step_is_traced_once(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable made while it is traced would make TensorFlow trace it again: half a second for each trial."""
    traced = []
    step = keras.Model.train_step
    monkeypatch.setattr(keras.Model, "train_step", lambda self, data: traced.append(1) or step(self, data))  # type: ignore[func-returns-value]
    train()
    assert len(traced) == 1


@pytest.mark.parametrize(("option", "operation"), [("strong", "ImageProjectiveTransformV3"), ("elastic", "Floor")])
def test_every_operation_of_a_step_runs_on_a_gpu(digits: Digits, option: str, operation: str) -> None:
    """By TensorFlow's list of its GPU kernels, which its package for CPUs has too.

    One that has none is placed on the CPU without a word: of uint8 images, each step would have copied all of them.
    """
    import tensorflow as tf
    from tensorflow.python.framework import kernels

    from sweeper_digits import command_line
    from sweeper_digits.results.predict import compose_config
    from sweeper_digits.runs import recipe
    from sweeper_digits.training import run as training
    from sweeper_digits.training.augmentation import RandomWarp
    from sweeper_digits.training.models import build_cnn
    from sweeper_digits.training.optimizers import build_optimizer

    def on_gpu(operation: tf.Operation) -> bool:
        types = {}
        for name in ("T", "dtype", "Tparams", "DstT", "SrcT", "type", "out_type"):
            with contextlib.suppress(ValueError, AttributeError):
                types[name] = operation.get_attr(name).as_datatype_enum
        return any(
            kernel.device_type in ("GPU", "DEFAULT")
            and all(types.get(c.name) in (None, *c.allowed_values.list.type) for c in kernel.constraint)
            for kernel in kernels.get_registered_kernels_for_op(operation.type).kernel
        )

    config = compose_config([f"augmentation={option}"], recipe.composer(command_line.CONF))
    augmentation = RandomWarp(**vars(config.augmentation), seed=0)
    trainee = training._trainee(digits.images, augmentation, build_cnn(**vars(config.model)))
    optimizer = build_optimizer(config.optimizer, config.schedule, 2, 2)
    training._compile(trainee, optimizer, 1)
    optimizer.build(trainee.trainable_variables)
    batch = tf.TensorSpec((100,), tf.int32)
    step = tf.function(lambda x, y: trainee.train_step((x, y))).get_concrete_function(batch, batch)
    operations = step.graph.get_operations()
    assert {"Conv2D", "Conv2DBackpropFilter", operation} <= {o.type for o in operations}
    assert [o.name for o in operations if not on_gpu(o)] == []


def test_saved_model_gives_the_best_epochs_loss(whole: tuple[Run, object], digits: Digits) -> None:
    from sweeper_digits.data.split import splits
    from sweeper_digits.options import Holdout

    run, _ = whole
    (parts,) = splits(Holdout(test_size=0, seed=0, validation_size=0.15), digits.labels)
    model = keras.saving.load_model(run.model, safe_mode=True)
    probabilities = model.predict(digits.images[parts.validation], verbose=0)
    loss = -np.log(probabilities[np.arange(45), digits.labels[parts.validation]]).mean()
    # Validation ran in batches of another size, so bfloat16 may round sums differently.
    assert loss == pytest.approx(run.read_metrics()["val_loss"], rel=0.02)


def test_a_run_leaves_its_files_and_its_pictures(whole: tuple[Run, object]) -> None:
    run, _ = whole
    names = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    pictures = ("augmentation", "confusion_matrix", "labels", "learning_curves", "mistakes")
    assert names == {
        ".hydra/config.yaml",
        ".hydra/hydra.yaml",
        ".hydra/overrides.yaml",
        "history.csv",
        "metrics.json",
        "model.keras",
        "train.log",
        "validation.npz",
        *(f"figures/{name}.png" for name in pictures),
    }
    for name in pictures:
        assert (run.figures / f"{name}.png").stat().st_size > 5_000


def test_the_screen_shows_the_run_and_no_noise(whole: tuple[Run, subprocess.CompletedProcess[str]]) -> None:
    _, done = whole
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["data", "split", "device", "model"]
    assert sum(line.startswith("epoch ") for line in lines) == 12
    assert "val_loss" in lines[5] and "images/s" in lines[5] and "left" in lines[5]
    assert lines[-1].split() == ["folder", "run"]


def test_same_seed_same_history_other_seed_another(train: Train) -> None:
    first = train("model.dropout=0.3", folder="a")
    again = train("model.dropout=0.3", folder="b")
    other = train("model.dropout=0.3", "seed=1", folder="c")
    assert without_times(first) == without_times(again) != without_times(other)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_train_models_that_tensorflow_loads(
    command: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    tiny: list[str],
    digits: Digits,
    backend: str,
) -> None:
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    options = ["hydra.run.dir=run", "epochs=6", "optimizer.learning_rate=0.01", "augmentation=elastic"]
    done = command(*tiny, *options, "clean_fraction=0.2", KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    metrics, history = Run(tmp_path / "run").read_metrics(), Run(tmp_path / "run").read_history()
    assert history[-1]["loss"] < history[0]["loss"] and backend in metrics["versions"]
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    saved = Run(tmp_path / "run").read_validation()
    probabilities = model.predict(digits.images[saved.images], verbose=0)
    np.testing.assert_allclose(probabilities, saved.probabilities, atol=2e-3)  # saved as float16 logarithms


@pytest.mark.parametrize("option", ["strong", "elastic"])
def test_clean_epochs_are_the_last_ones_and_train_on_images_as_they_are(train: Train, option: str) -> None:
    def losses(*overrides: str) -> list[float]:
        run = train(*overrides, "epochs=3", folder="-".join(o.replace("=", "_") for o in overrides))
        return [row["loss"] for row in run.read_history()]

    clean, augmented = losses("augmentation=none"), losses(f"augmentation={option}", "clean_fraction=0.1")
    assert losses(f"augmentation={option}", "clean_fraction=1") == clean
    first, *others = losses(f"augmentation={option}", "clean_fraction=0.6")
    assert first == augmented[0] != clean[0] and others[0] != augmented[1]


def test_early_stopping_keeps_the_best_weights(train: Train) -> None:
    run = train("epochs=30", "patience=2", "optimizer.learning_rate=0.1", "schedule=constant", "augmentation=none")
    metrics, losses = run.read_metrics(), [row["val_loss"] for row in run.read_history()]
    assert len(losses) < 30
    assert np.argmin(losses) == len(losses) - 3
    assert metrics["best_epoch"] == len(losses) - 2 and metrics["val_loss"] == min(losses)


def test_early_stopping_waits_for_the_clean_epochs(train: Train) -> None:
    options = ["epochs=30", "patience=2", "optimizer.learning_rate=0.1", "schedule=constant", "augmentation=light"]
    early, late = (len(train(*options, f"clean_fraction={c}", folder=f"c{c}").read_history()) for c in (0, 0.5))
    assert early < 15 and late >= 17


def test_kfold_reports_mean_and_deviation_of_its_folds(train: Train) -> None:
    run = train("split=kfold", "split.folds=3", "epochs=1")
    metrics = run.read_metrics()
    losses = [run.fold(number).read_metrics()["val_loss"] for number in range(3)]
    assert metrics["objective"] == metrics["val_loss"] == pytest.approx(np.mean(losses))
    assert metrics["val_loss_std"] == pytest.approx(np.std(losses, ddof=1))
    single = train("split=kfold", "split.folds=3", "split.fold=2", "epochs=1", folder="single")
    assert single.read_metrics()["val_loss"] == losses[2]


def test_all_trains_every_epoch_without_validation(train: Train) -> None:
    run = train("split=all", "split.test_size=0.2")
    metrics = run.read_metrics()
    assert metrics["train_images"] == 240 and metrics["validation_images"] == 0
    assert metrics["objective"] is None and metrics["best_epoch"] == 2 and "val_loss" not in metrics


def test_all_is_refused_where_an_objective_is_needed(train: Train) -> None:
    with pytest.raises(SystemExit, match="split=all: a sweep needs a validation part"):
        train("split=all", "hydra/sweeper=basic", "hydra.mode=MULTIRUN", "hydra.sweep.dir=sweep", "seed=1,2")


@pytest.mark.parametrize(
    "option", ["optimizer.use_ema=true", "precision=bfloat16", "augmentation=strong", "clean_fraction=0.3"]
)
def test_options_train(train: Train, option: str) -> None:
    history = train(option, "epochs=6").read_history()
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_models_compute_in_the_precision_of_the_run(train: Train, precision: str) -> None:
    for folder in ("first", "later"):  # a later run of the same process forgets the models of the first
        run = train(f"precision={precision}", "epochs=1", folder=folder)
        model = keras.saving.load_model(run.model)
        assert {layer.compute_dtype for layer in model.layers if "conv" in layer.name} == {precision}
        assert model.get_layer("logits").compute_dtype == "float32"


def test_precision_float16_scales_the_loss_and_trains(train: Train) -> None:
    history = train("precision=float16", "epochs=6").read_history()
    assert history[-1]["loss"] < history[0]["loss"]


def test_ema_validates_and_keeps_the_averaged_weights(train: Train) -> None:
    """The averaged weights barely move with momentum 0.9999, so the kept model is the initial one."""
    run = train("optimizer.use_ema=true", "optimizer.ema_momentum=0.9999", "epochs=8", "optimizer.learning_rate=0.01")
    history = run.read_history()
    # The initial weights with the trained ones' averages of batch normalization: knows nothing, at 2.5 or so.
    assert history[-1]["loss"] < 1.8 and abs(history[-1]["val_loss"] - np.log(10)) < 0.4


START = """
import os, sys
sys.path.insert(0, {root!r})
from sweeper_digits import command_line
from sweeper_digits.training import callbacks
begin = callbacks.Checkpoint.on_epoch_begin
def then_wait(self, epoch, logs=None):
    begin(self, epoch, logs)
    if epoch == {epoch}:
        print("READY", flush=True)
        __import__("time").sleep(60)
callbacks.Checkpoint.on_epoch_begin = then_wait
import train
command_line.start(train.main)
"""


@pytest.mark.parametrize("extra", [[], ["optimizer.use_ema=true", "optimizer=rmsprop"], ["precision=float16"]])
def test_killed_run_continues_as_if_never_killed(
    train: Train, tiny: list[str], tmp_path: Path, extra: list[str]
) -> None:
    arguments = [*tiny, "epochs=5", "model.dropout=0.3", *extra]
    whole = train("epochs=5", "model.dropout=0.3", *extra, folder="whole")
    code = START.format(root=str(ROOT), epoch=3)
    command = [sys.executable, "-c", code, "hydra.run.dir=killed", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        while not process.stdout.readline().startswith("READY"):
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    killed = Run(tmp_path / "killed")
    assert killed.checkpoint.exists() and not killed.metrics.exists()
    resumed = train("resume=killed", folder="resumed", defaults=[])
    assert without_times(resumed) == without_times(whole)
    ours, theirs = (keras.saving.load_model(run.model).get_weights() for run in (resumed, whole))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not resumed.checkpoint.exists()


def test_resumed_run_killed_in_its_first_epoch_can_be_continued(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeper_digits.training import callbacks

    def dies_in(epoch: int) -> Callable[..., None]:
        def begin(self: callbacks.History, now: int, logs: dict[str, float] | None = None) -> None:
            original(self, now, logs)
            if now == epoch:
                raise KeyboardInterrupt

        return begin

    original = callbacks.History.on_epoch_begin
    whole = train("epochs=4", folder="whole")
    for source, folder, epoch in (([], "first", 3), (["resume=first"], "second", 3)):
        monkeypatch.setattr(callbacks.History, "on_epoch_begin", dies_in(epoch))
        # History begins an epoch before Checkpoint does: the checkpoint is that of the epoch before.
        with pytest.raises(SystemExit):
            train("epochs=4", *source, folder=folder)
    monkeypatch.undo()
    resumed = train("resume=second", folder="third", defaults=[])
    assert without_times(resumed) == without_times(whole)


def test_resumed_folds_bring_their_files_along(train: Train, tmp_path: Path) -> None:
    folds = ("split=kfold", "split.folds=2", "epochs=2")
    whole = train(*folds, folder="whole")
    killed = train(*folds, folder="killed")
    killed.metrics.unlink()
    for file in (killed.fold(1).metrics, killed.fold(1).model):
        file.unlink()
    resumed = train("resume=killed", folder="resumed", defaults=[])
    assert "already finished" in (resumed.folder / "train.log").read_text()
    assert len(resumed.models()) == 2 and len(resumed.read_validation().labels) == 300
    assert [len(fold.read_history()) for fold in resumed.folds()] == [2, 2]
    assert resumed.read_metrics()["val_loss"] == whole.read_metrics()["val_loss"]
    with pytest.raises(SystemExit, match="this run has finished"):
        train("resume=whole", folder="again", defaults=[])


def test_few_images_are_drawn_too(train: Train, digits: Digits, tmp_path: Path) -> None:
    chosen = np.r_[0:4, 30:34]
    np.savez(tmp_path / "few.npz", images=digits.images[chosen], labels=digits.labels[chosen])
    run = train(f"data.path={tmp_path / 'few.npz'}", "split.validation_size=0.25", "figures=true", "epochs=1")
    assert (run.figures / "augmentation.png").exists() and run.metrics.exists()


def test_resume_says_what_cannot_be_continued(train: Train, tmp_path: Path) -> None:
    train("epochs=1", folder="done")
    with pytest.raises(SystemExit, match="this run has finished"):
        train("resume=done", folder="again")
    with pytest.raises(SystemExit, match="no run folder there"):
        train("resume=nowhere", folder="again")
    (tmp_path / "done" / "metrics.json").unlink()
    with pytest.raises(SystemExit, match="no checkpoint there"):
        train("resume=done", folder="again")


def test_diverging_training_stops_and_keeps_its_history(train: Train) -> None:
    with pytest.raises(SystemExit, match=r"became (nan|inf) in epoch \d: training diverged; lower"):
        train("optimizer=sgd", "optimizer.learning_rate=1e37", "schedule=constant", folder="nan")
    run = Run(Path("nan"))
    assert len(run.read_history()) >= 1 or run.history.read_text().count("\n") >= 2
    assert not run.metrics.exists() and not run.model.exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["optimizer=adamm"],
            r"optimizer=adamm: no such option \(did you mean 'adam' or 'nadam'\?\); choose from",
        ),
        (["epochs=0"], r"epochs=0: must be in \[1, inf\)"),
        (["data=kaggle", "data.path=???"], r"data\.path: a value is needed"),
        (["data=kaggle", "data.path=nowhere"], r"data\.path=nowhere: no such file or folder"),
        (["model.dropuot=1"], r"dropuot.*Did you mean.*dropout"),
        (["split.validation_size=1.5"], r"validation_size=1.5: must be in \(0, 1\)"),
        (["optimizer._target_=os.system"], r"os\.system"),
    ],
)
def test_bad_input_is_one_line(train: Train, overrides: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        train(*overrides)
    text = str(caught.value)
    assert re.search(message, text) and "\n" not in text and text.startswith("error: ")


def test_bad_input_as_a_user_sees_it(command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = command("data=kaggle", "data.path=nowhere.zip")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: data.path=nowhere.zip: no such file or folder\n"
    full = command("data=kaggle", "data.path=nowhere.zip", HYDRA_FULL_ERROR="1")
    assert full.returncode == 1 and "Traceback" in full.stderr and "UserError" in full.stderr


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs a folder that cannot be written"
)
def test_unwritable_folder_is_one_line(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = command("hydra.run.dir=file/run")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1 and "file" in done.stderr


def test_full_disk_is_one_line(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Run, row: dict[str, float]) -> None:
        raise OSError(28, "No space left on device", str(self.history))

    monkeypatch.setattr(Run, "append_history", full)
    with pytest.raises(SystemExit, match=r"history.csv: No space left on device"):
        train()


def test_help_and_cfg_import_nothing_heavy(tmp_path: Path) -> None:
    for argument in ("--help", "--cfg=job"):
        code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
sys.argv = ["train.py", {argument!r}]
from sweeper_digits import command_line
import train
try:
    command_line.start(train.main)
finally:
    heavy = {{"tensorflow", "keras", "optuna", "pandas", "sklearn", "matplotlib"}} & set(sys.modules)
    assert not heavy, heavy
"""
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "learning_rate" in done.stdout
        assert time.perf_counter() - started < 10  # 0.4 s on an idle machine; a heavy import takes far longer
    assert not list(tmp_path.iterdir())


def test_history_is_written_as_it_goes_and_survives_a_cut_row(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.append_history({"epoch": 1, "loss": 0.5})
    run.append_history({"epoch": 2, "loss": 0.25})
    with run.history.open("a") as stream:
        stream.write("3")
    assert run.read_history() == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    with run.history.open(newline="") as stream:
        assert next(csv.reader(stream)) == ["epoch", "loss"]


def test_files_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    from sweeper_digits.runs.folder import replacing

    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"old": 1}))
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_forgets_the_models_that_it_trained(train: Callable[..., Run]) -> None:
    def graphs() -> int:
        gc.collect()
        return sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects())

    train("epochs=1", folder="first")
    first = graphs()
    for number in range(3):
        train("epochs=1", folder=f"later{number}")
    assert graphs() <= first
