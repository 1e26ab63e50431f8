"""A data set to predict, in the light and dark that a model was trained on; what cannot be adapted is refused."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from sweeper_digits.data.dataset import Dataset, inverted
from sweeper_digits.data.inspection import background_of, orientation_of
from sweeper_digits.data.orientation import TRANSPOSED, UPRIGHT
from sweeper_digits.errors import UserError
from sweeper_digits.options import Data
from sweeper_digits.runs.record import Record

# How many times brighter or darker than the training data's the brightest pixel may be.
RANGE = 3
OPPOSITE = {"dark", "light"}  # backgrounds


def adapt_pixels(dataset: Dataset, option: Data, trained: Record) -> Dataset:
    """Return a data set with the background of a run's training data, inverted if need be, with a note of it.

    A run of an earlier version did not keep what its pixels looked like; for such a run nothing is changed.
    Images of another shape are left to the model, which refuses them.

    Args:
        dataset: As the option gives it.
        option: Of the config group `data`.
        trained: The run.

    Raises:
        UserError: Pixels of another range, or transposed digits.
    """
    known = _look_at_training(trained)
    if not known or trained.image_shape != dataset.image_shape:
        return dataset
    ours, theirs = background_of(dataset.images), str(known.get("background"))
    if {ours, theirs} == OPPOSITE:
        dataset = inverted(dataset, f"inverted: the background is {ours}, that of the training data was {theirs}")
        ours = theirs
    if dataset.white is None or dataset.white != trained_white(trained):  # else they were scaled alike
        _check_range(dataset, known)
    orientation = orientation_of(dataset, ours)[0] if dataset.labels is not None else None
    if {orientation, trained_on := str(known.get("orientation"))} == {UPRIGHT, TRANSPOSED}:
        raise UserError(
            f"{dataset.source}: the digits look {orientation}, those of the training data {trained_on}; "
            f"add transpose={str(not option.transpose).lower()} after --data"
        )
    if orientation is None and bool(trained.settings.get("data.transpose")) and not option.transpose:
        note = "as it was read; the training data was transposed: transpose=true after --data transposes this too"
        dataset = replace(dataset, notes=(*dataset.notes, note))
    return dataset


def adapt_pictures(images: np.ndarray, trained: Record) -> np.ndarray:
    """Return pictures, uint8 (n, height, width, channels), each with the background of a run's training data.

    Of a digit, `read_pictures` gives a dark background. Pictures whose border is neither dark nor light stay.
    """
    theirs = str(_look_at_training(trained).get("background"))
    turned = [{background_of(image[np.newaxis]), theirs} == OPPOSITE for image in images]
    return np.where(np.array(turned)[:, np.newaxis, np.newaxis, np.newaxis], 255 - images, images)


def trained_white(trained: Record) -> float | None:
    """Return what became 255 in a run's images, where these had more than 8 bits; else None."""
    white = _look_at_training(trained).get("white")
    return float(white) if isinstance(white, int | float) and 0 < white < math.inf else None


def _look_at_training(trained: Record) -> dict[str, Any]:
    """Return what a run kept of the look at its pixels; nothing of a run of an earlier version."""
    known = trained.metrics.get("pixels")
    return known if isinstance(known, dict) else {}


def _check_range(dataset: Dataset, known: dict[str, Any]) -> None:
    ours, theirs = int(dataset.images.max()), known.get("most")
    if isinstance(theirs, int) and not theirs <= RANGE * ours <= RANGE**2 * theirs:
        raise UserError(
            f"{dataset.source}: the brightest pixel is {ours}, that of the training data was {theirs}; "
            "scale the pixels in the file"
        )
