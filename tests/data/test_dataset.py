"""The sources that need no file."""

from pathlib import Path

import numpy as np
import pytest

from sweeper_digits import components
from sweeper_digits.data.dataset import Dataset, load, load_keras, load_mnist_5k
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


def test_kaggle_idx_and_npz_are_other_names_of_file(npz: Path) -> None:
    whole = load(option("data", "file", path=str(npz), size=14, invert=True))
    assert whole.image_shape == (14, 14, 1)
    for name in ("kaggle", "idx", "npz"):
        found = load(option("data", name, path=str(npz), size=14, invert=True))
        assert found.images.tobytes() == whole.images.tobytes() and found.labels.tolist() == whole.labels.tolist()
        saved = {"_target_": f"sweeper_digits.data.sources.{name}"}  # as in the folders of runs
        component = components.find("data", saved)
        assert component.name == name and component.keys == components.options_of("data")["file"].keys


def test_a_limit_draws_each_class_in_its_share(tmp_path: Path) -> None:
    file, labels = tmp_path / "a.npz", np.repeat([0, 1, 2], [600, 299, 1])
    images = np.arange(900 * 64, dtype=np.uint32).astype(np.uint8).reshape(900, 8, 8)
    images[:, 0, :2] = np.stack([np.arange(900) // 256, np.arange(900) % 256], axis=1)  # which image it is
    np.savez(file, images=images, labels=labels)

    def places(**options: int) -> list[int]:
        found = load(option("data", "npz", path=str(file), **options))
        assert [found.classes[label] for label in found.labels] == [str(labels[place]) for place in which(found)]
        return which(found)

    def which(found: Dataset) -> list[int]:
        return [int(image[0, 0, 0]) * 256 + int(image[0, 1, 0]) for image in found.images]

    chosen = places(limit=90)
    assert chosen == sorted(chosen) == places(limit=90, limit_seed=0) != places(limit=90, limit_seed=1)
    assert np.bincount(labels[chosen]).tolist() in ([60, 29, 1], [59, 30, 1])
    assert set(places(limit=30)) < set(chosen) and places(limit=900) == places() == list(range(900))
    assert load(option("data", "npz", path=str(file), limit=90)).notes == (
        "90 of 900 images, each class in its share (data.limit_seed=0)",
    )
    with pytest.raises(UserError, match=r"data\.limit=2: 3 classes need an image each, at least"):
        places(limit=2)
