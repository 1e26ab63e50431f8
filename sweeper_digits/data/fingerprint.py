"""The fingerprint of a run's images, by which they are found again, wherever and in whichever order they are.

The place of an image in a file says nothing once the file has changed, and neither does the file's name.
"""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeper_digits.text import counted

if TYPE_CHECKING:  # they bring pandas and scikit-learn; `compare` reads run folders without
    from sweeper_digits.data.dataset import Dataset
    from sweeper_digits.data.split import Subsets

# The uses of an image that a run does not validate. An image that it validates has the number of the fold, from
# 0; without folds, or with one of them alone, 0.
LOCKED, TRAINS = -2, -1


@dataclass(frozen=True)
class Content:
    """The images that a run read, after every option of its data, and what it does with each.

    Attributes:
        hashes: uint64 (n,), see `hash_images`.
        labels: int (n,), places in the classes.
        classes: Their names.
        parts: int8 (n,): the number of the fold that the image validates, `TRAINS` or `LOCKED`.
    """

    hashes: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    parts: np.ndarray

    @classmethod
    def of(cls, dataset: "Dataset", parts: Sequence["Subsets"] = ()) -> "Content":
        """Return the content of labelled images, and of the trainings that they are split for."""
        assert dataset.labels is not None  # noqa: S101 - whoever trains has labels
        uses = np.full(len(dataset.hashes), LOCKED, np.int8)
        for one in parts:
            uses[one.train] = TRAINS
        for number, one in enumerate(parts):
            uses[one.validation] = number
        return cls(dataset.hashes, dataset.labels, dataset.classes, uses)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Return a hash of all images, labels and classes in their order, whatever the run does with them."""
        return _digest(self.hashes, self.labels, self.classes)

    @property
    def division(self) -> str:
        """Return a hash of the same, and of what the run does with each image."""
        return hashlib.sha256(self.fingerprint.encode() + self.parts.tobytes()).hexdigest()

    def trained(self, fold: int | None) -> np.ndarray:
        """Return the hashes of the images that a model trained on, uint64 (m,); of a run with folds, a fold's model."""
        return self.hashes[(self.parts != LOCKED) & ~self._validates(fold)]

    def validated(self, fold: int | None) -> np.ndarray:
        """Return the hashes of the images that a model was validated on, as `trained` does."""
        return self.hashes[self._validates(fold)]

    @property
    def locked(self) -> np.ndarray:
        """Return the hashes of the images that are locked away for testing, uint64 (m,)."""
        return self.hashes[self.parts == LOCKED]

    def validation_fingerprint(self, fold: int | None = None) -> str:
        """Return a hash of the validation images and their labels, in whichever order they are; "" of none."""
        places = np.flatnonzero(self._validates(fold))
        places = places[np.lexsort((self.labels[places], self.hashes[places]))]
        return _digest(self.hashes[places], self.labels[places], self.classes) if len(places) else ""

    def changes(self, now: "Content") -> str:
        """Return in words how other images differ from these; "" for the same ones in the same order."""
        if now.fingerprint == self.fingerprint:
            return ""
        before, after = (Counter(one.hashes.tolist()) for one in (self, now))
        new, gone = (after - before).total(), (before - after).total()
        relabelled = (self._labelled() - now._labelled()).total() - gone
        said = [
            f"{counted(number, 'image')} {what}"
            for number, what in ((new, "more"), (gone, "fewer"), (relabelled, "with another label"))
            if number > 0
        ]
        if not said:
            same_order = np.array_equal(self.hashes, now.hashes)
            said = ["the same images with other names of classes" if same_order else "the same images in another order"]
        return ", ".join(said)

    def other_labels(self, hashes: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Return which of some images are among these with another label, bool (m,).

        Args:
            hashes: uint64 (m,).
            names: The class of each.
        """
        ours = self._labelled()
        pairs = zip(hashes.tolist(), names, strict=True)
        return np.isin(hashes, self.hashes) & np.array([pair not in ours for pair in pairs], bool)

    def _validates(self, fold: int | None) -> np.ndarray:
        return self.parts >= 0 if fold is None else self.parts == fold

    def _labelled(self) -> Counter[tuple[int, str]]:
        return Counter(zip(self.hashes.tolist(), (self.classes[label] for label in self.labels.tolist()), strict=True))


def _digest(hashes: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps(list(classes)).encode())
    digest.update(hashes.astype("<u8").tobytes())
    digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()
