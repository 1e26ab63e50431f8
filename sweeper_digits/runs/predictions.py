"""Probabilities of many images, and how good they are.

Functions that need scikit-learn import it themselves: a supervisor and `compare` read run folders without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sweeper_digits.data.fingerprint import Content

# A probability below exp(LEAST) counts as exp(LEAST): one certain mistake must not be infinitely bad.
LEAST = -30.0
WORST = 24


@dataclass(frozen=True)
class Predictions:
    """What a model predicts for its validation images.

    Attributes:
        images: int (n,), indices into the data.
        labels: int (n,), places in the list of classes.
        log_probabilities: float (n, classes), natural logarithms, at least `LEAST`.
        worst: int (m,), indices of the worst mistakes in the arrays above, worst first; m <= 24.
        pictures: uint8 (m, height, width, channels), those images.
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
        """Keep the predictions of a model for images.

        Args:
            indices: int (n,), places of the images in the data.
            labels: int (n,).
            probabilities: float (n, classes).
            images: uint8 (n, height, width, channels).
        """
        worst = worst_mistakes(labels, probabilities)
        return cls(indices, labels, logarithms(probabilities), worst, images[worst])

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays in the file's types: float16 logarithms are exact to 1/2,000 of their value."""
        types = {"images": np.int32, "labels": np.uint16, "log_probabilities": np.float16, "worst": np.int32}
        return {name: np.asarray(array, types.get(name)) for name, array in vars(self).items()}

    @classmethod
    def joined(cls, folds: Sequence[dict[str, np.ndarray]]) -> "Predictions":
        """Concatenate the arrays of several folds, each as `arrays` gives them."""
        starts = np.cumsum([0, *(len(fold["labels"]) for fold in folds)])
        moved = [fold | {"worst": fold["worst"] + start} for fold, start in zip(folds, starts, strict=False)]
        return cls(**{name: np.concatenate([fold[name] for fold in moved]) for name in moved[0]})

    @property
    def probabilities(self) -> np.ndarray:
        """Return float64 (n, classes)."""
        return np.exp(self.log_probabilities.astype(np.float64))

    @property
    def losses(self) -> np.ndarray:
        """Return each image's cross entropy, float64 (n,)."""
        return -self.log_probabilities[np.arange(len(self.labels)), self.labels].astype(np.float64)

    def fits(self, content: Content) -> bool:
        """Return whether these images can be the predicted ones: one of both files may be of another run."""
        inside = len(self.images) and self.images.min() >= 0 and self.images.max() < len(content.hashes)
        return bool(inside) and np.array_equal(content.labels[self.images], self.labels)

    def standard_errors(self) -> dict[str, float]:
        """Return `val_loss_se` and `val_accuracy_se`, the standard errors of the means over these images.

        Other validation images of the same kind would give other means: two thirds of them within one standard error
        of the true mean. Another seed or other training images are not in it. Of fewer than two images: nothing.
        """
        if len(self.labels) < 2:
            return {}
        right = self.log_probabilities.argmax(axis=1) == self.labels
        return {"val_loss_se": error_of_mean(self.losses), "val_accuracy_se": error_of_mean(right)}


class ByContent(NamedTuple):
    """A run's predictions for its validation images, ordered by what the images are and not by where they were.

    Attributes:
        key: Equal for equal images with equal labels; None: it is not known which images they are.
        order: int (n,), places in the predictions.
        saved: The predictions, as they were saved.
    """

    key: bytes | None
    order: np.ndarray
    saved: Predictions


def error_of_mean(values: np.ndarray) -> float:
    """Return the standard error of the mean of values, float or bool (n,); NaN of one value.

    Bools that are all equal count as if two more of each kind had been seen: 40 images without a mistake do not show
    that there is none.

    Source: Agresti and Coull 1998, Approximate is better than "exact" for interval estimation of binomial proportions.
    """
    if len(values) < 2:
        return float("nan")
    if values.dtype == bool and (values == values[0]).all():
        values = np.append(values, [True, True, False, False])
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def check_arrays(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays read from a file; raise a ValueError unless `Predictions.arrays` may have written them.

    Older versions wrote pictures without channels, (m, height, width).
    """
    if (pictures := arrays.get("pictures", np.empty(0))).ndim == 3:
        arrays["pictures"] = pictures = pictures[..., np.newaxis]
    number, classes = arrays.get("log_probabilities", np.empty((0, 0))).shape
    shapes = {"images": (number,), "labels": (number,), "log_probabilities": (number, classes)}
    shapes |= {"worst": pictures.shape[:1], "pictures": pictures.shape}
    if (found := {name: array.shape for name, array in arrays.items()}) != shapes:
        raise ValueError(f"arrays of shapes {found}; expected {shapes}")
    if not np.isin(arrays["labels"], np.arange(classes)).all():
        raise ValueError(f"a label that is not from 0 to {classes - 1}")
    if not np.isin(arrays["worst"], np.arange(number)).all():
        raise ValueError("a mistake that is not one of the images")
    if not np.isfinite(arrays["log_probabilities"]).all():
        raise ValueError("a probability that is not a number")
    return arrays


def logarithms(probabilities: np.ndarray) -> np.ndarray:
    """Return natural logarithms, float (n, classes), none below `LEAST`."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(probabilities), LEAST)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross entropy in nats; each row of probabilities counts as if its sum were 1."""
    from sklearn import metrics

    raised = np.maximum(probabilities.astype(np.float64), np.exp(LEAST))
    shares = raised / raised.sum(axis=1, keepdims=True)
    return float(metrics.log_loss(labels, shares, labels=np.arange(shares.shape[1])))


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of images whose most probable label is the true one, 0-1."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def right_and_losses(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each image was labelled rightly, bool (n,), and its cross entropy in nats, float (n,)."""
    return probabilities.argmax(axis=1) == labels, -logarithms(probabilities)[np.arange(len(labels)), labels]


def confusion_matrix(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return counts, int (classes, classes): rows are true labels, columns predicted ones."""
    from sklearn import metrics

    return metrics.confusion_matrix(labels, probabilities.argmax(axis=1), labels=np.arange(probabilities.shape[1]))


def by_class(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Return `class_accuracy` (name -> share of its images that are right) and `confusion_matrix`, for JSON."""
    matrix = confusion_matrix(probabilities, labels)
    counts = matrix.sum(axis=1)
    right = {name: round(matrix[c, c] / counts[c], 6) for c, name in enumerate(classes) if counts[c]}
    return {"class_accuracy": right, "confusion_matrix": matrix.tolist()}


def worst_mistakes(labels: np.ndarray, probabilities: np.ndarray, most: int = WORST) -> np.ndarray:
    """Return the indices of the wrongly labelled images whose true label got the least probability, worst first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    truth = probabilities[wrong, labels[wrong]]
    return wrong[np.argsort(truth, kind="stable")][:most]
