"""Objectives that are functions of the validation predictions; the training itself measures loss, accuracy, costs."""

from typing import TYPE_CHECKING

from sweeper_digits.registry import register

if TYPE_CHECKING:
    import numpy as np

BINS = 15


@register("objective", direction="maximize")
def macro_f1(probabilities: "np.ndarray", labels: "np.ndarray") -> float:
    """Mean over the classes of the harmonic mean of precision and recall; of a class that is not there, 0.

    Args:
        probabilities: float32 (n, classes).
        labels: int (n,).
    """
    from sklearn.metrics import f1_score

    classes = range(probabilities.shape[1])
    return float(f1_score(labels, probabilities.argmax(axis=1), labels=classes, average="macro", zero_division=0.0))


@register("objective", direction="minimize")
def calibration_error(probabilities: "np.ndarray", labels: "np.ndarray") -> float:
    """Expected difference of confidence and accuracy, in 15 bins of equal width.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599

    Args:
        probabilities: float32 (n, classes).
        labels: int (n,).
    """
    import numpy as np

    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(places, weights=confidence.astype(float) - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))
