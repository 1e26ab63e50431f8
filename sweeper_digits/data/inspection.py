"""One look at the pixels of a data set before it is trained on: what they are, and what looks off."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sweeper_digits.components import Data
from sweeper_digits.data.dataset import DIGITS, SIDE, Dataset
from sweeper_digits.data.split import divided_groups
from sweeper_digits.text import printable

MEANS = Path(__file__).with_name("digit_means.npy")
UPRIGHT = "upright"
TRANSPOSED = "transposed"
# Correlations with MNIST's means: of 5,000 digits 1.0 upright and at most 0.5 in another orientation; of scikit-learn's
# 8x8 digits 0.5 and 0.2.
LEAST_MATCH = 0.4
LEAST_ADVANTAGE = 0.2
# The functions that undo each orientation: (classes, height, width) in and out. All but the quarters undo themselves.
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


SAMPLE = 2000  # images, evenly spread, where not all are needed
LEAST_DIGITS = 5  # classes of digits, each with LEAST_IMAGES, before their orientation is judged
LEAST_IMAGES = 3
DIM = 64  # the brightest pixel of a data set that was never scaled to 255
UNEVEN = 5  # times as many images in the largest class as in the smallest
# Correlation of neighbouring pixels, and how many pixels a side needs to be judged. MNIST has 0.74, the 8x8 digits of
# scikit-learn 0.27, photographs 0.97. MNIST's pixels in the order of their names as text (1, 10, 100, 101) have 0.19
# in one direction, with a wrong width 0.21, in random order 0.03.
LEAST_NEIGHBOURS = {8: 0.1, 20: 0.25}


@dataclass(frozen=True)
class Inspection:
    """The findings of one look at the pixels; metrics.json keeps them under `pixels`.

    Attributes:
        least: The darkest pixel of all, from 0 to 255.
        most: The brightest pixel of all.
        white: What became 255 in images of more than 8 bits; None: they had 8.
        background: `dark`, `light`, or `mixed` where the border of the images has no colour of its own.
        neighbours: Correlation over images of pixels one above the other, and side by side, from -1 to 1.
        images_per_class: In the order of the classes.
        copies: How many images equal an earlier one.
        two_labels: How many different images occur with more than one label.
        orientation: The orientation of digits: `upright`, or how they seem to be turned; None: not judged.
        correlation: The digits' correlation with MNIST's class means, from -1 to 1; negative on a light background.
        notes: What reading changed and what looks off, a line each, for people.
    """

    least: int
    most: int
    white: float | None
    background: str
    neighbours: tuple[float, float]
    images_per_class: tuple[int, ...]
    copies: int
    two_labels: int
    orientation: str | None
    correlation: float | None
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return what a run shows of it: one line, and one for each note."""
        counts = self.images_per_class
        least, most = min(counts), max(counts)
        each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        text = f"{self.least} to {self.most}, {self.background} background; {each} images of each class"
        if self.copies:
            text += f"; {self.copies:,} equal an earlier one and stay with it"
        return [f"pixels     {text}", *(f"note       {note}" for note in self.notes)]

    def as_json(self) -> dict[str, Any]:
        """Return what metrics.json keeps."""
        return asdict(self)


def inspect(dataset: Dataset, option: Data) -> Inspection:
    """Look at a labelled data set.

    Args:
        dataset: As the option gives it.
        option: The option of the config group `data`, for the advice.
    """
    assert dataset.labels is not None  # noqa: S101 - for training
    images = dataset.images
    background = background_of(images)
    neighbours = _neighbours(_sample(images))
    shuffled = _is_shuffled(neighbours, images.shape[1:3])
    orientation, correlation = (None, None) if shuffled else orientation_of(dataset, background)
    divided = divided_groups(dataset.copies, dataset.labels)
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    most = int(images.max())
    return Inspection(
        least=int(images.min()),
        most=most,
        white=dataset.white,
        background=background,
        neighbours=neighbours,
        images_per_class=tuple(counts.tolist()),
        copies=len(images) - len(np.unique(dataset.copies)),
        two_labels=len(divided),
        orientation=orientation,
        correlation=correlation,
        notes=(
            *map(printable, dataset.notes),
            *([f"the brightest pixel is {most} of 255: scale the pixels in the file"] if most < DIM else []),
            *_note_background(background, option),
            *(_note_neighbours(neighbours) if shuffled else _note_orientation(orientation, option)),
            *_note_counts(dataset, counts),
            *_note_labels(dataset, divided),
        ),
    )


