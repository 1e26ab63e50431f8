"""The second step of a training: all epochs, with their callbacks."""

import logging
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sweeper_digits import live
from sweeper_digits.config import Config, epoch_metric
from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.fingerprint import Content
from sweeper_digits.data.split import Subsets
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import RunFolder, replacing
from sweeper_digits.runs.predictions import Predictions, by_class
from sweeper_digits.training import reporting
from sweeper_digits.training.augmentation import build_augmentation
from sweeper_digits.training.callbacks import BestWeights, Checkpoint, CleanEpochs, History, Report
from sweeper_digits.training.context import Watch
from sweeper_digits.training.feed import PREDICT_BATCH, Feed, PixelsByIndex, prediction_batches
from sweeper_digits.training.network import build_network
from sweeper_digits.training.optimizers import build_optimizer, unwrapped
from sweeper_digits.training.validation import Validation, objectives_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A training that is ready to begin.

    Attributes:
        config: The run.
        dataset: All images, labelled.
        parts: Which of the images train and which validate.
        model: What is saved: from pixels, uint8 (n, height, width, channels), to probabilities, float32 (n, classes).
        augmentation: What changes the training images, with its variable `strength`: 0 for no change.
        trainee: What is trained, compiled: from indices, int32 (n,), to logits, float32 (n, classes). It shares its
            weights with `model`.
        feed: The batches.
        started: `time.perf_counter()` when preparing began.
    """

    config: Config
    dataset: Dataset
    parts: Subsets
    model: keras.Model
    augmentation: keras.layers.Layer
    trainee: keras.Model
    feed: Feed
    started: float

    @property
    def division(self) -> str:
        """Return what tells these images, and which of them train and validate, from all others."""
        return Content.of(self.dataset, [self.parts]).division


def prepare(config: Config, dataset: Dataset, parts: Subsets) -> Prepared:
    """Build and compile what a run trains, from the run's seed, in Keras' present dtype policy."""
    assert dataset.labels is not None  # noqa: S101 - the parts were drawn by label
    started = time.perf_counter()
    keras.utils.set_random_seed(config.seed)
    network = build_network(config.model, dataset.image_shape, len(dataset.classes))
    augmentation = build_augmentation(config.augmentation, config.seed)
    indices = keras.Input((), dtype="int32")
    pixels = augmentation(PixelsByIndex(dataset.images)(indices))
    trainee = keras.Model(indices, network.on_floats()(pixels))
    feed = Feed.of(parts.train, dataset.labels, config.batch_size, config.seed)
    optimizer = build_optimizer(config.optimizer, config.schedule, feed.steps, config.epochs, network.output_layer)
    _compile(trainee, optimizer, feed.steps_per_execution)
    log.info("model      %s parameters", f"{network.model.count_params():,}")
    return Prepared(config, dataset, parts, network.model, augmentation, trainee, feed, started)


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


# A loss above this share of the labels' entropy is as good as guessing.
NEARLY = 0.99


@dataclass(frozen=True)
class Fitted:
    """The measurements of a training.

    Attributes:
        history: A row per epoch, the same as in history.csv, with the rows that a resumed run took over.
        best_epoch: Counted from 0.
        pruned: Whether the sweep's pruner stopped the training.
        probabilities: float32 (n, classes), of the validation images, by the best epoch's weights; n = 0 without a
            validation part, and for a pruned training.
        earlier_seconds: Time of the parts of the training that a resumed run took over.
    """

    history: list[dict[str, float]]
    best_epoch: int
    pruned: bool
    probabilities: np.ndarray
    earlier_seconds: float


def fit(prepared: Prepared, folder: RunFolder, source: RunFolder | None = None, watch: Watch | None = None) -> Fitted:
    """Train all epochs, and leave the best epoch's weights in the model unless the training was pruned.

    Args:
        prepared: The training.
        folder: Where history.csv and the checkpoint go; a history that is there is replaced.
        source: The run whose checkpoint is continued, if any.
        watch: Keeps the callbacks that the config names, and the time that was taken over.

    Raises:
        Diverged: The loss became NaN or infinite; history.csv stays.
        UserError: There is no checkpoint to continue, or it is of another model. A trial starts over then.
    """
    config, feed, trainee = prepared.config, prepared.feed, prepared.trainee
    trial, metric = reporting.current_trial(), epoch_metric(config.objective)
    clean = clean_epochs(config.clean_fraction, config.epochs)
    first_clean = config.epochs - clean
    best = BestWeights(prepared.model, metric, config.patience, first_clean if clean else 0)
    checkpoint = Checkpoint(folder, trainee, best, prepared.started, prepared.division)
    first_epoch, rows = _continue(source, checkpoint)
    history = History(folder, config.epochs, feed.steps * feed.batch_size, objectives_of(config))
    history.begin_with(rows)
    validation = _validation(prepared)
    given = (watch or Watch()).begin(config, folder, first_epoch > 0, checkpoint.earlier_seconds)
    callbacks = [*([validation] if validation else []), history, best, checkpoint, *given]
    if trial:
        callbacks.append(_report_to(trial, metric, prepared, history))
    if clean:
        callbacks.append(CleanEpochs(prepared.augmentation.strength, first_clean))
    if unwrapped(trainee.optimizer).use_ema:  # first, so that validation and the best weights are the averaged ones
        callbacks.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    log.info("")
    if first_epoch < config.epochs:
        with live.region() as history.region:
            trainee.fit(
                feed.epochs(first_epoch, config.epochs),
                steps_per_epoch=feed.steps,
                shuffle=False,
                initial_epoch=first_epoch,
                epochs=config.epochs,
                callbacks=callbacks,
                verbose=0,
            )
    probabilities = np.zeros((0, len(prepared.dataset.classes)), np.float32)
    pruned = trial is not None and trial.pruned
    if not pruned:
        best.restore()
        if validation:
            probabilities = np.exp(validation.log_probabilities())
    return Fitted(history.rows, best.epoch, pruned, probabilities, checkpoint.earlier_seconds)


def _report_to(trial: reporting.RunningTrial, metric: str, prepared: Prepared, history: History) -> Report:
    """Return the callback that reports to a trial, which is told first what a resumed training took over."""
    trial.no_better_than_guessing = _guessing(metric, prepared.feed.labels[prepared.parts.validation])
    report = Report(trial, prepared.config.epochs, metric, history)
    report.restore()
    return report


def _continue(source: RunFolder | None, checkpoint: Checkpoint) -> tuple[int, list[dict[str, float]]]:
    """Return the epoch, from 0, to begin with and the rows before it; restore the checkpoint of the source, if any."""
    if source is None:
        return 0, []
    try:
        return checkpoint.restore(source)
    except UserError as error:
        reporting.start_over(error)
        return 0, []


def clean_epochs(fraction: float, epochs: int) -> int:
    """Return how many of the epochs are clean: the share, rounded half up; at least one of a share that is not 0."""
    return max(1, math.floor(fraction * epochs + 0.5)) if fraction else 0


def _guessing(metric: str, labels: np.ndarray) -> Callable[[float], bool]:
    """Return a function that says whether a value is one that needs no image: of the shares of the classes alone."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    if len(shares) < 2:  # guessing is always right
        return lambda value: False
    entropy = -float(np.sum(shares * np.log(shares)))
    if metric == "val_loss":
        return lambda value: not value < NEARLY * entropy
    if metric == "val_accuracy":
        return lambda value: not value > shares.max()
    return lambda value: False


