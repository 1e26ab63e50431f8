"""Which images are equal, pixel for pixel."""

import numpy as np


def number_images(*arrays: np.ndarray) -> list[np.ndarray]:
    """Return int64 (n,) for each uint8 (n, height, width, channels), with equal numbers for equal images."""
    numbers: dict[bytes, int] = {}
    return [
        np.array([numbers.setdefault(image.tobytes(), len(numbers)) for image in images], np.int64) for images in arrays
    ]


def divided_groups(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the groups whose members differ in a value, int (m,), in ascending order.

    Args:
        groups: int (n,), from 0, equal numbers for members of one group.
        values: int (n,), from 0.
    """
    if np.bincount(groups).max() == 1:
        return groups[:0]
    pairs = np.unique(groups * (values.max() + 1) + values) // (values.max() + 1)
    return np.unique(pairs[1:][pairs[1:] == pairs[:-1]])
