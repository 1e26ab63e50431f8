"""What `predict` does with paths: which are runs, which are pictures, and the labels of the pictures."""

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweeper_digits.data.contents import list_members
from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.mnist import DIGITS
from sweeper_digits.data.pictures import is_picture, read_pictures
from sweeper_digits.errors import UserError
from sweeper_digits.results.adapt import adapt_pictures, trained_white
from sweeper_digits.results.ensemble import Member
from sweeper_digits.results.images import look
from sweeper_digits.results.scores import note_looks
from sweeper_digits.runs.record import Record
from sweeper_digits.screen import printable

TABLES = (".csv", ".npz", ".npy", ".gz", ".zip", ".parquet", ".mat", ".h5")  # data sets, not pictures


def sort_paths(given: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Tell runs from pictures by what is there, not by names.

    A folder with a run anywhere in it is a run or a sweep; one with pictures in it, at any depth, stands for all of
    them, in the order of their names, numbers as numbers. A pattern such as `*.webp` stands for what it matches.

    Returns:
        The runs, and the pictures.

    Raises:
        UserError: A path that is neither.
    """
    runs: list[str] = []
    pictures: list[Path] = []
    for path in (found for text in given for found in _expand(text)):
        if not path.is_dir():
            if path.suffix.lower() in TABLES:
                raise UserError(f"{path}: not a readable picture; to predict data, type --data {path}")
            pictures.append(path)
        elif next(path.rglob(".hydra"), None):
            if any(is_picture(file) for file in path.iterdir() if file.is_file()):
                raise UserError(f"{path}: both runs and pictures are in it; name a run, or pictures: '{path}/*.png'")
            runs.append(str(path))
        else:
            files = [file for member in list_members(path) if (file := path / member.name).is_file()]
            if not (found := [file for file in files if is_picture(file)]):
                raise UserError(f"{path}: neither a run (a folder .hydra) nor a picture is in it")
            if len(found) < len(files):
                print(f"left out   {len(files) - len(found):,} of {len(files):,} files in {path}: no pictures")
            pictures.extend(sorted(found, key=_in_numeric_order))
    return runs, pictures


def label_pictures(
    pictures: Sequence[Path],
    chosen: list[Record],
    members: list[Member],
    predict: Callable[[np.ndarray], np.ndarray],
) -> list[dict[str, Any]]:
    """Print the label of each picture and its probability, or why it has none; return the same, a row for each.

    A picture that equals an image that a run locked away for testing is noted there as a look.

    Args:
        pictures: The files.
        chosen: The runs.
        members: Their models.
        predict: Gives probabilities, float (n, classes), of images, uint8 (n, height, width, channels).
    """
    classes = chosen[0].classes
    images, refused = read_pictures(pictures, chosen[0].image_shape, classes == DIGITS, trained_white(chosen[0]))
    known: Iterator[np.ndarray] = iter(())
    if len(images):
        images = adapt_pictures(images, chosen[0])
        probabilities = predict(images)
        looked = look(Dataset(images, None, "pictures"), "pictures", chosen, members)
        note_looks(chosen, looked, probabilities)  # first: no look without its note
        known = iter(probabilities)
    lengths = max(len(printable(str(path))) for path in pictures), max(map(len, classes))
    rows: list[dict[str, Any]] = []
    for path in pictures:
        name = printable(str(path)).ljust(lengths[0])
        if path in refused:
            rows.append({"path": path, "label": None, "probability": None, "reason": printable(refused[path])})
            if len(pictures) > 1:  # of a single one, the error says it
                print(f"{name}  {'-'.ljust(lengths[1])}  {printable(refused[path])}")
        else:
            row = next(known)
            label, probability = classes[row.argmax()], float(row.max())
            rows.append({"path": path, "label": label, "probability": probability, "reason": None})
            print(f"{name}  {label.ljust(lengths[1])}  {probability:6.1%}")
    return rows


def check_labelled(rows: list[dict[str, Any]]) -> None:
    """Raise a UserError unless each picture has a label.

    Args:
        rows: As `label_pictures` returns them.
    """
    refused = [row for row in rows if row["label"] is None]
    if len(rows) == len(refused) == 1:
        raise UserError(f"{printable(str(rows[0]['path']))}: {rows[0]['reason']}")
    if refused:
        raise UserError(f"{len(refused):,} of {len(rows):,} pictures have no label; their lines say why")


def _expand(text: str) -> list[Path]:
    """Return the paths that a path or a pattern stands for."""
    path = Path(text).expanduser()
    if path.exists():
        return [path]
    if glob.has_magic(text):
        if found := [Path(name) for name in glob.glob(str(path), recursive=True)]:  # noqa: PTH207 - also absolute
            return sorted(found, key=_in_numeric_order)
        raise UserError(f"{text}: no file or folder matches")
    raise UserError(f"{text}: no such folder, no such picture")


def _in_numeric_order(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path)) if part]