def _validation(prepared: Prepared) -> Validation | None:
    images = prepared.parts.validation
    if not len(images):
        return None
    # A model of its own: for the trained one, predict would unroll as many steps as fit makes in a call.
    predictor = keras.Model(prepared.trainee.inputs, prepared.trainee.outputs)
    return Validation(
        predictor, *prediction_batches(images), prepared.feed.labels[images], objectives_of(prepared.config)
    )


TIMED = 2 * PREDICT_BATCH  # images
SAMPLES = 30  # images in the picture of the augmentation


def keep(prepared: Prepared, fitted: Fitted, folder: RunFolder) -> dict[str, Any]:
    """Write what a training leaves but metrics.json, and return the metrics of the best epoch.

    Of a pruned training only its metrics are kept, with `state` saying so.
    """
    best = fitted.history[fitted.best_epoch]
    times = ("epoch", "seconds", "images_per_second")
    metrics: dict[str, Any] = {name: value for name, value in best.items() if name not in times}
    metrics |= {"best_epoch": fitted.best_epoch + 1, "epochs": len(fitted.history)}
    if fitted.pruned:
        return {"state": "pruned"} | metrics
    model, dataset, parts = prepared.model, prepared.dataset, prepared.parts
    with replacing(folder.model) as temporary:
        model.save(temporary)
    metrics |= {
        "parameters": model.count_params(),
        "train_images": len(parts.train),
        "validation_images": len(parts.validation),
        "images_per_second": _speed(fitted.history),
    }
    if len(parts.validation):
        labels, images = prepared.feed.labels[parts.validation], dataset.images[parts.validation]
        predictions = Predictions.of(parts.validation, labels, fitted.probabilities, images)
        metrics |= predictions.standard_errors() | by_class(fitted.probabilities, labels, dataset.classes)
        folder.write_validation(predictions)
    if "milliseconds_per_image" in prepared.config.objective:
        metrics["milliseconds_per_image"] = _prediction_time(model, dataset.images)
    return metrics


