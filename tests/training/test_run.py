"""Whole runs on 300 digits: what they leave, that they learn, and what each option changes."""

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

import sweeper_digits.training
from sweeper_digits.config import Config, parse
from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.split import splits
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.training import validation
from sweeper_digits.training.fit import fit, keep, prepare
from tests.conftest import ROOT, WHOLE

Train = Callable[..., RunFolder]


def configured(*overrides: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf")):
        return parse(compose("config", list(overrides)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, npz: Path) -> tuple[RunFolder, subprocess.CompletedProcess[str]]:
    """One run as a user starts it, on the 300 digits, with everything on."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = ["data=npz", f"data.path={npz}", "epochs=8", "batch_size=20", "model=small", "hydra.run.dir=run"]
    arguments += ["patience=null"]  # which epoch is the best differs between machines
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return RunFolder(folder / "run"), done


def test_a_run_learns_and_its_numbers_agree(whole: tuple[RunFolder, object]) -> None:
    run, _ = whole
    metrics, history = run.read_metrics(), run.read_history()
    assert [row["epoch"] for row in history] == list(range(1, 9))
    assert metrics["val_accuracy"] > 0.7  # 255 images; chance is 0.1
    best = min(history, key=lambda row: row["val_loss"])
    assert metrics["objective"] == metrics["val_loss"] == best["val_loss"]
    assert metrics["best_epoch"] == best["epoch"]
    assert (metrics["train_images"], metrics["validation_images"]) == (255, 45)
    matrix = np.array(metrics["confusion_matrix"])
    assert matrix.sum() == 45 and np.trace(matrix) / 45 == pytest.approx(metrics["val_accuracy"], abs=1e-6)
    assert metrics["state"] == "finished" and metrics["seed"] == 0
    assert {"python", "keras", "tensorflow", "numpy"} <= set(metrics["versions"])
    pixels = metrics["pixels"]
    assert (pixels["least"], pixels["most"], pixels["background"]) == (0, 255, "dark")
    assert pixels["images_per_class"] == [30] * 10 and pixels["orientation"] == "upright" and pixels["notes"] == []


def test_metrics_name_the_commit_of_the_code(whole: tuple[RunFolder, object]) -> None:
    run, _ = whole
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    commit = run.read_metrics()["git_commit"]
    assert commit in (head.stdout.strip(), f"{head.stdout.strip()}+changes") if head.returncode == 0 else commit is None


def test_saved_model_gives_the_best_epochs_loss(whole: tuple[RunFolder, object], digits: Dataset) -> None:
    from sweeper_digits.config import Holdout

    run, _ = whole
    (parts,) = splits(Holdout(test_size=0, seed=0, validation_size=0.15), digits.labels, digits.groups)
    model = keras.saving.load_model(run.model, safe_mode=True)
    probabilities = model.predict(digits.images[parts.validation], verbose=0)
    loss = -np.log(probabilities[np.arange(45), digits.labels[parts.validation]]).mean()
    # Validation ran in batches of another size, so bfloat16 may round sums differently.
    assert loss == pytest.approx(run.read_metrics()["val_loss"], rel=0.02)


def test_a_run_leaves_its_files_and_its_pictures(whole: tuple[RunFolder, object]) -> None:
    run, _ = whole
    names = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    pictures = ("augmentation", "confusion_matrix", "labels", "learning_curves", "mistakes")
    assert names == {
        ".hydra/begun.json",
        ".hydra/config.yaml",
        ".hydra/hydra.yaml",
        ".hydra/overrides.yaml",
        "history.csv",
        "images.npz",
        "metrics.json",
        "model.keras",
        "train.log",
        "validation.npz",
        *(f"figures/{name}.png" for name in pictures),
    }
    for name in pictures:
        assert (run.figures / f"{name}.png").stat().st_size > 5_000


def test_the_screen_shows_the_run_and_no_noise(whole: tuple[RunFolder, subprocess.CompletedProcess[str]]) -> None:
    run, done = whole
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["data", "pixels", "split", "device", "model"]
    assert sum(line.startswith("epoch ") for line in lines) == 8
    assert lines[1] == "pixels     0 to 255, dark background; 30 images of each class"
    assert "val_loss" in lines[6] and "images/s" in lines[6] and "left" in lines[6]
    metrics = run.read_metrics()
    assert lines[-8].split() == ["val_loss", f"{metrics['val_loss']:.4f}", "±", f"{metrics['val_loss_se']:.4f}"]
    assert lines[-1].split() == ["folder", "run"]


def test_each_step_can_be_called_alone(digits: Dataset, tmp_path: Path) -> None:
    config = configured("model=small", "model.filters=4", "epochs=2", "batch_size=32", "figures=false")
    prepared = prepare(config, digits, next(splits(config.split, digits.labels, digits.groups)))
    folder = RunFolder(tmp_path)
    fitted = fit(prepared, folder)
    metrics = keep(prepared, fitted, folder)
    assert fitted.history == folder.read_history() and fitted.probabilities.shape == (45, 10)
    assert metrics["val_loss"] == fitted.history[fitted.best_epoch]["val_loss"]
    assert folder.model.exists() and not folder.metrics.exists()


def test_few_images_are_drawn_too(train: Train, digits: Dataset, tmp_path: Path) -> None:
    chosen = np.r_[0:4, 30:34]
    np.savez(tmp_path / "few.npz", images=digits.images[chosen], labels=digits.labels[chosen])
    run = train(f"data.path={tmp_path / 'few.npz'}", "split.validation_size=0.25", "figures=true", "epochs=1")
    assert (run.figures / "augmentation.png").exists() and run.metrics.exists()


def test_a_run_notes_what_looks_off_and_validates_on_no_copy(train: Train, digits: Dataset, tmp_path: Path) -> None:
    places = np.r_[0:300, 0:300:2]
    np.savez(tmp_path / "copies.npz", images=255 - digits.images[places], labels=digits.labels[places])
    run = train(f"data.path={tmp_path / 'copies.npz'}", "epochs=1")
    pixels = run.read_metrics()["pixels"]
    text = (run.folder / "train.log").read_text()
    assert (pixels["background"], pixels["copies"]) == ("light", 150) and "data.invert=true" in text
    validation = places[run.read_validation().images]
    trained = np.delete(places, run.read_validation().images)
    assert len(validation) in range(60, 76) and not set(validation) & set(trained)


def test_pictures_come_after_the_metrics_and_one_that_fails_costs_a_line(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeper_digits.training import figures

    finished = []

    def fail(*arguments: object) -> None:
        finished.append((Path("run") / "metrics.json").exists())
        raise ValueError("no font")

    monkeypatch.setattr(figures, "draw_labels", fail)
    run = train("figures=true", "epochs=1")
    assert finished == [True]
    assert "WARNING figures    no labels.png: ValueError: no font\n" in (run.folder / "train.log").read_text("utf-8")
    assert (run.figures / "mistakes.png").exists() and not (run.figures / "labels.png").exists()


def test_a_process_that_trains_often_traces_once_each_forgets_models_and_can_lack_matplotlib(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable made while it is traced would make TensorFlow trace it again: half a second for each trial."""
    traced = []
    step = keras.Model.train_step

    def count(self: keras.Model, data: object) -> object:
        traced.append(1)
        return step(self, data)

    def graphs() -> int:
        gc.collect()
        return sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects())

    monkeypatch.setattr(keras.Model, "train_step", count)
    train(folder="first")
    first = graphs()
    assert len(traced) == 1
    monkeypatch.setitem(sys.modules, "sweeper_digits.training.figures", None)
    monkeypatch.delattr(sweeper_digits.training, "figures", raising=False)
    run = train("figures=true", "split=kfold", "split.folds=2", "epochs=1", folder="folds")
    assert len(traced) == 3 and graphs() <= first
    assert len(run.models()) == 2 and run.read_metrics()["state"] == "finished"
    assert (run.folder / "train.log").read_text("utf-8").count("WARNING figures    none: ") == 2


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_train_models_that_tensorflow_loads(
    command: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    tiny: list[str],
    digits: Dataset,
    backend: str,
) -> None:
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    options = ["hydra.run.dir=run", "epochs=4", "optimizer.learning_rate=0.01", "augmentation=elastic"]
    done = command(*tiny, *options, "clean_fraction=0.2", KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    metrics, history = RunFolder(tmp_path / "run").read_metrics(), RunFolder(tmp_path / "run").read_history()
    assert history[-1]["loss"] < history[0]["loss"] and backend in metrics["versions"]
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    saved = RunFolder(tmp_path / "run").read_validation()
    probabilities = model.predict(digits.images[saved.images], verbose=0)
    np.testing.assert_allclose(probabilities, saved.probabilities, atol=2e-3)  # saved as float16 logarithms


def precisions(run: RunFolder) -> set[str]:
    """In what the convolutions of a run's model compute; its logits are float32."""
    model = keras.saving.load_model(run.model)
    assert model.layers[-2].compute_dtype == "float32"
    return {layer.compute_dtype for layer in model.layers if "conv" in layer.name}


@pytest.mark.parametrize(
    "options",
    [
        ["precision=bfloat16", "optimizer.use_ema=true", "optimizer.ema_momentum=0.9"],
        ["precision=float16", "augmentation=strong", "clean_fraction=0.3"],
    ],
)
def test_a_network_learns_with_each_kind_of_training(train: Train, options: list[str]) -> None:
    run = train(*WHOLE, *options, "epochs=15", "optimizer.learning_rate=0.02")
    assert run.read_metrics()["val_accuracy"] > 0.4  # of 45 images; chance is 0.1, with a standard error of 0.045
    # Of a later run of this process too, which has forgotten the models of the first.
    assert precisions(run) == {options[0].removeprefix("precision=")}


def test_ema_validates_and_keeps_the_averaged_weights(train: Train) -> None:
    """The averaged weights barely move with momentum 0.9999, so the kept model is the initial one."""
    averaged = ["optimizer.use_ema=true", "optimizer.ema_momentum=0.9999", "epochs=8", "optimizer.learning_rate=0.01"]
    run = train(*WHOLE, *averaged)
    history = run.read_history()
    # The initial weights with the trained ones' averages of batch normalization: knows nothing, at 2.5 or so.
    assert history[-1]["loss"] < 1.8 and abs(history[-1]["val_loss"] - np.log(10)) < 0.4
    assert precisions(run) == {"float32"}


def test_clean_epochs_are_the_last_ones_and_train_on_images_as_they_are(train: Train) -> None:
    def losses(*overrides: str) -> list[float]:
        run = train(*overrides, "epochs=3", folder="-".join(o.replace("=", "_") for o in overrides))
        return [row["loss"] for row in run.read_history()]

    clean, augmented = losses("augmentation=none"), losses("augmentation=elastic", "clean_fraction=0.1")
    assert losses("augmentation=elastic", "clean_fraction=1") == clean
    first, *others = losses("augmentation=elastic", "clean_fraction=0.6")
    assert first == augmented[0] != clean[0] and others[0] != augmented[1]


def test_early_stopping_keeps_the_best_weights_and_waits_for_the_clean_epochs(train: Train) -> None:
    steep = ["optimizer.learning_rate=0.1", "schedule=constant"]
    options = [*WHOLE, *steep, "epochs=30", "patience=2", "augmentation=light"]
    early, late = (train(*options, f"clean_fraction={clean}", folder=f"c{clean}") for clean in (0, 0.5))
    metrics, losses = early.read_metrics(), [row["val_loss"] for row in early.read_history()]
    assert len(losses) < 15 and np.argmin(losses) == len(losses) - 3
    assert metrics["best_epoch"] == len(losses) - 2 and metrics["val_loss"] == min(losses)
    assert len(late.read_history()) >= 17


def test_a_run_keeps_the_weights_of_its_objectives_best_epoch(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = zip([0.9, 0.5, 0.7], [0.1, 0.3, 0.4], strict=True)

    def measure(self: validation.Validation, epoch: int, logs: dict[str, float]) -> None:
        logs["val_loss"], logs["val_accuracy"] = next(measured)

    monkeypatch.setattr(validation.Validation, "on_epoch_end", measure)
    metrics = train("objective=[params,val_accuracy]", "epochs=3").read_metrics()
    assert (metrics["best_epoch"], metrics["val_accuracy"], metrics["val_loss"]) == (3, 0.4, 0.7)


def test_a_search_without_multirun_says_that_nothing_is_drawn(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeper_digits.training import run

    monkeypatch.setattr(run, "run", lambda *given, **options: None)  # the line comes before it
    assert "search     optimizer: one run with its values, nothing is drawn; -m searches" in (
        (train("search=optimizer").folder / "train.log").read_text(encoding="utf-8")
    )
