"""One run: build, fit, evaluate, write, return the objective. The only caller of fit()."""

import functools
import importlib.metadata
import logging
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from sweeper_digits import screen
from sweeper_digits.data.digits import CLASSES, Digits, load
from sweeper_digits.data.split import Parts, splits
from sweeper_digits.errors import Diverged, UserError
from sweeper_digits.options import All
from sweeper_digits.runs.folder import Run, replacing
from sweeper_digits.runs.predictions import Predictions, by_class
from sweeper_digits.schema import BY_EPOCH, METRIC_OF, Config
from sweeper_digits.training import device as hardware
from sweeper_digits.training import export as exporting
from sweeper_digits.training import reporting as trials
from sweeper_digits.training.augmentation import RandomWarp
from sweeper_digits.training.callbacks import BestWeights, Checkpoint, CleanEpochs, History, Report, Validation
from sweeper_digits.training.models import build_cnn, from_float
from sweeper_digits.training.optimizers import build_optimizer

log = logging.getLogger(__name__)

PREDICT_BATCH = 480  # images; more gain nothing on a CPU and cost memory
TIMED = 2 * PREDICT_BATCH  # images


def run(config: Config, folder: str | Path, in_sweep: bool = False) -> float | list[float] | None:
    """Train as configured, leave everything in a folder, and return the objective.

    With split=kfold and no fold named, each fold is trained in a folder of its own and the
    objective is the mean over the folds. With several objectives they are returned as a list. A
    trial that its sweep prunes, or that diverges, returns None and leaves metrics.json saying so.

    Args:
        config: The run.
        folder: Where its files go; made by the caller.
        in_sweep: Whether it is a trial of a sweep.

    Raises:
        UserError: Bad input, or a loss that became NaN.
    """
    started = time.perf_counter()
    if isinstance(config.split, All) and in_sweep:
        raise UserError("split=all: a sweep needs a validation part for its objective; use split=holdout or kfold")
    here = Run(folder)
    source = _source(config, in_sweep)
    device = hardware.choose_device(config.device)
    precision = hardware.choose_precision(config.precision, device)
    exporting.check_packages(config.export)
    digits = load(config.data)
    if digits.labels is None:
        raise UserError(f"{digits.source}: training needs labels")
    parts = list(splits(config.split, digits.labels))
    if config.from_run:
        log.info("as         %s", config.from_run)
    log.info("data       %s: %s images of 28x28", digits.source, f"{len(digits.images):,}")
    log.info("split      %s", _describe(parts, len(digits.labels)))
    log.info("device     %s, %s, keras %s on %s", hardware.describe(device), precision, keras.__version__, _backend())
    with keras.device(device):
        keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
        try:
            if len(parts) == 1:
                metrics = train(config, digits, parts[0], here, source)
            else:
                metrics = _train_folds(config, digits, parts, here, source)
        except Diverged as error:
            if (trial := trials.running()) is None:
                raise
            trial.diverge(error.epoch, config.epochs)
            metrics = {"state": "diverged", "error": str(error)}
    finished = "state" not in metrics
    values: Any = [metrics.get(METRIC_OF.get(name, name)) for name in config.objective] if finished else None
    objective = values[0] if values and len(values) == 1 else values
    about = {
        "state": "finished",
        "objectives": config.objective,
        "objective": objective,
        "run_seconds": round(time.perf_counter() - started, 3),
        "precision": precision,
        "device": device,
        "seed": config.seed,
        "data": digits.source,
        "versions": _versions(),
        "git_commit": _git_commit(),
    }
    try:
        if finished:
            log.info("")
            _show(about | metrics)
            for trained in here.models() if config.export else []:
                exporting.export(config, trained, digits.images[: exporting.COMPARED])
    finally:  # a failed export costs no result
        here.write_metrics(about | metrics)
    if not finished:
        return None
    log.info("%-13s %s", "folder", screen.relative(here.folder))
    return objective


def _source(config: Config, in_sweep: bool) -> Run | None:
    source = Run(config.resume) if config.resume else None
    # In a sweep, a trial may go on from folds that were all finished when its process died.
    if source and source.metrics.exists() and not in_sweep:
        raise UserError(f"resume={config.resume}: this run has finished; nothing is left to continue")
    return source


