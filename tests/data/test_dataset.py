"""The sources that need no file."""

from pathlib import Path

import numpy as np
import pytest

from sweeper_digits.data.dataset import load, load_keras, load_mnist_5k
from sweeper_digits.errors import UserError
from tests.conftest import option


def test_mnist_5k_needs_no_download() -> None:
    digits = load_mnist_5k()
    assert digits.images.shape == (5000, 28, 28, 1)
    assert np.bincount(digits.labels).tolist() == [500] * 10
    assert 30 < digits.images.mean() < 36  # MNIST's mean pixel is 33.3


def test_download_without_network_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    def no_network(path: str) -> None:
        raise Exception(f"URL fetch failure on {path}: None -- unreachable")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: no_network("mnist.npz"))
    with pytest.raises(UserError, match="use data=mnist_5k"):
        load_keras("mnist")


def test_pixels_are_inverted_and_transposed_where_the_option_says_so(npz: Path) -> None:
    plain = load(option("data", "npz", path=str(npz)))
    np.testing.assert_array_equal(load(option("data", "npz", path=str(npz), invert=True)).images, 255 - plain.images)
    both = load(option("data", "npz", path=str(npz), invert=True, transpose=True))
    np.testing.assert_array_equal(both.images[7, 20, 5], 255 - plain.images[7, 5, 20])
    assert both.notes == ("inverted by data.invert=true", "transposed by data.transpose=true") and plain.notes == ()
    assert both.images.flags.c_contiguous
