"""Files of predictions: Kaggle's submission, and probabilities."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweeper_digits.data.tables import read_kaggle_file
from sweeper_digits.errors import UserError
from sweeper_digits.options import Kaggle
from sweeper_digits.runs.folder import replacing


def write_predictions(path: Path, probabilities: np.ndarray, sample: np.ndarray | None, classes: Sequence[str]) -> None:
    """Write Kaggle's `ImageId,Label` (.csv) or the probabilities (.npz).

    Args:
        path: Of the file; replaced as a whole.
        probabilities: float (n, classes).
        sample: The ImageIds that Kaggle expects, or None: 1 to n.
        classes: Their names.

    Raises:
        UserError: Another suffix, or other rows than the sample has.
    """
    labels = probabilities.argmax(axis=1)
    if path.suffix == ".npz":
        with replacing(path) as temporary:
            arrays = {"probabilities": probabilities.astype(np.float32), "labels": labels, "classes": np.array(classes)}
            np.savez_compressed(temporary, **arrays)
        return
    if path.suffix != ".csv":
        raise UserError(f"--out {path}: the suffix must be .csv (labels) or .npz (probabilities)")
    ids = np.arange(1, len(labels) + 1) if sample is None else sample
    if len(ids) != len(labels):
        raise UserError(f"{path}: sample_submission.csv has {len(ids)} rows, the predictions {len(labels)}")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["ImageId", "Label"])
    writer.writerows(zip(ids.tolist(), (classes[label] for label in labels), strict=True))
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def read_sample_ids(option: Any) -> np.ndarray | None:
    """Return the ImageIds of Kaggle's sample_submission.csv beside the data, or None without one.

    Raises:
        UserError: Another header than ImageId,Label, or an id that is no number.
    """
    if not (isinstance(option, Kaggle) and option.part == "test"):
        return None
    path = Path(option.path).expanduser()
    try:
        name, raw = read_kaggle_file(path.parent if path.suffix.lower() == ".csv" else path, "sample_submission.csv")
    except UserError:
        return None
    rows = list(csv.reader(io.StringIO(raw.decode(errors="replace"))))
    if not rows or rows[0] != ["ImageId", "Label"]:
        raise UserError(f"{name}: its header is {','.join(rows[0]) if rows else 'missing'}; expected ImageId,Label")
    try:
        return np.array([int(row[0]) for row in rows[1:] if row])
    except ValueError as error:
        raise UserError(f"{name}: an ImageId that is no whole number ({error})") from error
