"""Saved validation predictions keep what the model said."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from sweeper_digits.data.digits import Digits
from sweeper_digits.runs.predictions import Predictions, log_loss
from sweeper_digits.runs.record import find_runs

Tool = Callable[..., str]
SWEEP = "multirun/first"


def test_log_probabilities_keep_their_precision() -> None:
    rng = np.random.default_rng(0)
    logits = 8 * rng.standard_normal((500, 10))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = rng.integers(0, 10, 500)
    saved = Predictions(
        **Predictions.of(np.arange(500), labels, probabilities, np.zeros((500, 28, 28, 1), np.uint8)).arrays()
    )
    assert saved.losses.mean() == pytest.approx(log_loss(probabilities, labels), rel=1e-3)
    assert np.array_equal(saved.log_probabilities.argmax(axis=1), probabilities.argmax(axis=1))
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    assert set(saved.worst) <= set(wrong) and len(saved.worst) == 24
    assert saved.losses[saved.worst[0]] == saved.losses[wrong].max()


def test_saved_validation_predictions_are_those_of_the_model(tool: Tool, digits: Digits) -> None:
    for record in find_runs([SWEEP]):
        if record.run.models():
            saved = record.run.read_validation()
            model = keras.saving.load_model(record.run.model)
            found = model.predict(digits.images[saved.images], verbose=0)
            assert np.allclose(saved.probabilities, found, atol=2e-3)
            assert np.array_equal(saved.labels, digits.labels[saved.images])
            assert saved.losses.mean() == pytest.approx(record.value("val_loss"), rel=2e-3)