def _show(metrics: dict[str, Any]) -> None:
    for name in ("val_loss", "val_accuracy", "loss", "accuracy"):
        if name in metrics:
            spread = f" ± {metrics[f'{name}_std']:.4f}" if f"{name}_std" in metrics else ""
            log.info("%-13s %.4f%s", name, metrics[name], spread)
    log.info("%-13s %g", "best epoch", metrics["best_epoch"])
    log.info("%-13s %s", "images/s", f"{metrics['images_per_second']:,.0f}")
    log.info("%-13s %.1f", "seconds", metrics["run_seconds"])


def _train_folds(config: Config, digits: Digits, parts: list[Parts], here: Run, source: Run | None) -> dict[str, Any]:
    """Train each fold and return the means, with standard deviations as `<name>_std`."""
    folds = []
    if trial := trials.running():
        trial.splits = len(parts)
    for number, part in enumerate(parts):
        log.info("\nfold %d of %d", number + 1, len(parts))
        fold, fold_source = here.fold(number), source.fold(number) if source else None
        done = fold_source.read_metrics() if fold_source and fold_source.model.exists() else None
        if fold_source and done and done["state"] == "finished":
            log.info("already finished: val_loss %.4f", done["val_loss"])
            if fold_source.folder.resolve() != fold.folder.resolve():
                shutil.copytree(fold_source.folder, fold.folder, dirs_exist_ok=True)
            metrics = done
        else:
            begun = fold_source if fold_source and fold_source.checkpoint.exists() else None
            metrics = train(config, digits, part, fold, begun)
        fold.write_metrics({"state": "finished"} | metrics)
        folds.append(metrics)
        if trial and (trial.pruned or trial.fold(metrics[_reported(config)])):
            return {"state": "pruned", "folds": folds}
    names = [name for name, value in folds[0].items() if isinstance(value, int | float)]
    means = {name: float(np.mean([fold[name] for fold in folds])) for name in names}
    spreads = {
        f"{name}_std": float(np.std([fold[name] for fold in folds], ddof=1))
        for name in ("loss", "accuracy", "val_loss", "val_accuracy")
    }
    totals = {name: sum(fold[name] for fold in folds) for name in ("seconds", "epochs")}
    means["parameters"] = folds[0]["parameters"]
    return means | spreads | totals | {"folds": [{n: fold[n] for n in names} for fold in folds]}


def _reported(config: Config) -> str:
    """Return the metric that a sweep's pruner compares: the objective, if epochs measure it."""
    return config.objective[0] if config.objective[0] in BY_EPOCH else "val_loss"