def _speed(history: list[dict[str, float]]) -> float:
    """Return training images per second, of the median epoch.

    The first epoch compiles and is left out. The first one after each resume compiles too; the median passes over it.
    Of two epochs in the middle the faster one is taken, for the other may be such a one.
    """
    return statistics.median_high(row["images_per_second"] for row in history[1:] or history)


def _prediction_time(model: keras.Model, images: np.ndarray) -> float:
    """Return milliseconds per image, the best of three passes."""
    images = np.resize(images[:TIMED], (TIMED, *images.shape[1:]))
    times = []
    for _ in range(3):
        started = time.perf_counter()
        model.predict(images, batch_size=PREDICT_BATCH, verbose=0)
        times.append(time.perf_counter() - started)
    return round(1000 * min(times) / len(images), 6)


def draw(config: Config, dataset: Dataset, parts: Subsets, folder: RunFolder) -> None:
    """Draw a training's pictures from what it has written; one that fails costs a warning, not the run."""
    try:
        pictures = _pictures(config, dataset, parts, folder)
    except Exception as error:  # matplotlib may be unable to start
        log.warning("figures    none: %s: %s", type(error).__name__, error)
        return
    for name, draw_picture in pictures.items():
        try:
            draw_picture(folder.figures / f"{name}.png")
        except Exception as error:  # matplotlib has many
            log.warning("figures    no %s.png: %s: %s", name, type(error).__name__, error)


def _pictures(config: Config, dataset: Dataset, parts: Subsets, folder: RunFolder) -> dict[str, Callable[[Path], None]]:
    """Return what draws each picture into a file."""
    from sweeper_digits.training import figures  # imports matplotlib: not for runs without pictures

    assert dataset.labels is not None  # noqa: S101 - the parts were drawn by label
    metrics = folder.read_metrics() or {}
    samples = dataset.images[parts.train[:: max(1, len(parts.train) // SAMPLES)][:SAMPLES]]
    augmented = build_augmentation(config.augmentation, config.seed)(samples, training=True)
    pictures: dict[str, Callable[[Path], None]] = {
        "learning_curves": partial(figures.draw_learning_curves, folder.read_history(), metrics["best_epoch"] - 1),
        "labels": partial(
            figures.draw_labels, dataset.labels[parts.train], dataset.labels[parts.validation], dataset.classes
        ),
        "augmentation": partial(figures.draw_augmentation, samples, keras.ops.convert_to_numpy(augmented)),
    }
    if len(parts.validation):
        found = folder.read_validation()
        matrix, shown = np.array(metrics["confusion_matrix"]), dataset.images[found.images]
        pictures["confusion_matrix"] = partial(figures.draw_confusion_matrix, matrix, dataset.classes)
        pictures["mistakes"] = partial(figures.draw_mistakes, shown, found.labels, found.probabilities, dataset.classes)
    return pictures
