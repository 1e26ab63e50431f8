"""What one look at the pixels says of real digits, and of the same digits spoilt in the ways that happen."""

import json
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images

from sweeper_digits.data.dataset import Dataset, as_dataset, inverted, load_mnist_5k, transposed
from sweeper_digits.data.inspection import MEANS, Inspection, background_of, class_means, inspect
from tests.conftest import option


@pytest.fixture(scope="module")
def few() -> Dataset:
    """100 real digits of each class."""
    everything = load_mnist_5k()
    return everything.part(np.arange(0, 5000, 5))


def look(dataset: Dataset) -> Inspection:
    return inspect(dataset, option("data", "mnist_5k"))


def with_pixels(dataset: Dataset, order: list[int] | np.ndarray) -> Dataset:
    """The same images with their pixels in another order."""
    flat = dataset.images.reshape(len(dataset.images), -1)
    return replace(dataset, images=flat[:, order].reshape(dataset.images.shape))


def test_whole_digits_have_nothing_to_note(few: Dataset) -> None:
    found = look(few)
    assert (found.least, found.most, found.background, found.orientation) == (0, 255, "dark", "upright")
    assert found.correlation > 0.95 and min(found.neighbours) > 0.7
    assert found.images_per_class == (100,) * 10 and found.copies == found.two_labels == 0
    assert found.lines() == ["pixels     0 to 255, dark background; 100 images of each class"]
    assert json.loads(json.dumps(found.as_json()))["background"] == "dark"


def test_the_packaged_means_are_those_of_the_packaged_digits() -> None:
    digits = load_mnist_5k()
    np.testing.assert_array_equal(np.load(MEANS), np.round(class_means(digits.images, digits.labels, range(10))))


def test_a_light_background_is_said_with_what_mends_it(few: Dataset) -> None:
    found = look(inverted(few, "read"))
    assert found.background == "light" and found.orientation == "upright" and found.correlation < -0.95
    assert found.notes[0] == "read" and "data.invert=true inverts" in found.notes[1] and len(found.notes) == 2
    # Mended twice.
    assert (
        "leave out data.invert=true" in inspect(inverted(few, "read"), option("data", "mnist_5k", invert=True)).notes[1]
    )


@pytest.mark.parametrize("light", [False, True])
def test_transposed_digits_are_said_with_what_mends_them(few: Dataset, light: bool) -> None:
    found = look(transposed(inverted(few, "") if light else few, ""))
    assert found.orientation == "transposed" and abs(found.correlation) < 0.3
    assert found.notes[-1] == "the digits look transposed, compared with MNIST's: data.transpose=true turns them"
    again = inspect(transposed(few, ""), option("data", "mnist_5k", transpose=True))
    assert again.notes[-1].endswith("leave out data.transpose=true")


def test_digits_that_are_turned_otherwise_are_said(few: Dataset) -> None:
    cases: list[tuple[Callable[..., np.ndarray], str]] = [
        (lambda images: np.rot90(images, 1, (1, 2)), "turned to the left"),
        (lambda images: np.rot90(images, 2, (1, 2)), "upside down"),
        (lambda images: np.rot90(images, 3, (1, 2)), "turned to the right"),
        (lambda images: images[:, :, ::-1], "mirrored"),
        (lambda images: images[:, ::-1], "mirrored upside down"),
        (lambda images: np.rot90(images.swapaxes(1, 2), 2, (1, 2)), "mirrored and turned"),
    ]
    for turn, name in cases:
        found = look(replace(few, images=np.ascontiguousarray(turn(few.images))))
        assert found.notes == (f"the digits look {name}, compared with MNIST's: turn them in the file",)


@pytest.mark.parametrize(
    "order",
    [
        np.random.default_rng(0).permutation(784),
        sorted(range(784), key=str),  # 0, 1, 10, 100, 101: columns sorted by their names
        np.arange(784).reshape(28, 28)[:, np.random.default_rng(0).permutation(28)].ravel(),  # only the columns
    ],
)
def test_pixels_in_another_order_are_said(few: Dataset, order: list[int] | np.ndarray) -> None:
    found = look(with_pixels(few, order))
    (note,) = found.notes
    assert note.startswith("neighbouring pixels are hardly alike") and found.orientation is None


def test_other_images_are_not_taken_for_digits_or_for_shuffled_pixels(few: Dataset) -> None:
    letters = look(replace(few, classes=tuple("abcdefghij")))
    assert letters.orientation is None and letters.correlation is None and letters.notes == ()
    pictures = load_sample_images().images
    patches = np.stack(
        [picture[y : y + 32, x : x + 32] for picture in pictures for y, x in np.ndindex(390, 600)][::997]
    )
    colour = look(as_dataset(patches, np.arange(len(patches)) % 2, "patches"))
    assert colour.background == "mixed" and min(colour.neighbours) > 0.9 and colour.notes == ()
    small = load_digits()
    eight = as_dataset(small.images * 15, small.target, "8x8")
    assert look(eight).notes == () and look(eight).orientation == "upright"
    assert look(transposed(eight, "")).orientation == "transposed"
    assert look(few.part(np.arange(0, 1000, 99))).orientation is None  # too few of a class


def test_copies_and_images_with_two_labels_are_counted(few: Dataset) -> None:
    places = np.array([*range(1000), 3, 3, 250, 999])
    copied = few.part(places)
    found = look(copied)
    assert (found.copies, found.two_labels, found.notes) == (4, 0, ())
    assert found.lines()[0].endswith("; 4 equal an earlier one and stay with it")
    labels = copied.labels.copy()
    labels[[1001, 1003]] = 4, 7  # of a 0 and of a 9
    found = look(replace(copied, labels=labels))
    assert (found.copies, found.two_labels) == (4, 2)
    assert found.notes == ("2 images have two labels: image 3 is '0', and image 1001 is '4', with equal pixels",)
    (note,) = look(replace(copied, labels=labels, ids=tuple(f"{place}.png" for place in range(1004)))).notes
    assert "3.png is '0', and 1001.png is '4'" in note


def test_uneven_classes_are_said(few: Dataset) -> None:
    kept = np.flatnonzero((few.labels != 3) | (np.arange(1000) % 10 == 0))
    assert look(few.part(kept)).notes == ("the classes are uneven: 10 images of '3', 100 of '0'",)
    hostile = replace(few.part(kept), classes=("a", "b", "c", "\x1b[31m", *"efghij"))
    assert "\x1b" not in "".join(look(hostile).lines())


def test_dim_and_empty_pixels_are_said() -> None:
    small = load_digits()
    dim = as_dataset(small.images.astype(np.uint8) * 2, small.target, "8x8")
    assert look(dim).notes == ("the brightest pixel is 32 of 255: scale the pixels in the file",)
    blank = as_dataset(np.zeros((20, 28, 28), np.uint8), np.arange(20) % 10, "blank")
    assert look(blank).copies == 19 and background_of(blank.images) == "mixed"


def test_the_look_takes_milliseconds() -> None:
    everything = load_mnist_5k()
    started = time.process_time()
    look(replace(everything))
    assert time.process_time() - started < 1  # 0.07 s; of 42,000 images 0.2 s
