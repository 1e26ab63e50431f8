"""The builder: sizes, ranges of the output, and a file that loads without this package."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from sweeper_digits.data.dataset import Dataset
from sweeper_digits.training.network import ByteDropout, build_network, on_floats
from sweeper_digits.training.networks import resnet
from tests.conftest import option

NOTEBOOK: dict[str, Any] = {
    "filters": 32,
    "first_kernel_size": 5,
    "kernel_size": 3,
    "stages": 2,
    "depth": 2,
    "normalization": False,
    "residual": False,
    "dense_units": 256,
    "dropout": 0.2,
    "dense_dropout": 0.5,
    "activation": "relu",
    "padding": "same",
}


def build(**options: Any) -> keras.Model:
    return build_network(option("model", "cnn", **options), (28, 28, 1), 10).model


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({}, 887_530),  # the notebook's own summary
        ({"normalization": True}, 887_530 + 4 * (32 + 64)),
        ({"dense_units": 0}, 832 + 25_632 + 18_496 + 36_928 + 650),
        ({"depth": 1, "stages": 1, "dense_units": 0, "filters": 4}, 4 * 25 + 4 + 50),
        ({"residual": True}, 887_530),
    ],
)
def test_parameter_counts(changes: dict[str, Any], parameters: int) -> None:
    assert build(**(NOTEBOOK | changes)).count_params() == parameters


@pytest.mark.parametrize(
    ("activation", "residual", "dense_units"), [("relu", False, 8), ("gelu", True, 0), ("relu", True, 8)]
)
def test_pixels_become_probabilities(digits: Dataset, activation: str, residual: bool, dense_units: int) -> None:
    changes = {"activation": activation, "residual": residual, "dense_units": dense_units, "filters": 4, "stages": 4}
    model = build(**(NOTEBOOK | changes))
    probabilities = model.predict(digits.images[:7], verbose=0)
    assert probabilities.shape == (7, 10) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_activation_after_pooling_is_the_notebooks_order(digits: Dataset) -> None:
    """For the notebook's net written out by hand, with the same weights."""
    keras.utils.set_random_seed(0)
    ours = build(**NOTEBOOK)
    layers = keras.layers
    by_hand = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    by_hand.set_weights(ours.get_weights())
    expected = by_hand.predict(digits.images[:20] / 255.0, verbose=0)
    np.testing.assert_allclose(ours.predict(digits.images[:20], verbose=0), expected, atol=1e-6)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_byte_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    dropout = ByteDropout(rate, seed=1)
    ones = np.ones((1000, 14, 30), np.float32)  # units that do not fill whole words
    first, second = (keras.ops.convert_to_numpy(dropout(ones, training=True)) for _ in range(2))
    dropped = round(256 * rate) / 256
    assert (first == 0).mean() == pytest.approx(dropped, abs=0.003) and first.mean() == pytest.approx(1, abs=0.005)
    assert np.unique(first).tolist() == pytest.approx([0, 1 / (1 - dropped)])
    assert (first != second).mean() == pytest.approx(2 * dropped * (1 - dropped), abs=0.005)  # independent
    assert np.abs(np.corrcoef((first == 0).reshape(-1, 30).T) - np.eye(30)).max() < 0.05
    assert np.array_equal(dropout(ones, training=False), ones)


def test_what_is_trained_shares_weights_with_what_is_saved(digits: Dataset) -> None:
    model = build(**(NOTEBOOK | {"filters": 4, "normalization": True}))
    trained = on_floats(model, model.output)
    assert all(a is b for a, b in zip(trained.trainable_variables, model.trainable_variables, strict=True))
    pixels = digits.images[:5]
    np.testing.assert_array_equal(trained(pixels.astype("float32")), model(pixels))


def test_saved_models_load_in_plain_keras_on_raw_pixels(digits: Dataset, tmp_path: Path) -> None:
    inputs = keras.Input((28, 28, 1))
    models = {
        "cnn": build(**(NOTEBOOK | {"filters": 4, "normalization": True})),
        "resnet": keras.Model(inputs, resnet(inputs, 5, width=4, stages=2)),
    }
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    np.save(tmp_path / "images.npy", digits.images[:5])
    code = """
import sys, numpy as np, keras
for name in ("cnn", "resnet"):
    model = keras.saving.load_model(f"{name}.keras", safe_mode=True)
    np.save(f"{name}.npy", model.predict(np.load("images.npy"), verbose=0))
assert not [name for name in sys.modules if name.startswith("sweeper_digits")]
"""
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True, capture_output=True)
    for name, model in models.items():
        expected = model.predict(digits.images[:5], verbose=0)
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected, rtol=1e-5, atol=1e-6)
