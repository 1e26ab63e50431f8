"""The last step of a training: weights, scores, predictions; the metrics, which the caller writes; then pictures."""

import logging
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.split import Parts
from sweeper_digits.runs.folder import RunFolder, replacing
from sweeper_digits.runs.predictions import Predictions, by_class
from sweeper_digits.schema import Config
from sweeper_digits.training.augmentation import build_augmentation
from sweeper_digits.training.feed import PREDICT_BATCH
from sweeper_digits.training.fit import Fitted
from sweeper_digits.training.prepare import Prepared

log = logging.getLogger(__name__)

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


def draw(config: Config, dataset: Dataset, parts: Parts, folder: RunFolder) -> None:
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


def _pictures(config: Config, dataset: Dataset, parts: Parts, folder: RunFolder) -> dict[str, Callable[[Path], None]]:
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
