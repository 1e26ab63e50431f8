"""What a run prints before and after its epochs."""

import importlib.metadata
import logging
from typing import Any

import keras

from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.fingerprint import Content
from sweeper_digits.data.inspection import Inspection
from sweeper_digits.data.split import Parts
from sweeper_digits.schema import Config
from sweeper_digits.screen import counted, printable
from sweeper_digits.training.continued import compared
from sweeper_digits.training.fit import clean_epochs

log = logging.getLogger(__name__)


def show_plan(
    config: Config, dataset: Dataset, pixels: Inspection, parts: list[Parts], content: Content, hardware: str
) -> None:
    """Print what a run is going to do, and with what; of a run that is repeated, whether its data is this."""
    train, validation = parts[0]
    text = f"{len(train):,} for training, {len(validation):,} for validation"
    if (locked := len(dataset.images) - len(train) - len(validation)) > 0:
        text += f", {locked:,} locked away for testing"
    if config.from_run:
        log.info("as         %s%s", printable(config.from_run), compared(config, content))
    log.info("data       %s: %s", printable(dataset.source), dataset.describe())
    for line in pixels.lines():
        log.info("%s", line)
    log.info("split      %s", text if len(parts) == 1 else f"{len(parts)} folds, each about {text}")
    clean = clean_epochs(config.clean_fraction, config.epochs)
    if config.patience is not None and 0 < clean < config.epochs:
        counts = f"counts from epoch {config.epochs - clean + 1}, the first of {counted(clean, 'clean epoch')}"
        vain = "; too many to end this run early" if config.patience >= clean else ""
        log.info("patience   %s: %s%s", counted(config.patience, "epoch"), counts, vain)
    backend = keras.backend.backend()
    version = importlib.metadata.version(backend)
    log.info("device     %s, keras %s on %s %s", hardware, keras.__version__, backend, version)


def show_results(metrics: dict[str, Any]) -> None:
    """Print the results; ± is the standard error over the validation images."""
    log.info("")
    images = sum(fold["validation_images"] for fold in metrics.get("folds", []))
    names = ("val_loss", "val_accuracy", "loss", "accuracy")
    for name in (*(name for name in metrics["directions"] if name not in names), *names):
        if name in metrics:
            text = f"{metrics[name]:.4f}"
            if f"{name}_se" in metrics:
                text += f" ± {metrics[f'{name}_se']:.4f}" + (f" over {images:,} images" if images else "")
            if f"{name}_std" in metrics:
                text += f"; folds differ by {metrics[f'{name}_std']:.4f}"
            log.info("%-13s %s", name, text)
    log.info("%-13s %g", "best epoch", metrics["best_epoch"])
    log.info("%-13s %s", "images/s", f"{metrics['images_per_second']:,.0f}")
    log.info("%-13s %.1f", "seconds", metrics["run_seconds"])
