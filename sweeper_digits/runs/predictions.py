"""Probabilities of many images: how good they are, and how those of several models are combined."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeper_digits.data.digits import CLASSES

# A probability below exp(LEAST) counts as that much: one certain mistake must not be infinitely bad.
LEAST = -30.0
WORST = 24


@dataclass(frozen=True)
class Predictions:
    """What a model says of the images that validated it.

    Attributes:
        images: int (n,), places in the data.
        labels: int (n,), 0-9.
        log_probabilities: float (n, 10), natural logarithms, at least `LEAST`.
        worst: int (m,), places in the arrays above of the worst mistakes, worst first; m <= 24.
        pictures: uint8 (m, 28, 28), those images.
    """

    images: np.ndarray
    labels: np.ndarray
    log_probabilities: np.ndarray
    worst: np.ndarray
    pictures: np.ndarray

    @classmethod
    def of(
        cls, indices: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, images: np.ndarray
    ) -> "Predictions":
        """Take probabilities, float (n, 10), of images, uint8 (n, 28, 28, 1), at these places in the data."""
        worst = worst_mistakes(labels, probabilities)
        return cls(indices, labels, logarithms(probabilities), worst, images[worst, ..., 0])

    def arrays(self) -> dict[str, np.ndarray]:
        """Return them in the types of the file: float16 logarithms, exact to 1/2,000 of their value."""
        types = {"images": np.int32, "labels": np.uint8, "log_probabilities": np.float16, "worst": np.int32}
        return {name: np.asarray(array, types.get(name)) for name, array in vars(self).items()}

    @classmethod
    def joined(cls, folds: Sequence[dict[str, np.ndarray]]) -> "Predictions":
        """Put the parts of several folds, as `arrays` gives them, one after the other."""
        starts = np.cumsum([0, *(len(fold["labels"]) for fold in folds)])
        moved = [fold | {"worst": fold["worst"] + start} for fold, start in zip(folds, starts, strict=False)]
        return cls(**{name: np.concatenate([fold[name] for fold in moved]) for name in moved[0]})

    @property
    def probabilities(self) -> np.ndarray:
        """Return float64 (n, 10)."""
        return np.exp(self.log_probabilities.astype(np.float64))

    @property
    def losses(self) -> np.ndarray:
        """Return each image's cross entropy, float64 (n,)."""
        return -self.log_probabilities[np.arange(len(self.labels)), self.labels].astype(np.float64)


def logarithms(probabilities: np.ndarray) -> np.ndarray:
    """Return natural logarithms, float (n, 10), none below `LEAST`."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(probabilities), LEAST)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross entropy."""
    return float(-logarithms(probabilities)[np.arange(len(labels)), labels].mean())


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of images whose most probable label is the true one."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def confusion_matrix(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return counts, int (10, 10): rows are true labels, columns predicted ones."""
    matrix = np.zeros((CLASSES, CLASSES), int)
    np.add.at(matrix, (labels, probabilities.argmax(axis=1)), 1)
    return matrix


def by_class(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return `class_accuracy` (label -> share of its images that are right) and `confusion_matrix`, for JSON."""
    matrix = confusion_matrix(probabilities, labels)
    counts = matrix.sum(axis=1)
    right = {str(c): round(matrix[c, c] / counts[c], 6) for c in range(CLASSES) if counts[c]}
    return {"class_accuracy": right, "confusion_matrix": matrix.tolist()}


def worst_mistakes(labels: np.ndarray, probabilities: np.ndarray, most: int = WORST) -> np.ndarray:
    """Return the places of the wrongly labelled images whose true label got the least probability, worst first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    truth = probabilities[wrong, labels[wrong]]
    return wrong[np.argsort(truth, kind="stable")][:most]


def weights_by_loss(losses: Sequence[float]) -> np.ndarray:
    """Return weights, sum 1, inversely proportional to validation losses."""
    inverse = 1 / np.maximum(losses, 1e-12)
    return inverse / inverse.sum()


def greedy_weights(candidates: np.ndarray, labels: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Choose an ensemble on validation predictions: add, with replacement, the model that helps most.

    Source: Caruana et al., Ensemble selection from libraries of models, ICML 2004.

    Args:
        candidates: float (models, n, 10), probabilities.
        labels: int (n,).
        rounds: Models added; the ensemble of the best round is taken.

    Returns:
        Weights, sum 1; 0 for a model that is not chosen.
    """
    truth = candidates[:, np.arange(len(labels)), labels]  # only the true label's probability matters
    chosen = np.zeros(len(candidates))
    total = np.zeros(len(labels))
    best, best_loss = chosen, np.inf
    for size in range(1, rounds + 1):
        losses = -np.log(np.maximum((total + truth) / size, np.exp(LEAST))).mean(axis=1)
        model = int(losses.argmin())
        total = total + truth[model]
        chosen = chosen.copy()
        chosen[model] += 1
        if losses[model] < best_loss - 1e-12:
            best, best_loss = chosen, losses[model]
    return best / best.sum()
