"""Photographs of a digit are brought into MNIST's form, or refused."""

import itertools

import numpy as np
import pytest

from benchmarks.photographs import KINDS, REFUSED
from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.photographs import as_mnist
from sweeper_digits.errors import UserError


def taken(light: np.ndarray, random: np.random.Generator) -> np.ndarray:
    noise = random.normal(0, 0.012, light.shape) if light.shape != (28, 28) else 0
    return (np.clip(light + noise, 0, 1) * 255).round().astype(np.uint8)


def test_photographs_resemble_the_digit_that_they_were_made_of(digits: Dataset) -> None:
    likenesses = {}
    for kind, photograph in KINDS.items():
        random = np.random.default_rng(0)
        some = digits.images[::75, ..., 0]
        made = [as_mnist(taken(photograph(digit, random), random)) for digit in some]
        each = [np.corrcoef(one.ravel(), digit.ravel())[0, 1] for one, digit in zip(made, some, strict=True)]
        likenesses[kind] = (np.mean(each), np.min(each))
    # Strokes get soft edges and shift by up to half a pixel; another digit has 0.3.
    assert {kind: found for kind, found in likenesses.items() if found[0] <= 0.65 or found[1] <= 0.4} == {}


def test_what_is_not_one_digit_is_refused(digits: Dataset) -> None:
    random = np.random.default_rng(0)
    for digit in digits.images[::100, ..., 0]:
        for kind, message in (("two digits", "more than one digit"), ("no digit", "background")):
            with pytest.raises(UserError, match=message):
                as_mnist(taken(REFUSED[kind](digit, random), random))


def test_digits_that_touch_are_refused(digits: Dataset) -> None:
    zeros = [zero[:, np.flatnonzero(zero.max(axis=0) > 128)] for zero in digits.images[:30, ..., 0]]
    widest = max(zeros, key=lambda zero: zero.shape[1])
    both = np.concatenate([widest, widest], axis=1)
    paper = np.pad(255 - np.repeat(np.repeat(both, 8, axis=0), 8, axis=1), 40, constant_values=255)
    with pytest.raises(UserError, match="wider than a digit"):
        as_mnist(paper)


def test_images_of_the_data_set_keep_their_pixels(digits: Dataset) -> None:
    for digit in digits.images[..., 0]:
        assert np.array_equal(as_mnist(digit), digit) and np.array_equal(as_mnist(255 - digit), digit)


@pytest.mark.parametrize("thickness", [2, 60])
def test_strokes_get_the_thickness_of_mnists(thickness: int) -> None:
    paper = np.full((300, 400), 240, np.uint8)
    paper[30:270, 200 : 200 + thickness] = 20
    rows, columns = np.nonzero(as_mnist(paper) > 128)
    assert np.ptp(rows) + 1 in (19, 20, 21)
    assert 2 <= np.ptp(columns) + 1 <= 5
    assert abs(rows.mean() - 13.5) < 1 and abs(columns.mean() - 13.5) < 1


def test_one_colour_is_refused_at_any_size() -> None:
    for value, shape in itertools.product((0, 128, 255), ((28, 28), (1, 1), (3, 400), (200, 200))):
        with pytest.raises(UserError, match="nothing but background"):
            as_mnist(np.full(shape, value, np.uint8))
