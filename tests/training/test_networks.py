"""Networks that are functions: sizes, precision, refusals, and a file that loads without this package."""

import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest

from sweeper_digits.training.networks import cnn, resnet
from tests.tables import unlike

CNN: dict[str, Any] = {
    "filters": 4, "first_kernel_size": 3, "kernel_size": 3, "stages": 3, "depth": 2, "normalization": True,
    "residual": False, "dense_units": 0, "dropout": 0.1, "dense_dropout": 0.2, "activation": "relu",
}  # fmt: skip


def built(shape: tuple[int, int, int], classes: int = 10, **options: Any) -> keras.Model:
    """A model from floats to logits."""
    inputs = keras.Input(shape)
    return keras.Model(inputs, resnet(inputs, classes, **options))


def floats(shape: tuple[int, int, int], n: int = 4) -> np.ndarray:
    return np.random.default_rng(0).random((n, *shape), dtype=np.float32)


SLIM = {"width": 4, "stages": 2, "depth": 3, "activation": "gelu"}


@pytest.mark.parametrize(
    ("shape", "options"),
    [((8, 8, 1), {}), ((28, 20, 3), {}), ((33, 47, 1), SLIM), ((128, 128, 3), SLIM)],
    ids=str,
)
def test_images_of_any_size_become_logits(shape: tuple[int, int, int], options: dict[str, Any]) -> None:
    logits = keras.ops.convert_to_numpy(built(shape, 7, **options)(floats(shape)))
    assert logits.shape == (4, 7) and logits.dtype == np.float32
    assert np.isfinite(logits).all() and logits.std() > 0


def test_the_defaults_are_what_was_measured() -> None:
    """docs/log.md has figures of a network with so many parameters."""
    stem, output = 9 * 32 + 32, 128 * 10 + 10
    blocks = 9 * 32 * (32 + 32) + (9 * (32 + 64) + 32) * 64 + (9 * (64 + 128) + 64) * 128
    normalizations = 4 * (32 + 32 + 32 + 64 + 64 + 128 + 128)
    assert built((28, 28, 1)).count_params() == stem + blocks + normalizations + output


def test_a_block_adds_its_convolutions_to_its_input() -> None:
    """What two convolutions of zeros add is nothing."""
    model = built((16, 16, 1), stages=1, width=4)
    (add,) = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    around = keras.Model(model.input, [add.input[0], add.output])
    given, summed = (keras.ops.convert_to_numpy(x) for x in around(floats((16, 16, 1))))
    assert np.abs(summed - given).max() > 0.01
    for layer in [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][1:]:
        layer.kernel.assign(np.zeros(layer.kernel.shape))
    given, summed = (keras.ops.convert_to_numpy(x) for x in around(floats((16, 16, 1))))
    np.testing.assert_array_equal(summed, given)
    assert given.std() > 0


def test_it_learns_in_half_precision() -> None:
    """Bright images against dark ones."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        keras.utils.set_random_seed(0)
        model = built((8, 8, 1), 2, width=8, stages=2, dropout=0.1)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.outputs[0].dtype == "float32"
    labels = np.arange(64) % 2
    images = floats((8, 8, 1), 64) * 0.5 + 0.5 * labels[:, None, None, None]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    losses = model.fit(images, labels, batch_size=16, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


def test_options_that_do_not_fit_are_refused_in_one_line() -> None:
    cases: list[tuple[tuple[int, int, int], dict[str, Any], str]] = [
        ((8, 8, 1), {"stages": 4}, "model.stages=4: each stage halves the image; 8x8 pixels allow 3"),
        ((28, 15, 1), {"stages": 4}, "model.stages=4: each stage halves the image; 28x15 pixels allow 3"),
        (
            (8, 9, 3),
            {"stem_kernel_size": 9},
            "model.stem_kernel_size=9: larger than the image; 8x9 pixels allow 8",
        ),
    ]
    given = [((shape, options), f"^{message}$") for shape, options, message in cases]
    assert unlike(given, lambda one: built(one[0], **one[1])) == []


def test_the_module_imports_no_keras() -> None:
    code = "import sys, sweeper_digits.training.networks; assert not {'keras', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("side", "options", "sides"),
    [
        (28, {"padding": "same"}, [28, 28, 14, 14, 7, 7]),
        (28, {"padding": "valid"}, [26, 24, 10, 8, 4, 4]),  # the third stage pads: without, nothing would be left
        (32, {"padding": "valid"}, [30, 28, 12, 10, 5, 5]),
        (8, {"padding": "valid"}, [8, 8, 4, 4, 2, 2]),
        (8, {"padding": "valid", "stages": 2}, [6, 4, 2, 2]),
        (28, {"padding": "valid", "stages": 4}, [26, 24, 10, 8, 4, 4, 2, 2]),
        (28, {"padding": "valid", "first_kernel_size": 5, "depth": 1}, [24, 10, 5]),
        (28, {"padding": "valid", "first_kernel_size": 15, "depth": 2}, [28, 28, 12, 10, 5, 5]),
        (28, {"padding": "valid", "residual": True}, [28, 28, 14, 14, 7, 7]),
    ],
    ids=str,
)
def test_a_stage_pads_as_told_or_where_it_must(side: int, options: dict[str, Any], sides: list[int]) -> None:
    inputs = keras.Input((side, side, 1))
    model = keras.Model(inputs, cnn(inputs, 10, **CNN | options))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.output.shape[1] for layer in convolutions] == sides
    assert keras.ops.convert_to_numpy(model(floats((side, side, 1)))).std() > 0
