"""Saved validation predictions keep what the model said."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from sweeper_digits.data.dataset import Dataset
from sweeper_digits.runs.predictions import Predictions, error_of_mean, log_loss
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


def test_saved_validation_predictions_are_those_of_the_model(tool: Tool, digits: Dataset) -> None:
    for record in find_runs([SWEEP]):
        if record.run.models():
            saved = record.run.read_validation()
            model = keras.saving.load_model(record.run.model)
            found = model.predict(digits.images[saved.images], verbose=0)
            assert np.allclose(saved.probabilities, found, atol=2e-3)
            assert np.array_equal(saved.labels, digits.labels[saved.images])
            assert saved.losses.mean() == pytest.approx(record.value("val_loss"), rel=2e-3)


def predicted(truth: np.ndarray) -> Predictions:
    """Give the true label of each image this probability, and the other nine the rest."""
    labels = np.arange(len(truth)) % 10
    probabilities = np.repeat((1 - truth)[:, None] / 9, 10, axis=1)
    probabilities[np.arange(len(truth)), labels] = truth
    return Predictions.of(np.arange(len(truth)), labels, probabilities, np.zeros((len(truth), 28, 28, 1), np.uint8))


def test_standard_errors_are_those_of_means_over_images() -> None:
    """By drawing many validation parts from one population: their means spread as each one's standard error says."""
    population = np.random.default_rng(0).beta(0.8, 0.4, 20_000)
    parts = [predicted(part) for part in population.reshape(200, 100)]
    assert np.mean([(part.probabilities.argmax(axis=1) == part.labels).mean() for part in parts]) < 0.98
    for name, means in (
        ("val_loss_se", [part.losses.mean() for part in parts]),
        ("val_accuracy_se", [(part.probabilities.argmax(axis=1) == part.labels).mean() for part in parts]),
    ):
        said = np.mean([part.standard_errors()[name] for part in parts])
        assert said == pytest.approx(np.std(means), rel=0.15)
    assert predicted(population[:1]).standard_errors() == {}


def test_images_without_a_mistake_do_not_show_that_there_is_none() -> None:
    """Where none of n is wrong, up to 3 of n may be, in 95 % of cases."""
    for right in (np.ones(40, bool), np.zeros(40, bool)):
        assert 1.96 * error_of_mean(right) == pytest.approx(3 / 40, rel=0.2)  # the rule of three
    assert error_of_mean(np.array([True] * 39 + [False])) == pytest.approx(np.sqrt(39 / 40 / 40 / 39))


def test_folds_pool_as_one_sample_of_all_their_images() -> None:
    generator = np.random.default_rng(1)
    truth = np.concatenate([generator.beta(8, 0.5, 100), generator.beta(0.8, 0.4, 150)])  # the first makes no mistake
    folds = [predicted(truth[:100]), predicted(truth[100:])]
    whole = Predictions(**Predictions.joined([fold.arrays() for fold in folds]).arrays())
    errors = whole.standard_errors()
    assert errors["val_loss_se"] == pytest.approx(np.std(-np.log(truth), ddof=1) / np.sqrt(250), rel=1e-3)
    assert errors["val_accuracy_se"] == pytest.approx(np.std(truth > 0.1, ddof=1) / np.sqrt(250))
