"""The measurements on the validation images after each epoch."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from sweeper_digits import components
from sweeper_digits.components import Component
from sweeper_digits.config import Config
from sweeper_digits.errors import UserError
from sweeper_digits.runs.predictions import LEAST


class Validation(keras.callbacks.Callback):
    """Measure val_loss, val_accuracy and registered objectives after each epoch, for the callbacks after it.

    `fit` could validate too. Here the saved probabilities, and the mistakes counted from them, come from the same
    compiled function, so that all numbers of a run agree to the last image.

    Args:
        predictor: Model from indices, int32 (n,), to logits, float32 (n, classes); it shares the trained weights.
        batches: Indices of the validation images in the form that `Model.predict` takes; predictions after the last
            label are dropped.
        batch_size: Images in a batch of `batches`.
        labels: int (n,).
        objectives: What else is measured.
    """

    def __init__(
        self, predictor: keras.Model, batches: Any, batch_size: int, labels: np.ndarray, objectives: Sequence[Component]
    ) -> None:
        super().__init__()
        self.objectives = objectives
        self.predictor, self.batches, self.batch_size, self.labels = predictor, batches, batch_size, labels

    def log_probabilities(self) -> np.ndarray:
        """Return the logarithms of the present probabilities of the validation images, float32 (n, classes)."""
        logits = self.predictor.predict(self.batches, batch_size=self.batch_size, verbose=0)[: len(self.labels)]
        return np.asarray(keras.ops.convert_to_numpy(keras.ops.log_softmax(logits)))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        found = self.log_probabilities()
        if logs is not None:
            # Cut off as in the saved predictions, whose losses give the standard error and the comparisons.
            truth = np.maximum(found[np.arange(len(found)), self.labels], LEAST)
            logs["val_loss"] = -float(truth.mean(dtype=np.float64))
            logs["val_accuracy"] = float((found.argmax(axis=1) == self.labels).mean())
            for component in self.objectives:
                logs[component.name] = measure(component, np.exp(found), self.labels, dict(logs))


def measure(component: Component, probabilities: np.ndarray, labels: np.ndarray, metrics: dict[str, float]) -> float:
    """Return the value of a registered objective.

    Args:
        component: The objective.
        probabilities: float32 (n, classes), of the validation images.
        labels: int (n,).
        metrics: What else is measured after the same epoch.

    Raises:
        UserError: It is no finite number.
    """
    value = component.build(None, probabilities=probabilities, labels=labels, metrics=metrics)
    number = float(value) if isinstance(value, int | float | np.number) else math.nan
    if not math.isfinite(number):
        raise UserError(f"{component.where}: {component.name}: it returns {value!r}; a finite number is expected")
    return number


def objectives_of(config: Config) -> list[Component]:
    return [component for component in components.registered("objective") if component.name in config.objective]
