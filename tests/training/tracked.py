"""A tiny run for the tests of trackers."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.training.callbacks import History
from sweeper_digits.training.context import RunContext
from sweeper_digits.training.trackers import registered

SETTINGS = {
    "optimizer": "adamw",
    "optimizer._target_": "keras.optimizers.AdamW",
    "optimizer.learning_rate": 0.001,
    "model.normalization": True,
    "patience": None,
    "figures": False,
    "callbacks": ["mlflow"],
    "callbacks.mlflow.tracking_uri": "sqlite:///private.db",
}
BEST = {"val_loss": 0.25, "val_accuracy": 0.75, "best_epoch": 1}


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"the package {package} is missing: pip install {package}")


def context(folder: str = "multirun/quick/0", **changes: Any) -> RunContext:
    """A trial of a sweep, or what the changes make of it."""
    run = RunContext(Path(folder), SETTINGS, study="quick", trial=0, resumed=False)
    run = dataclasses.replace(run, **changes)
    run.folder.mkdir(parents=True, exist_ok=True)
    return run


def train(callback: keras.callbacks.Callback, run: RunContext, epochs: int = 2, first: int = 0) -> None:
    """Train a tiny model with a callback, and leave the files of a run."""
    folder = RunFolder(run.folder)
    history = History(folder, epochs, 8)
    history.begin_with(folder.read_history()[:first])
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "softmax")])
    model.compile(
        "sgd", "sparse_categorical_crossentropy", metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")]
    )
    images, labels = np.ones((8, 2), np.float32), np.zeros(8, np.int32)
    model.fit(
        *(images, labels, 4),
        validation_data=(images, labels),
        epochs=epochs,
        initial_epoch=first,
        callbacks=[history, callback],
        verbose=0,
    )
    model.save(folder.model)
    folder.figures.mkdir(exist_ok=True)
    keras.utils.save_img(folder.figures / "learning_curves.png", np.zeros((4, 4, 3)))
    folder.write_metrics({"state": "finished"} | BEST)


def whole(name: str, run: RunContext, state: str = "finished", epochs: int = 2, **options: Any) -> None:
    """Train with a callback from its beginning to its end."""
    callback = getattr(registered, name)(run, **options)
    train(callback, run, epochs)
    callback.on_run_end(state)
