"""The images that are predicted: which runs were trained on them, and whether their pixels look like a run's own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sweeper_digits.components import Data
from sweeper_digits.data.dataset import Dataset, inverted, load
from sweeper_digits.data.fingerprint import Content
from sweeper_digits.data.inspection import TRANSPOSED, UPRIGHT, background_of, orientation_of
from sweeper_digits.data.split import splits_of
from sweeper_digits.errors import UserError
from sweeper_digits.predict.ensemble import Member
from sweeper_digits.runs.record import Record, saved_option
from sweeper_digits.text import counted, printable


@dataclass
class Looked:
    """Images to be predicted, and how the runs used images that are equal to them, pixel for pixel.

    Attributes:
        dataset: The images, with labels where there are any.
        part: `test`, `validation` or `all`.
        used: bool (models, n), which model predicts which image.
        known: Whether each run has kept which images it read. If not, the next four are as today's file says, if it is
            there: it may be another than they read.
        trained: bool (n,), images in the training set of a model that predicts them.
        validated: bool (n,), images that a model was validated on.
        relabelled: bool (n,), images that a run read with another label.
        locked: bool (runs, n), images that the run locked away for testing.
    """

    dataset: Dataset
    part: str
    used: np.ndarray
    known: bool
    trained: np.ndarray
    validated: np.ndarray
    relabelled: np.ndarray
    locked: np.ndarray

    def describe(self) -> str:
        """Return what is predicted, and by how many models."""
        counts = self.used.sum(axis=0)
        text = f"{self.dataset.source}: {len(counts):,} images ({self.part})"
        if self.used.all():
            return text
        least, most = counts.min(), counts.max()
        models = f"{least}" if least == most else f"{least} to {most}"
        return f"{text}, each predicted by the {models} of {len(self.used)} models that did not train on it"

    def caveat(self, greedy: bool, chosen: int, candidates: int) -> str:
        """Return what the line of a score must say beside it, with a semicolon in front; mostly nothing.

        Args:
            greedy: Whether the weights were chosen on the validation images.
            chosen: How many runs predict.
            candidates: From how many they were chosen, by their values on the validation images.
        """
        text = f"; {counted(self.relabelled.sum(), 'label')} changed since training" if self.relabelled.any() else ""
        if not self.known:
            return f"{text}; not known how many of them were trained on"
        if self.trained.any():
            text += f"; not a score of new images: {self.trained.sum():,} of them were trained on"
        if chosen < candidates and self.validated.any():
            text += f"; optimistic: chosen from {candidates:,} runs by their scores on {self.validated.sum():,} of them"
        if greedy and self.validated.any():
            text += f"; in sample: the weights were chosen on {self.validated.sum():,} of them"
        return text


def find_part(chosen: list[Record], members: list[Member], part: str | None) -> Looked:
    """Return a part of the runs' own data: the images that were in it when the runs read them, wherever they are now.

    A validation image is predicted by the models that did not train on it: of five folds by one.

    Args:
        chosen: The runs.
        members: Their models.
        part: `test` (locked away by split.test_size), `validation` or `all`; None: test if there is one.

    Raises:
        UserError: No such part, runs that locked different images away, images that are gone, or data that only the
            environment knows.
    """
    if unknown := sorted(name for name in chosen[0].unknown if name.startswith("data.")):
        value = chosen[0].settings[unknown[0]]
        raise UserError(
            f"{chosen[0].run.folder}: it was trained with {unknown[0]}={value}, and what a run folder refers to is not "
            "looked up; name the data with --data"
        )
    option = saved_option(chosen[0], "data")
    own, classes = load(option), chosen[0].classes
    if own.labels is None:
        return look(own, "all", chosen, members)
    changes = [change_since(record, own) for record in chosen if saved_option(record, "data") == option]
    own = replace(own, notes=(*own.notes, *dict.fromkeys(filter(None, changes))))
    part = part or ("test" if saved_option(chosen[0], "split").test_size else "validation")
    if part == "all":
        return look(own.with_classes(classes), part, chosen, members)
    contents, _ = _contents(chosen, own)
    used = None
    if part == "test":
        wanted = _locked_by_all(chosen, contents)
        places = _places(wanted, own, "locked away")
    else:
        wanted = np.unique(np.concatenate(_of_members(members, chosen, contents, Content.validated)))
        if len(wanted) == 0:
            raise UserError("--part validation: this run has none (split=all); use --data or --part all")
        places = _places(wanted, own, "validated on")
        trained = _of_members(members, chosen, contents, Content.trained)
        used = np.stack([~np.isin(own.hashes[places], one) for one in trained])
    return look(own.part(places).with_classes(classes), part, chosen, members, used)


def look(
    dataset: Dataset, part: str, chosen: list[Record], members: list[Member], used: np.ndarray | None = None
) -> Looked:
    """Say of each image what each run did with it, by what the run kept of the images that it read.

    Args:
        dataset: The images; labels are places in the classes of the runs.
        part: Their name.
        chosen: The runs.
        members: Their models.
        used: bool (models, n), which model predicts which image; None: each predicts all.

    Raises:
        UserError: What a run kept is damaged.
    """
    hashes = dataset.hashes
    used = np.ones((len(members), len(hashes)), bool) if used is None else used
    contents, known = _contents(chosen)
    trained, validated = (
        np.stack([np.isin(hashes, one) for one in _of_members(members, chosen, contents, what)])
        for what in (Content.trained, Content.validated)
    )
    relabelled = np.zeros(len(hashes), bool)
    if dataset.labels is not None:
        names = [dataset.classes[label] for label in dataset.labels]
        for content in contents:
            relabelled |= content.other_labels(hashes, names)
    return Looked(
        dataset=dataset,
        part=part,
        used=used,
        known=known,
        trained=(trained & used).any(axis=0),
        validated=np.asarray(validated.any(axis=0)),
        relabelled=relabelled,
        locked=np.stack([np.isin(hashes, content.locked) for content in contents]),
    )


# What a model did with images, for example `Content.trained`.
Use = Callable[[Content, int | None], np.ndarray]


def _contents(chosen: Sequence[Record], own: Dataset | None = None) -> tuple[list[Content], bool]:
    """Return what each run read and did with it, and whether the runs themselves have kept that.

    Where a run did not keep its images, today's file says it, if it is there.

    Args:
        chosen: The runs.
        own: Today's images of the first run; None: not loaded yet.
    """
    kept = [record.run.read_images() for record in chosen]
    if None in kept and own is None:
        try:
            own = load(saved_option(chosen[0], "data"))
        except (UserError, OSError):
            own = None
    today = saved_option(chosen[0], "data")
    found = [
        content or _as_today(record, own if saved_option(record, "data") == today else None)
        for record, content in zip(chosen, kept, strict=True)
    ]
    return found, None not in kept


def _as_today(record: Record, own: Dataset | None) -> Content:
    if own is None or own.labels is None:
        nothing = np.zeros(0, np.int64)
        return Content(nothing.astype(np.uint64), nothing, (), nothing)
    return Content.of(own, splits_of(saved_option(record, "split"), own))


def _of_members(members: list[Member], chosen: list[Record], contents: list[Content], what: Use) -> list[np.ndarray]:
    by_run = {record.run.folder: content for record, content in zip(chosen, contents, strict=True)}
    return [what(by_run[member.record.run.folder], member.fold) for member in members]


def change_since(record: Record, own: Dataset) -> str:
    """Return the note that says how a run's data has changed since; "" if it has not, or if that is not known."""
    kept = record.run.read_images()
    changes = kept.changes(Content.of(own)) if kept else ""
    return changes and f"the data changed since {printable(str(record.run.folder))} read it: {changes}"