def train(config: Config, digits: Digits, parts: Parts, here: Run, source: Run | None) -> dict[str, Any]:
    """Train one model on one split and write all its files but metrics.json.

    Args:
        config: The run.
        digits: Labelled.
        parts: Which of the digits train and which validate.
        here: Where to write.
        source: The run whose checkpoint is continued, if any.

    Returns:
        The metrics, of the best epoch's weights.

    Raises:
        UserError: The loss became NaN; history.csv stays.
    """
    started = time.perf_counter()
    labels = digits.labels
    assert labels is not None  # noqa: S101 - `run` has refused it
    hardware.forget_models()
    keras.utils.set_random_seed(config.seed)
    model = build_cnn(**vars(config.model))
    augmentation = RandomWarp(**vars(config.augmentation), seed=config.seed)
    trainee = _trainee(digits.images, augmentation, model)
    batch = min(config.batch_size, len(parts.train))
    steps, steps_per_execution = _steps(len(parts.train) // batch)
    optimizer = build_optimizer(config.optimizer, config.schedule, steps, config.epochs)
    _compile(trainee, optimizer, steps_per_execution)
    log.info("model      %s parameters", f"{model.count_params():,}")
    clean = round(config.clean_fraction * config.epochs)
    first_clean = config.epochs - clean
    best = BestWeights(model, config.patience, first_clean if clean else 0)
    # Not the optimizer as built: for float16, Keras has wrapped it in one with a loss scale, which is state too.
    checkpoint = Checkpoint(here, trainee, trainee.optimizer, best)
    first_epoch = checkpoint.restore(source) if source else 0
    history = History(here, config.epochs, steps * batch)
    validate = _validation(trainee, parts.validation, labels) if len(parts.validation) else None
    callbacks: list[keras.callbacks.Callback] = [*([validate] if validate else []), history, best, checkpoint]
    trial = trials.running()
    if trial:
        callbacks.append(Report(trial, config.epochs, _reported(config)))
    if clean:
        callbacks.append(CleanEpochs(augmentation.strength, first_clean))
    if config.optimizer.use_ema:  # first, so that validation and the best weights are the averaged ones
        callbacks.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if config.tensorboard:
        callbacks.append(_tensorboard(here.tensorboard))
    log.info("")
    order = _order(parts.train, config.seed, range(first_epoch, config.epochs), steps * batch)
    if len(order):
        trainee.fit(
            *_batches(order, labels, batch),
            batch_size=batch,
            steps_per_epoch=steps,
            shuffle=False,
            initial_epoch=first_epoch,
            epochs=config.epochs,
            callbacks=callbacks,
            verbose=0,
        )
    if trial and trial.pruned:
        rows = here.read_history()
        return {"state": "pruned", **_row(rows[best.epoch]), "best_epoch": best.epoch + 1, "epochs": len(rows)}
    best.restore()
    with replacing(here.model) as temporary:
        model.save(temporary)
    rows = here.read_history()
    metrics: dict[str, Any] = _row(rows[best.epoch]) | {
        "best_epoch": best.epoch + 1,
        "epochs": len(rows),
        "parameters": model.count_params(),
        "train_images": len(parts.train),
        "validation_images": len(parts.validation),
        "images_per_second": _speed(rows),
    }
    probabilities = np.zeros((0, CLASSES), np.float32)
    if validate:
        probabilities = np.exp(validate.log_probabilities())
        metrics |= by_class(probabilities, validate.labels)
        images = digits.images[parts.validation]
        here.write_validation(Predictions.of(parts.validation, validate.labels, probabilities, images))
    if "milliseconds_per_image" in config.objective:
        metrics["milliseconds_per_image"] = _prediction_time(model, digits.images)
    if config.figures:
        _draw(here, digits, parts, rows, augmentation, metrics, probabilities)
    metrics["seconds"] = round(time.perf_counter() - started, 3)
    return metrics


class _Pixels(keras.layers.Layer):
    """All images, held where the model is trained; turns indices into images.

    Only indices travel per step, and on a GPU the data set crosses the bus once. Kept as bfloat16, in which 0 to
    255 are exact: of uint8, TensorFlow gathers nothing on a GPU, and would carry all images back at every step.
    """

    def __init__(self, images: np.ndarray) -> None:
        super().__init__(dtype="float32", name="pixels_by_index")
        self.images = self.add_weight(
            shape=images.shape,
            dtype="bfloat16",
            trainable=False,
            autocast=False,
            initializer=lambda shape, dtype: ops.convert_to_tensor(images, dtype),
        )

    def call(self, indices):  # type: ignore[no-untyped-def]
        """Return bfloat16 (n, 28, 28, 1), 0-255, for int32 (n,)."""
        return ops.take(self.images, indices, axis=0)


def _trainee(images: np.ndarray, augmentation: keras.layers.Layer, model: keras.Model) -> keras.Model:
    """Return what is trained: from indices, int32 (n,), to logits, float32 (n, 10)."""
    indices = keras.Input((), dtype="int32")
    return keras.Model(indices, from_float(model, "logits")(augmentation(_Pixels(images)(indices))))


def _compile(trainee: keras.Model, optimizer: keras.optimizers.Optimizer, steps_per_execution: int) -> None:
    """Compile a model of logits for integer labels, with its accuracy."""
    trainee.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # Not by name: Keras would make its variables while it traces the step, and TensorFlow would trace it again.
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        steps_per_execution=steps_per_execution,
        # On a CPU, XLA is 15 times slower; TensorFlow's affine transform cannot be compiled at all.
        jit_compile=keras.backend.backend() == "jax",
    )


def _steps(batches: int) -> tuple[int, int]:
    """Return steps per epoch, at most 2 fewer than the batches, and how many of them run in one call.

    Keras runs whole calls only, so the one must divide the other. What is left out differs
    from epoch to epoch. PyTorch runs one step in each.
    """
    if keras.backend.backend() == "torch":
        return max(batches, 1), 1
    for steps in range(batches, max(batches - 3, 0), -1):
        for per_call in range(16, 3, -1):
            if steps % per_call == 0:
                return steps, per_call
    return max(batches, 1), 1


def _order(train: np.ndarray, seed: int, epochs: range, size: int) -> np.ndarray:
    """Return the indices of all epochs one after the other, int32: each epoch its own seeded shuffle.

    A resumed run therefore sees the images in the order of an uninterrupted one.
    """
    orders = [np.random.default_rng([seed, epoch]).permutation(train)[:size] for epoch in epochs]
    return np.concatenate(orders).astype(np.int32) if orders else np.zeros(0, np.int32)


