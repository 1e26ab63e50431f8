"""What the files of a run may hold. Whatever else they hold is damage, and makes the run unreadable."""

import dataclasses
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sweeper_digits.data.limits import check_archive, read_header
from sweeper_digits.data.mnist import IMAGE_SHAPE
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.predictions import Predictions
from sweeper_digits.schema import MEASURED, METRIC_OF

STATES = ("finished", "pruned", "diverged", "failed")
# What metrics.json has of the objectives, and what else the table takes from there.
COMPARED = (*(METRIC_OF.get(name, name) for name in MEASURED), "epochs", "run_seconds")
# A history of a million epochs has less.
MOST_BYTES = 2**27
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_metrics(metrics: dict[str, Any]) -> None:
    """Raise a UserError unless every metric that is compared is a number, and a finite one if the run has finished."""
    if (state := metrics.get("state")) not in STATES:
        raise UserError(f"metrics.json: state={state!r}; expected one of {', '.join(STATES)}")
    classes = metrics.get("classes", [])
    if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise UserError("metrics.json: classes is no list of names")
    shape = metrics.get("image_shape", list(IMAGE_SHAPE))
    if not (isinstance(shape, list) and len(shape) == 3 and all(isinstance(side, int) for side in shape)):
        raise UserError("metrics.json: image_shape is not height, width and channels")
    registered = check_directions(metrics)
    for part in (metrics, *metrics.get("folds", [])):
        for name in (*COMPARED, *registered, *(f"{name}_se" for name in MEASURED)):
            value = part.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise UserError(f"metrics.json: {name}={value!r}; expected a number")
            if state == "finished" and isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"metrics.json: {name}={value}; a finished run has a finite number")
            if isinstance(value, int) and abs(value) > 2**53:
                raise UserError(f"metrics.json: {name} has {len(str(value))} digits")


def check_directions(metrics: dict[str, Any]) -> dict[str, str]:
    """Return the objectives that were registered with the run, and the direction of each.

    Raises:
        UserError: No names and directions.
    """
    directions = metrics.get("directions", {})
    if not isinstance(directions, dict) or not set(directions.values()) <= {"minimize", "maximize"}:
        raise UserError("metrics.json: directions does not name a direction, minimize or maximize, for each objective")
    return {str(name): str(direction) for name, direction in directions.items()}


def check_file(file: Path) -> None:
    """Raise a UserError for what is there but no plain file, or too large.

    A pipe would be waited on for ever; a link may lead to itself.
    """
    if (file.exists() or file.is_symlink()) and not file.is_file():
        raise UserError(f"{file}: not a file")
    if file.exists() and file.stat().st_size > MOST_BYTES:
        raise UserError(f"{file}: more than {MOST_BYTES:,} bytes")


def check_files(run: RunFolder) -> None:
    """Check every file of a run, and that the validation predictions are those of a run."""
    parts = (run, *run.folds())
    files = [run.folder / ".hydra" / f"{name}.yaml" for name in ("config", "hydra", "overrides")]
    files += [file for part in parts for file in (part.metrics, part.history, part.tests, part.validation)]
    for file in files:
        check_file(file)
    for file in (part.validation for part in parts if part.validation.exists()):
        check_archive(file)
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                found, labels, classes = set(archive.files), archive["labels"], _classes(file)
        except Exception as error:  # zip, zlib, NumPy, and TypeError for a single array
            raise UserError(f"{file}: no readable validation predictions ({error})") from error
        if found != {field.name for field in dataclasses.fields(Predictions)}:
            raise UserError(f"{file}: arrays {', '.join(sorted(found))}; not the predictions of a run")
        if not np.isin(labels, np.arange(classes)).all():
            raise UserError(f"{file}: a label that is not from 0 to {classes - 1}")


def _classes(file: Path) -> int:
    """Return how many classes the probabilities are of; they are large, and only their header is read."""
    with zipfile.ZipFile(file) as archive:
        if "log_probabilities.npy" not in archive.namelist():
            return 0
        with archive.open("log_probabilities.npy") as stream:
            (_, classes), _ = read_header(stream)
    return classes


def load_yaml(path: Path) -> Any:
    """Return what a YAML file holds; raise a UserError if it is damaged or has an alias."""
    try:
        text = path.read_text(encoding="utf-8")
        # Hydra writes no alias. Nested, a few of them stand for more values than memory holds.
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, LOADER)):
            raise UserError(f"{path}: a YAML alias, which no run saves")
        return yaml.load(text, LOADER)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error})") from error
