"""The fused affine against scipy's, and what each option does."""

from typing import Any

import keras
import numpy as np
import pytest
from scipy import ndimage

from sweeper_digits.data.dataset import Dataset
from sweeper_digits.training.augmentation import RandomWarp

NONE: dict[str, Any] = {
    "rotation_degrees": 0,
    "shear_degrees": 0,
    "zoom_fraction": 0,
    "shift_fraction": 0,
    "elastic_pixels": 0,
    "erase_fraction": 0,
}
ALL: dict[str, Any] = NONE | {"rotation_degrees": 20, "shear_degrees": 15, "zoom_fraction": 0.2, "shift_fraction": 0.1}
BENT: dict[str, Any] = ALL | {"elastic_pixels": 1.4}


def apply(images: np.ndarray, seed: int = 0, training: bool = True, **options: float) -> np.ndarray:
    layer = RandomWarp(**(NONE | options), seed=seed)
    return keras.ops.convert_to_numpy(layer(images, training=training))


def scipy_affine(image: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Read output (row, column) at the transform's (x, y), bilinearly, 0 outside."""
    a0, a1, a2, b0, b1, b2 = transform[:6]
    return ndimage.affine_transform(
        image.astype(float), [[b1, b0], [a1, a0]], [b2, a2], order=1, mode="grid-constant", cval=0.0
    )


def test_same_as_scipy_on_the_same_parameters(digits: Dataset) -> None:
    images = digits.images[::10]
    layer = RandomWarp(**ALL, seed=1)
    transforms = keras.ops.convert_to_numpy(layer.matrices(images.shape))
    out = apply(images, seed=1, **ALL)
    expected = np.stack([scipy_affine(i[..., 0], t) for i, t in zip(images, transforms, strict=True)])
    # Pixels are up to 255; float32 coordinates near 28 are exact to 2e-6, times a slope of 255.
    np.testing.assert_allclose(out[..., 0], expected, atol=0.02)
    # Bent by next to nothing, which is a way of its own through the code.
    np.testing.assert_allclose(apply(images, seed=1, **(ALL | {"elastic_pixels": 1e-6})), out, atol=0.02)


def test_elastic_reads_each_pixel_at_its_displaced_place(digits: Dataset) -> None:
    images = digits.images[::10]
    displaced = RandomWarp(**(NONE | {"elastic_pixels": 1.4}), seed=1)
    displaced.matrices(images.shape)  # draws nothing where nothing is affine
    along_x, along_y = keras.ops.convert_to_numpy(displaced.displacements(images.shape))
    rows, columns = np.mgrid[:28, :28]
    expected = [
        ndimage.map_coordinates(image[..., 0].astype(float), [rows + y, columns + x], order=1, mode="grid-constant")
        for image, x, y in zip(images, along_x, along_y, strict=True)
    ]
    np.testing.assert_allclose(apply(images, seed=1, elastic_pixels=1.4)[..., 0], np.stack(expected), atol=0.02)


def test_displacements_are_as_large_as_asked_and_smooth() -> None:
    layer = RandomWarp(**(NONE | {"elastic_pixels": 2.0}), seed=0)
    drawn = keras.ops.convert_to_numpy(layer.displacements((4000, 28, 28, 1)))
    # 4000 images: a standard deviation is known to 1.1 %, and the largest of 784 is some 3.5 of these off.
    np.testing.assert_allclose(drawn.std(axis=1), 2.0, rtol=0.05)
    assert abs(drawn.mean()) < 0.02
    neighbours, far = (np.corrcoef(drawn[0, :, 14, 4], drawn[0, :, 14, 4 + d])[0, 1] for d in (4, 16))
    # Of a Gaussian over white noise: exp(-d^2 / (4 * 4^2)).
    assert neighbours == pytest.approx(np.exp(-1 / 4), abs=0.05) and abs(far) < 0.07
    assert abs(np.corrcoef(drawn[0, :, 14, 14], drawn[1, :, 14, 14])[0, 1]) < 0.05


@pytest.mark.parametrize("options", [{"shift_fraction": 0.25}, {"rotation_degrees": 90}])
def test_shift_and_rotation_keep_lengths_and_rotation_keeps_the_centre(options: dict[str, Any]) -> None:
    layer = RandomWarp(**(NONE | options), seed=3)
    a0, a1, a2, b0, b1, b2 = keras.ops.convert_to_numpy(layer.matrices((1, 28, 28, 1)))[0, :6]
    linear = np.array([[a0, a1], [b0, b1]])
    np.testing.assert_allclose(linear @ linear.T, np.eye(2), atol=1e-6)
    if "rotation_degrees" in options:
        centre = np.array([13.5, 13.5])
        np.testing.assert_allclose(linear @ centre + [a2, b2], centre, atol=1e-4)
    else:
        np.testing.assert_allclose(linear, np.eye(2), atol=1e-6)
        assert 0 < abs(a2) <= 7 and 0 < abs(b2) <= 7


def test_parameters_fill_their_ranges() -> None:
    n = 4000

    def draw(**options: float) -> np.ndarray:
        return keras.ops.convert_to_numpy(RandomWarp(**(NONE | options), seed=0).matrices((n, 28, 28, 1)))

    angles = np.degrees(np.arctan2(draw(rotation_degrees=10)[:, 3], draw(rotation_degrees=10)[:, 4]))
    assert 9.9 < angles.max() <= 10.001 and -10.001 <= angles.min() < -9.9 and abs(angles.mean()) < 0.5
    scale = 1 / draw(zoom_fraction=0.1)[:, 0]
    assert 1.099 < scale.max() <= 1.10001 and 0.8999 <= scale.min() < 0.901
    shift = draw(shift_fraction=0.1)[:, 2]
    assert 2.79 < shift.max() <= 2.8001 and -2.8001 <= shift.min() < -2.79
    slope = draw(shear_degrees=45)[:, 1]
    assert 0.98 < slope.max() <= 1.0001


def test_without_options_and_outside_training_nothing_changes(digits: Dataset) -> None:
    np.testing.assert_array_equal(apply(digits.images), digits.images)
    np.testing.assert_array_equal(apply(digits.images, training=False, **BENT), digits.images)
    for options in (ALL, BENT):
        layer = RandomWarp(**(options | {"erase_fraction": 0.1}), seed=0)
        layer.strength.assign(0.0)
        np.testing.assert_array_equal(layer(digits.images, training=True), digits.images)


@pytest.mark.parametrize("options", [ALL, BENT])
def test_values_stay_pixels(digits: Dataset, options: dict[str, Any]) -> None:
    out = apply(digits.images, **options)
    assert out.dtype == np.float32 and out.shape == digits.images.shape
    assert out.min() >= 0 and out.max() <= 255.001


@pytest.mark.parametrize("options", [ALL, BENT])
def test_each_image_and_each_call_differs_and_the_seed_repeats(digits: Dataset, options: dict[str, Any]) -> None:
    same = np.repeat(digits.images[:1], 8, axis=0)
    layer = RandomWarp(**options, seed=7)
    first, second = (keras.ops.convert_to_numpy(layer(same, training=True)) for _ in range(2))
    assert len(np.unique(first.reshape(8, -1), axis=0)) == 8
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(first, apply(same, seed=7, **options))


def test_erasing_takes_its_share_of_half_of_the_images() -> None:
    white = np.full((2000, 28, 28, 1), 255, np.uint8)
    out = apply(white, erase_fraction=0.1)
    erased = (out == 0).mean(axis=(1, 2, 3))
    assert 0.45 < (erased > 0).mean() < 0.55  # half, +- 4.5 standard errors
    # A square of side 28 * sqrt(0.1) = 8.85 covers 8 or 9 pixels a side, fewer at the border.
    assert erased.max() == pytest.approx(81 / 784)
    assert set(np.unique(out)) == {0.0, 255.0}