def _batches(indices: np.ndarray, labels: np.ndarray, size: int) -> tuple[Any, ...]:
    """Return indices, a multiple of the batch size of them, and their labels, in this order, as fit takes them.

    For TensorFlow in batches already: of arrays Keras makes a tf.data pipeline that tunes itself, whose thread sleeps
    for ever longer and is not always woken at the end. One in eight trainings then took up to half as long again.
    """
    if keras.backend.backend() != "tensorflow":
        return indices, labels[indices]
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    batches = indices.reshape(-1, size)
    return (tf.data.Dataset.from_tensor_slices((batches, labels[batches])).with_options(options),)


def _validation(trainee: keras.Model, validation: np.ndarray, labels: np.ndarray) -> Validation:
    """Return the callback that validates, in batches of equal size: TensorFlow would trace another size once more."""
    batches = -(-len(validation) // PREDICT_BATCH)
    size = -(-len(validation) // batches)
    filled = np.resize(validation, batches * size).astype(np.int32)
    # A model of its own: for the trained one, predict would unroll as many steps as fit makes in a call.
    predictor = keras.Model(trainee.inputs, trainee.outputs)
    return Validation(predictor, _batches(filled, labels, size)[0], labels[validation], size)


def _speed(rows: list[dict[str, float]]) -> float:
    """Return training images per second, without the first epoch, which compiles."""
    counted = rows[1:] or rows
    seconds = sum(row["seconds"] for row in counted)
    return round(sum(row["images_per_second"] * row["seconds"] for row in counted) / seconds, 1)


def _row(row: dict[str, float]) -> dict[str, float]:
    """Return what metrics.json takes from a row of the history."""
    return {name: value for name, value in row.items() if name not in ("epoch", "seconds", "images_per_second")}


def _prediction_time(model: keras.Model, images: np.ndarray) -> float:
    """Return milliseconds per image, the best of three passes."""
    images = np.resize(images[:TIMED], (TIMED, *images.shape[1:]))
    times = []
    for _ in range(3):
        started = time.perf_counter()
        model.predict(images, batch_size=PREDICT_BATCH, verbose=0)
        times.append(time.perf_counter() - started)
    return round(1000 * min(times) / len(images), 6)


def _draw(
    here: Run,
    digits: Digits,
    parts: Parts,
    rows: list[dict[str, float]],
    augmentation: RandomWarp,
    metrics: dict[str, Any],
    probabilities: np.ndarray,
) -> None:
    from sweeper_digits.training import figures  # imports matplotlib: not for runs without pictures

    labels = digits.labels
    assert labels is not None  # noqa: S101 - `run` has refused it
    samples = digits.images[parts.train[:: max(1, len(parts.train) // 30)][:30]]
    figures.learning_curves(rows, here.figures / "learning_curves.png")
    figures.label_distribution(labels[parts.train], labels[parts.validation], here.figures / "labels.png")
    after = ops.convert_to_numpy(augmentation(samples, training=True))
    figures.augmented_samples(samples, after, here.figures / "augmentation.png")
    if len(parts.validation):
        figures.confusion(np.array(metrics["confusion_matrix"]), here.figures / "confusion_matrix.png")
        images, truth = digits.images[parts.validation], labels[parts.validation]
        figures.worst_mistakes(images, truth, probabilities, here.figures / "mistakes.png")


def _tensorboard(folder: Path) -> keras.callbacks.Callback:
    try:
        importlib.metadata.version("tensorboard")
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError("tensorboard=true: the package is missing; pip install tensorboard") from error
    return keras.callbacks.TensorBoard(str(folder), write_graph=False)


def _describe(parts: list[Parts], total: int) -> str:
    train, validation = parts[0]
    text = f"{len(train):,} for training, {len(validation):,} for validation"
    if (locked := total - len(train) - len(validation)) > 0:
        text += f", {locked:,} locked away for testing"
    return text if len(parts) == 1 else f"{len(parts)} folds, each about {text}"


def _backend() -> str:
    name = keras.backend.backend()
    return f"{name} {importlib.metadata.version(name)}"


def _versions() -> dict[str, str]:
    packages = ("keras", keras.backend.backend(), "numpy", "hydra-core", "sweeper_digits")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout, not installed
            from sweeper_digits import __version__

            versions[package] = __version__
    return versions


@functools.cache
def _git_commit() -> str | None:
    """Return the commit of the code, with `+changes` if the work tree differs, or None outside git."""
    folder = Path(__file__).parent
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
