"""Data of another light, range or orientation than a run's training data."""

from dataclasses import replace

import numpy as np
import pytest

from sweeper_digits.data.dataset import Dataset, inverted, load_mnist_5k, transposed
from sweeper_digits.data.inspection import inspect
from sweeper_digits.errors import UserError
from sweeper_digits.predict.images import adapt_pictures, adapt_pixels
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.record import Record
from tests.conftest import option

PLAIN = option("data", "mnist_5k")


@pytest.fixture(scope="module")
def few() -> Dataset:
    """100 real digits of each class."""
    return load_mnist_5k().part(np.arange(0, 5000, 5))


def run_on(dataset: Dataset, **settings: object) -> Record:
    """A run that was trained on these images."""
    pixels = inspect(dataset, PLAIN).as_json()
    return Record(
        RunFolder("run"), "finished", settings=settings, metrics={"pixels": pixels, "image_shape": [28, 28, 1]}
    )


def unlabelled(dataset: Dataset) -> Dataset:
    return replace(dataset, labels=None, classes=())


@pytest.mark.parametrize("light", [False, True])
def test_the_other_background_is_inverted_and_said(few: Dataset, light: bool) -> None:
    own, other = (few, inverted(few, "")) if not light else (inverted(few, ""), few)
    for dataset in (other, unlabelled(other), unlabelled(other.part(np.arange(20)))):
        adapted = adapt_pixels(dataset, PLAIN, run_on(own))
        np.testing.assert_array_equal(adapted.images, 255 - dataset.images)
        names = ("dark", "light") if light else ("light", "dark")
        assert adapted.notes[-1] == "inverted: the background is {}, that of the training data was {}".format(*names)
    assert adapt_pixels(own, PLAIN, run_on(own)) is own


@pytest.mark.parametrize("light", [False, True])
def test_each_picture_gets_the_background_of_the_training_data(few: Dataset, light: bool) -> None:
    own = inverted(few, "") if light else few
    mixed = own.images[:20].copy()
    mixed[::2] = 255 - mixed[::2]
    np.testing.assert_array_equal(adapt_pictures(mixed, run_on(own)), own.images[:20])
    np.testing.assert_array_equal(adapt_pictures(mixed, Record(RunFolder("run"), "finished")), mixed)


def test_a_run_that_kept_no_look_changes_nothing(few: Dataset) -> None:
    for metrics in ({}, {"pixels": None}, {"pixels": {"background": 3, "most": "x", "orientation": []}}):
        run = Record(RunFolder("run"), "finished", metrics={"image_shape": [28, 28, 1]} | metrics)
        assert adapt_pixels(inverted(few, ""), PLAIN, run).notes == ("",)


def test_images_of_another_shape_are_left_to_the_model(few: Dataset) -> None:
    blank = replace(few, images=np.zeros((1000, 9, 9, 1), np.uint8))
    assert adapt_pixels(blank, PLAIN, run_on(few)) is blank


@pytest.mark.parametrize("background", ["dark", "light"])
def test_transposed_digits_are_refused_with_the_option_that_turns_them(few: Dataset, background: str) -> None:
    turned = transposed(few if background == "dark" else inverted(few, ""), "")
    message = "mnist_5k: the digits look transposed, those of the training data upright; add transpose=true after"
    with pytest.raises(UserError, match=message):
        adapt_pixels(turned, PLAIN, run_on(few))
    with pytest.raises(UserError, match="add transpose=false"):
        adapt_pixels(turned, option("data", "mnist_5k", transpose=True), run_on(few))
    assert adapt_pixels(unlabelled(turned), PLAIN, run_on(few)).labels is None  # nothing to judge by


def test_unlabelled_data_of_a_run_with_transposed_data_is_said(few: Dataset) -> None:
    run = run_on(few, **{"data.transpose": True})
    (note,) = adapt_pixels(unlabelled(few), PLAIN, run).notes
    assert "transpose=true after --data" in note
    assert adapt_pixels(unlabelled(few), option("data", "mnist_5k", transpose=True), run).notes == ()


def test_pixels_of_another_range_are_refused(few: Dataset) -> None:
    dim = replace(few, images=few.images // 16)
    for data, own, message in ((dim, few, "pixel is 15, .* was 255"), (few, dim, "pixel is 255, .* was 15")):
        with pytest.raises(UserError, match=message):
            adapt_pixels(data, PLAIN, run_on(own))
    assert adapt_pixels(replace(few, images=few.images // 2), PLAIN, run_on(few)).notes == ()
