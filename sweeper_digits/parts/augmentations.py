"""The augmentations: random changes to training images."""

from typing import TYPE_CHECKING, Annotated

from sweeper_digits.registry import register
from sweeper_digits.signature import Range

if TYPE_CHECKING:
    import keras


@register("augmentation")
def warp(
    seed: int,
    rotation_degrees: Annotated[float, Range(0, 180)],
    shear_degrees: Annotated[float, Range(0, 60)],
    zoom_fraction: Annotated[float, Range(0, 0.9)],
    shift_fraction: Annotated[float, Range(0, 1)],
    elastic_pixels: Annotated[float, Range(0, 10)],
    erase_fraction: Annotated[float, Range(0, 0.5)],
) -> "keras.layers.Layer":
    """Rotate, shear, zoom, shift, bend and erase, with one interpolation; `RandomWarp` describes each value.

    Args:
        seed: Of the layer's own random generator.
        rotation_degrees: Greatest angle.
        shear_degrees: Greatest horizontal shear angle.
        zoom_fraction: Greatest change of height and width.
        shift_fraction: Greatest shift, a share of the side.
        elastic_pixels: Standard deviation by which points are displaced.
        erase_fraction: Share of the area that is erased in half of the images.
    """
    from sweeper_digits.training.augmentation import RandomWarp

    return RandomWarp(
        rotation_degrees, shear_degrees, zoom_fraction, shift_fraction, elastic_pixels, erase_fraction, seed
    )
