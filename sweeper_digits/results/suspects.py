"""Labels that are probably wrong: the models that did not train on an image contradict its label."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sweeper_digits.data.fingerprint import Content
from sweeper_digits.errors import UserError
from sweeper_digits.runs.predictions import Predictions
from sweeper_digits.runs.record import Record, best_first

# Runs whose predictions are read, the best ones: each is a file.
MOST_RUNS = 20
# Mean probability below which models are not sure of anything.
LEAST_SURE = 0.9


class Suspect(NamedTuple):
    """An image whose label is probably wrong.

    Attributes:
        image: Its place in the data as the best run read it, counted from 0.
        label: Place of its label in the list of classes.
        found: Place of the class that the models see.
        probability: Mean probability of that class, 0-1.
        models: How many models that did not train on the image were asked.
        picture: uint8 (height, width, channels).
    """

    image: int
    label: int
    found: int
    probability: float
    models: int
    picture: np.ndarray


def find_suspects(found: Sequence[Record], best: Record) -> list[Suspect]:
    """Return the images whose label is probably wrong, the surest first.

    An image is suspect if the models that were validated on it see another class, on average as surely as they see
    that class in the images that bear its label, and by 0.9 at least: confident learning (Northcutt, Jiang and Chuang
    2021, https://arxiv.org/abs/1911.00068). Only images among the worst mistakes of a run have a picture; others are
    left out. So are images whose label was changed between the runs.

    Args:
        found: The runs; the best of those with the classes of `best` are asked, each of the images that it shares with
            `best`, wherever they were in its data.
        best: The best run.
    """
    saved = _same_images([best, *best_first([one for one in found if one is not best], best.objectives[0])], best)
    if not saved:
        return []
    images, place = np.unique(np.concatenate([one.images for one in saved]), return_inverse=True)
    every = np.concatenate([one.labels for one in saved])
    labels = np.empty(len(images), int)
    labels[place[::-1]] = every[::-1]  # of the best run that has the image
    corrected = images[place[every != labels[place]]]  # between these runs: somebody has judged
    models = np.bincount(place)
    probabilities = np.zeros((len(images), len(best.classes)))
    np.add.at(probabilities, place, np.concatenate([one.probabilities for one in saved]))
    probabilities /= models[:, np.newaxis]
    pictures = {
        int(image): picture
        for one in reversed(saved)
        for image, picture in zip(one.images[one.worst], one.pictures, strict=True)
    }
    suspects = [
        Suspect(int(images[i]), int(labels[i]), int(seen), float(probabilities[i, seen]), int(models[i]), picture)
        for i, seen in _contradicted(probabilities, labels)
        if images[i] not in corrected and (picture := pictures.get(int(images[i]))) is not None
    ]
    return sorted(suspects, key=lambda suspect: -suspect.probability)


def _same_images(asked: Sequence[Record], best: Record) -> list[Predictions]:
    """Return the predictions of some runs for images of the best run's data, with their places there.

    A run that did not keep which images it read is asked for nothing but its own: equal places may be other images.
    """
    own, found = _content_of(best), []
    for record in asked[:MOST_RUNS]:
        saved, content = validation_of(record, best.classes), _content_of(record)
        if saved is None or record.classes != best.classes:
            continue
        if record is best or (own and content and own.fingerprint == content.fingerprint):
            found.append(saved)
        elif own and content and saved.fits(content):
            found.append(_moved(saved, content, own))
    return found


def _moved(saved: Predictions, content: Content, own: Content) -> Predictions:
    """Return the predictions for those images of one data set that another one has too, with their places there.

    One of several copies counts.
    """
    place_of: dict[tuple[int, int] | int, int] = {}
    for place, (image, label) in reversed(list(enumerate(zip(own.hashes.tolist(), own.labels.tolist(), strict=True)))):
        place_of[image] = place_of[image, label] = place
    row_of: dict[int, int] = {}
    for row, image in enumerate(content.hashes[saved.images].tolist()):
        place = place_of.get((image, int(saved.labels[row])), place_of.get(image))
        if place is not None:
            row_of.setdefault(place, row)
    rows = np.array(list(row_of.values()), int)
    kept = np.isin(saved.worst, rows)
    worst = np.array([int(np.flatnonzero(rows == row)[0]) for row in saved.worst[kept]], int)
    places = np.array(list(row_of), int)
    return Predictions(places, saved.labels[rows], saved.log_probabilities[rows], worst, saved.pictures[kept])


def _content_of(record: Record) -> Content | None:
    try:
        return record.run.read_images()
    except UserError:
        return None


def _contradicted(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[int, int]]:
    """Return the places of images that are as sure of another class as that class's own images are, and the class."""
    classes = probabilities.shape[1]
    sure = np.array([probabilities[labels == c, c].mean() if (labels == c).any() else np.inf for c in range(classes)])
    seen = probabilities.argmax(axis=1)
    confident = probabilities[np.arange(len(labels)), seen] >= np.maximum(sure, LEAST_SURE)[seen]
    return [(int(i), int(seen[i])) for i in np.flatnonzero(confident & (seen != labels))]


def validation_of(record: Record, classes: Sequence[str]) -> Predictions | None:
    """Return a run's predictions for its validation images, if it has readable ones for as many classes."""
    try:
        saved = record.run.read_validation()
    except UserError:  # split=all, or a damaged file
        return None
    return saved if saved.log_probabilities.shape[1] == len(classes) else None
