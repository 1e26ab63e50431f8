"""The images that `predict` looks at, and what the runs did with them: trained, validated, locked away."""

from dataclasses import dataclass

import numpy as np

from sweeper_digits.data.dataset import Dataset, load
from sweeper_digits.data.duplicates import number_images
from sweeper_digits.data.split import Parts, split_test, splits
from sweeper_digits.errors import UserError
from sweeper_digits.options import Split
from sweeper_digits.results.ensemble import Member
from sweeper_digits.runs.record import Record, saved_option


@dataclass
class Looked:
    """Images to be predicted, and what the runs did with images that are equal to them, pixel for pixel.

    Attributes:
        dataset: The images, with labels where there are any.
        part: `test`, `validation` or `all`.
        used: bool (models, n), which model predicts which image.
        known: Whether the runs' own data is at hand; without it the next three are all False.
        trained: bool (n,), images that a model trained on which predicts them.
        validated: bool (n,), images that a model was validated on.
        locked: bool (runs, n), images that the run locked away for testing.
    """

    dataset: Dataset
    part: str
    used: np.ndarray
    known: bool
    trained: np.ndarray
    validated: np.ndarray
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
        if not self.known:
            return "; not known how many of them were trained on"
        text = (
            f"; not a score of new images: {self.trained.sum():,} of them were trained on" if self.trained.any() else ""
        )
        if chosen < candidates and self.validated.any():
            text += f"; optimistic: chosen from {candidates:,} runs by their scores on {self.validated.sum():,} of them"
        if greedy and self.validated.any():
            text += f"; in sample: the weights were chosen on {self.validated.sum():,} of them"
        return text


def find_part(chosen: list[Record], members: list[Member], part: str | None) -> Looked:
    """Return a part of the runs' own data.

    A validation image is predicted by the models that did not train on it: of five folds by one.

    Args:
        chosen: The runs.
        members: Their models.
        part: `test` (locked away by split.test_size), `validation` or `all`; None: test if there is one.

    Raises:
        UserError: No such part, runs that locked different images away, or data that only the environment knows.
    """
    if unknown := sorted(name for name in chosen[0].unknown if name.startswith("data.")):
        value = chosen[0].settings[unknown[0]]
        raise UserError(
            f"{chosen[0].run.folder}: it was trained with {unknown[0]}={value}, and what a run folder refers to is not "
            "looked up; name the data with --data"
        )
    own = load(saved_option(chosen[0], "data"))
    if own.labels is None:
        return look(own, "all", chosen, members)
    options = [saved_option(record, "split") for record in chosen]
    part = part or ("test" if options[0].test_size else "validation")
    if part == "all":
        return look(own, part, chosen, members)
    if part == "test":
        places = _find_test_part(options, own.labels, own.groups)
        used = None
    else:
        parts = [_parts(member.split, own.labels, own.groups) for member in members]
        places = np.unique(np.concatenate([one.validation for one in parts]))
        used = np.stack([~np.isin(places, one.train) for one in parts])
        if len(places) == 0:
            raise UserError("--part validation: this run has none (split=all); use --data or --part all")
    return look(own.part(places), part, chosen, members, used)


def look(
    dataset: Dataset, part: str, chosen: list[Record], members: list[Member], used: np.ndarray | None = None
) -> Looked:
    """Say of each image what the runs did with it.

    Args:
        dataset: The images.
        part: Their name.
        chosen: The runs.
        members: Their models.
        used: bool (models, n), which model predicts which image; None: each predicts all.
    """
    number = len(dataset.images)
    used = np.ones((len(members), number), bool) if used is None else used
    nothing = np.zeros(number, bool)
    try:
        own = load(saved_option(chosen[0], "data"))
    except (UserError, OSError):
        own = None
    if own is None or own.labels is None:
        return Looked(dataset, part, used, False, nothing, nothing, np.zeros((len(chosen), number), bool))
    ours, theirs = number_images(dataset.images, own.images)
    parts = [_parts(member.split, own.labels, theirs) for member in members]
    trained = [np.isin(ours, theirs[one.train]) for one in parts]
    locked = [split_test(saved_option(record, "split"), own.labels, theirs)[1] for record in chosen]
    return Looked(
        dataset=dataset,
        part=part,
        used=used,
        known=True,
        trained=(np.stack(trained) & used).any(axis=0),
        validated=np.isin(ours, np.concatenate([theirs[one.validation] for one in parts])),
        locked=np.stack([np.isin(ours, theirs[indices]) for indices in locked]),
    )


def _find_test_part(options: list[Split], labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    if not options[0].test_size:
        raise UserError("--part test: this run locked no test part away (split.test_size=0)")
    if len({(one.test_size, one.seed) for one in options}) > 1:
        raise UserError("--part test: these runs locked different images away; choose runs of one split")
    return split_test(options[0], labels, groups)[1]


def _parts(split: Split, labels: np.ndarray, groups: np.ndarray) -> Parts:
    """Return the images that a model trained on and was validated on."""
    parts = list(splits(split, labels, groups))
    return Parts(*(np.concatenate(indices) for indices in zip(*parts, strict=True)))
