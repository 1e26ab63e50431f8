"""Files of predictions: a submission as the sample beside the data wants it, and probabilities."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from sweeper_digits.data.contents import Member, list_members
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import replacing
from sweeper_digits.text import counted, no_formula


@dataclass(frozen=True)
class Sample:
    """The submission that a competition shows for an example.

    Attributes:
        where: Its file, for messages.
        header: The names of its two columns.
        ids: What it asks for, in its order.
    """

    where: str
    header: tuple[str, str]
    ids: tuple[str, ...]


def write_predictions(
    path: Path,
    probabilities: np.ndarray,
    sample: Sample | None,
    classes: Sequence[str],
    ids: Sequence[str] | None = None,
) -> None:
    """Write a submission (.csv), or the probabilities (.npz).

    Args:
        path: Of the file; replaced as a whole.
        probabilities: float (n, classes).
        sample: Its header and order are taken; None: `id,label`, or Kaggle's `ImageId,Label` with 1 to n.
        classes: The names of the classes, which are the labels of a submission.
        ids: What names each image, or None.

    Raises:
        UserError: The sample asks for other images; nothing is written then.
    """
    labels = probabilities.argmax(axis=1)
    if path.suffix == ".npz":
        arrays = {"probabilities": probabilities.astype(np.float32), "labels": labels, "classes": np.array(classes)}
        arrays |= {} if ids is None else {"ids": np.array(ids)}
        with replacing(path) as temporary:
            np.savez_compressed(temporary, **arrays)
        return
    header, asked = ("ImageId", "Label"), [str(number) for number in range(1, len(labels) + 1)]
    order: Sequence[int] = range(len(labels))
    if sample is not None:
        header, asked, order = sample.header, list(sample.ids), _places(sample, len(labels), ids, path)
    elif ids is not None:
        header, asked = ("id", "label"), list(ids)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows((name, no_formula(classes[labels[place]])) for name, place in zip(asked, order, strict=True))
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def read_sample(path: Path) -> Sample | None:
    """Return the sample_submission.csv beside or in the data to be labelled, or None without one.

    Raises:
        UserError: It has not two columns.
    """
    member = _find_sample(path) if path.exists() else None
    if member is None:
        return None
    rows = [row for row in csv.reader(io.StringIO(member.read().decode("utf-8-sig", errors="replace"))) if row]
    if not rows or any(len(row) != 2 for row in rows):
        found = ",".join(rows[0][:6]) if rows else "nothing"
        raise UserError(f"{member.where}: its header is {found}; two columns, an id and a label, are expected")
    return Sample(member.where, (rows[0][0], rows[0][1]), tuple(row[0] for row in rows[1:]))


def _find_sample(path: Path) -> Member | None:
    members = list_members(path) if path.is_file() else []
    if len(members) < 2:  # no zip: the sample can be beside the file
        folder = path.parent if path.is_file() else path
        files = [found for found in sorted(folder.iterdir()) if _is_sample(found.name)]
        members = [member for found in files if found.is_file() for member in list_members(found)]
    return next((member for member in members if _is_sample(PurePosixPath(member.name).name)), None)


def _is_sample(name: str) -> bool:
    return "sample" in name.lower() and "submission" in name.lower() and name.lower().endswith(".csv")


def _places(sample: Sample, number: int, ids: Sequence[str] | None, path: Path) -> Sequence[int]:
    """Return which image answers each row of the sample: that of its id, or, without ids, that of its place."""
    if len(sample.ids) != number:
        raise UserError(f"{path}: {sample.where} has {counted(len(sample.ids), 'row')}, the predictions {number}")
    if ids is None:
        return range(number)
    for name in (str, _stem):
        places = {name(own): place for place, own in enumerate(ids)}
        if len(places) == number and {name(asked) for asked in sample.ids} == set(places):
            return [places[name(asked)] for asked in sample.ids]
    if twice := [asked for asked, count in Counter(sample.ids).items() if count > 1]:
        raise UserError(f"{path}: {sample.where} asks for {twice[0]!r} twice")
    missing = next((asked for asked in sample.ids if asked not in ids), sample.ids[0])
    raise UserError(f"{path}: {sample.where} asks for {missing!r}; the images are named {ids[0]!r} to {ids[-1]!r}")


def _stem(name: str) -> str:
    return PurePosixPath(name).stem