def background_of(images: np.ndarray) -> str:
    """Return `dark`, `light` or `mixed`: what the border of most images is, uint8 (n, height, width, channels).

    A border is dark or light if half of its pixels are within an eighth of the range around the median, and the
    median is in the lowest or highest third of the range.
    """
    images = _sample(images)
    sides = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    counts = np.bincount(np.concatenate([side.ravel() for side in sides]), minlength=256)
    median = int(np.searchsorted(counts.cumsum(), counts.sum() / 2))
    least, most = int(images.min()), int(images.max())
    near = (most - least) // 8
    if most == least or counts[max(0, median - near) : median + near + 1].sum() < counts.sum() / 2:
        return "mixed"
    position = (median - least) / (most - least)
    return "dark" if position < 1 / 3 else "light" if position > 2 / 3 else "mixed"


def orientation_of(dataset: Dataset, background: str) -> tuple[str | None, float | None]:
    """Return how labelled digits are turned, and their correlation with MNIST's; None for other images.

    Args:
        dataset: Labelled.
        background: What `background_of` returns of it.
    """
    assert dataset.labels is not None  # noqa: S101 - see above
    images, labels = _sample(dataset.images), _sample(dataset.labels)
    counts = np.bincount(labels, minlength=len(dataset.classes))
    places = [place for place, name in enumerate(dataset.classes) if name in DIGITS and counts[place] >= LEAST_IMAGES]
    if dataset.image_shape[2] != 1 or len(places) < LEAST_DIGITS:
        return None, None
    means = class_means(images, labels, places)
    light = background == "light"
    orientation, correlation = match_digits(255 - means if light else means, [int(dataset.classes[p]) for p in places])
    return orientation, round(-correlation if light else correlation, 4)


def _sample(rows: np.ndarray) -> np.ndarray:
    return rows[:: -(-len(rows) // SAMPLE)]


def _neighbours(images: np.ndarray) -> tuple[float, float]:
    """Return the correlation of each pixel with the next below, and with the next to the right, over all images.

    Where no pixel differs between images, it is 1.
    """
    spread = images.astype(np.float32) - images.mean(axis=0, dtype=np.float32)
    down, across = (
        float(np.vdot(one, other) / scale) if (scale := np.sqrt(np.vdot(one, one) * np.vdot(other, other))) else 1.0
        for one, other in ((spread[:, 1:], spread[:, :-1]), (spread[:, :, 1:], spread[:, :, :-1]))
    )
    return round(down, 4), round(across, 4)


def _is_shuffled(neighbours: tuple[float, float], sides: tuple[int, ...]) -> bool:
    least = max(value for side, value in LEAST_NEIGHBOURS.items() if min(sides) >= side)
    return min(neighbours) < least


def _note_background(background: str, option: Data) -> list[str]:
    if background != "light":
        return []
    how = "leave out data.invert=true" if option.invert else "data.invert=true inverts the images"
    return [f"the background is light, and augmentation fills in dark pixels: {how}"]


def _note_neighbours(neighbours: tuple[float, float]) -> list[str]:
    down, across = neighbours
    return [
        f"neighbouring pixels are hardly alike (correlation {down:.2f} down, {across:.2f} across): "
        "are the pixels in order, and the height and width right?"
    ]


def _note_orientation(orientation: str | None, option: Data) -> list[str]:
    if orientation in (None, UPRIGHT):
        return []
    how = "turn them in the file"
    if orientation == TRANSPOSED:
        how = "leave out data.transpose=true" if option.transpose else "data.transpose=true turns them"
    return [f"the digits look {orientation}, compared with MNIST's: {how}"]


def _note_counts(dataset: Dataset, counts: np.ndarray) -> list[str]:
    fewest, most = int(counts.argmin()), int(counts.argmax())
    if counts[most] < UNEVEN * max(counts[fewest], 1):
        return []
    few, many = (printable(repr(dataset.classes[place])) for place in (fewest, most))
    return [f"the classes are uneven: {counts[fewest]:,} images of {few}, {counts[most]:,} of {many}"]


def _note_labels(dataset: Dataset, divided: np.ndarray) -> list[str]:
    """Name an image that has two labels, if there is one."""
    if len(divided) == 0:
        return []
    assert dataset.labels is not None  # noqa: S101 - for training
    places = np.flatnonzero(dataset.copies == divided[0])
    other = places[np.argmax(dataset.labels[places] != dataset.labels[places[0]])]
    images = "1 image has" if len(divided) == 1 else f"{len(divided):,} images have"
    first, second = (
        f"{printable(dataset.ids[place]) if dataset.ids else f'image {place}'} is "
        + printable(repr(dataset.classes[dataset.labels[place]]))
        for place in (places[0], other)
    )
    return [f"{images} two labels: {first}, and {second}, with equal pixels"]