def _locked_by_all(chosen: list[Record], contents: list[Content]) -> np.ndarray:
    """Return the hashes of the images that the runs locked away, each once."""
    locked = [np.unique(content.locked) for content in contents]
    if len(locked[0]) == 0:
        raise UserError("--part test: this run locked no test part away (split.test_size=0)")
    if not all(np.array_equal(one, locked[0]) for one in locked):
        raise UserError("--part test: these runs locked different images away; choose runs of one split")
    return locked[0]


def _places(wanted: np.ndarray, own: Dataset, what: str) -> np.ndarray:
    """Return the places of images, by their hashes; raise a UserError unless all are there."""
    if gone := len(wanted) - np.isin(wanted, own.hashes).sum():
        raise UserError(
            f"{own.source}: {gone:,} of the {counted(len(wanted), 'image')} that the runs {what} are not in it any "
            "more; put the file back as it was, or score other images with --data FILE"
        )
    return np.flatnonzero(np.isin(own.hashes, wanted))


# How many times brighter or darker than the training data's the brightest pixel may be.
RANGE = 3
OPPOSITE = {"dark", "light"}  # backgrounds


def adapt_pixels(dataset: Dataset, option: Data, trained: Record) -> Dataset:
    """Return a data set with the background of a run's training data, inverted if need be, with a note of it.

    For a run that did not keep what its pixels looked like, nothing is changed.
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

    `read_pictures` gives digits a dark background. Pictures whose border is neither dark nor light stay.
    """
    theirs = str(_look_at_training(trained).get("background"))
    turned = [{background_of(image[np.newaxis]), theirs} == OPPOSITE for image in images]
    return np.where(np.array(turned)[:, np.newaxis, np.newaxis, np.newaxis], 255 - images, images)


def trained_white(trained: Record) -> float | None:
    """Return the value that became 255 in a run's images, where these had more than 8 bits; else None."""
    white = _look_at_training(trained).get("white")
    return float(white) if isinstance(white, int | float) and 0 < white < math.inf else None


def _look_at_training(trained: Record) -> dict[str, Any]:
    """Return what a run kept of the look at its pixels; nothing if it kept none."""
    return trained.metrics.get("pixels") or {}


def _check_range(dataset: Dataset, known: dict[str, Any]) -> None:
    ours, theirs = int(dataset.images.max()), known.get("most")
    if isinstance(theirs, int) and not theirs <= RANGE * ours <= RANGE**2 * theirs:
        raise UserError(
            f"{dataset.source}: the brightest pixel is {ours}, that of the training data was {theirs}; "
            "scale the pixels in the file"
        )
