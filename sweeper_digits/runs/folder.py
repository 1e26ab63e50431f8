"""Every file of a run: its name, its writer, its reader, and what makes it unreadable."""

import contextlib
import csv
import dataclasses
import json
import math
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sweeper_digits.config import MEASURED, METRIC_OF
from sweeper_digits.data.contents import check_archive, read_header
from sweeper_digits.data.fingerprint import Content
from sweeper_digits.errors import UserError
from sweeper_digits.runs.predictions import ByContent, Predictions, check_arrays
from sweeper_digits.runs.process import machine

STATES = ("finished", "pruned", "diverged", "failed")
# A history of a million epochs has less.
MOST_BYTES = 2**27
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


# Numbers of metrics.json, and of each of its folds, beside the objectives that were registered with the run.
NUMBERS = (
    *(METRIC_OF.get(name, name) for name in MEASURED),
    *(f"{name}_se" for name in MEASURED),
    *("epochs", "run_seconds", "train_images", "validation_images"),
)


def _is_list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, kind) for one in value)


TEXT = (lambda value: isinstance(value, str), "a text")
# Other values of metrics.json that are compared: whether one may be such a value, and a word for it.
EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "state": (lambda value: value in STATES, f"one of {', '.join(STATES)}"),
    "objectives": (lambda value: _is_list_of(str, value), "a list of names"),
    "directions": (
        lambda value: isinstance(value, dict) and all(one in ("minimize", "maximize") for one in value.values()),
        "minimize or maximize for each objective",
    ),
    "classes": (lambda value: _is_list_of(str, value), "a list of names"),
    "image_shape": (lambda value: _is_list_of(int, value) and len(value) == 3, "height, width and channels"),
    "folds": (lambda value: _is_list_of(dict, value), "a list of mappings"),
    **dict.fromkeys(("fingerprint", "validation_fingerprint", "precision", "code"), TEXT),
    "pixels": (lambda value: isinstance(value, dict), "a mapping"),
}


def check_metrics(metrics: Any) -> None:
    """Raise a ValueError unless a run may have written these metrics; all code that compares runs relies on it."""
    if not isinstance(metrics, dict):
        raise ValueError("not readable (no JSON object)")
    if "state" not in metrics:
        raise ValueError("no state; it is not that of a run")
    for name, (may_be, expected) in EXPECTED.items():
        if (value := metrics.get(name)) is not None and not may_be(value):
            raise ValueError(f"{name}={value!r}; expected {expected}")
    numbers = (*NUMBERS, *(metrics.get("directions") or ()))
    for one in (metrics, *(metrics.get("folds") or ())):
        for name, value in ((name, one[name]) for name in numbers if one.get(name) is not None):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name}={value!r}; expected a number")
            if isinstance(value, int) and abs(value) > 2**53:
                raise ValueError(f"{name} has {len(str(value))} digits")
            if metrics["state"] == "finished" and not math.isfinite(value):
                raise ValueError(f"{name}={value}; a finished run has a finite number")


def check_file(file: Path) -> None:
    """Raise a UserError for a path that is there but no plain file, or too large.

    A pipe would be waited on for ever; a link may lead to itself.
    """
    if (file.exists() or file.is_symlink()) and not file.is_file():
        raise UserError(f"{file}: not a file")
    if file.exists() and file.stat().st_size > MOST_BYTES:
        raise UserError(f"{file}: more than {MOST_BYTES:,} bytes")


def check_files(run: "RunFolder") -> None:
    """Check every file of a run, and that the validation predictions are those of a run."""
    runs = (run, *run.folds())
    files = [run.folder / ".hydra" / f"{name}.yaml" for name in ("config", "hydra", "overrides")]
    files += [file for one in runs for file in (one.metrics, one.history, one.tests, one.validation)]
    for file in files:
        check_file(file)
    for file in (one.validation for one in runs if one.validation.exists()):
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
    """Return the content of a YAML file; raise a UserError if it is damaged or has an alias."""
    try:
        text = path.read_text(encoding="utf-8")
        # Hydra writes no alias. Nested, a few of them stand for more values than memory holds.
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, LOADER)):
            raise UserError(f"{path}: a YAML alias, which no run saves")
        return yaml.load(text, LOADER)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error})") from error


FOLD = re.compile(r"fold_([0-9]+)")
# What NumPy raises for a file that is no archive of arrays, or a damaged one.
DAMAGED = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


class RunFolder:
    """One run's folder.

    Files, beside Hydra's .hydra/ and train.log:
        images.npz      which images it read, and what it does with each: written before the first epoch; in the
                        folder of a run with folds, once for all of them
        history.csv     a row per epoch, appended as it ends
        checkpoint.npz  the state to continue from, until the run has finished
        model.keras     a model with the best weights; it takes raw pixels
        figures/        pictures
        validation.npz  the best weights' predictions for the validation images
        exports/        the model in other formats
        tests.csv       a row for each time that the locked test part was scored
        metrics.json    the results; written when all else but the pictures is there, so that its presence says that
                        the run has ended
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.images = self.folder / "images.npz"
        self.history = self.folder / "history.csv"
        self.checkpoint = self.folder / "checkpoint.npz"
        self.model = self.folder / "model.keras"
        self.figures = self.folder / "figures"
        self.metrics = self.folder / "metrics.json"
        self.validation = self.folder / "validation.npz"
        self.tests = self.folder / "tests.csv"
        self.exports = self.folder / "exports"
        self.tensorboard = self.folder / "tensorboard"
        self.wandb = self.folder / "wandb"

    @property
    def begun(self) -> Path:
        """Return the file that says what the run was begun with: Hydra's folder is there before the run."""
        return self.folder / ".hydra" / "begun.json"

    def files(self) -> list[Path]:
        """Return the files that a run has written here, not Hydra's and its log; the folders of its folds too."""
        own = [path for name, path in vars(self).items() if name != "folder" and path.exists()]
        return own + [fold.folder for fold in self.folds()]

    def clear(self) -> None:
        for path in self.files():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def fold(self, number: int) -> "RunFolder":
        """Return the folder of one fold; make it if it is missing."""
        folder = self.folder / f"fold_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        return RunFolder(folder)

    def folds(self) -> list["RunFolder"]:
        """Return its folds, in order; none without split=kfold."""
        found = {int(match[1]): path for path in self.folder.glob("fold_*") if (match := FOLD.fullmatch(path.name))}
        return [RunFolder(found[number]) for number in sorted(found)]

    def models(self) -> list["RunFolder"]:
        """Return the folders with weights: the run's own, or those of its folds."""
        return [run for run in (self, *self.folds()) if run.model.exists()]

    def write_images(self, content: Content) -> None:
        """Write which images the run read and what it does with each, about 9 bytes an image."""
        arrays = vars(content) | {"labels": content.labels.astype(np.uint16), "classes": json.dumps(content.classes)}
        with replacing(self.images) as temporary:
            np.savez_compressed(temporary, **{field.name: arrays[field.name] for field in dataclasses.fields(content)})

    def read_images(self) -> Content | None:
        """Return what `write_images` was given; None if it is not there.

        Raises:
            UserError: The file is damaged.
        """
        if not (self.images.exists() or self.images.is_symlink()):
            return None
        try:
            if not self.images.is_file():  # a pipe would be waited on for ever
                raise ValueError("not a file")
            check_archive(self.images)
            with self.images.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                found = Content(
                    archive["hashes"].astype(np.uint64, casting="safe"),
                    archive["labels"].astype(np.int64, casting="safe"),
                    tuple(map(str, json.loads(str(archive["classes"])))),
                    archive["parts"].astype(np.int8, casting="safe"),
                )
            if found.labels.max(initial=0) >= len(found.classes) or found.labels.min(initial=0) < 0:
                raise ValueError("a label without a class")
            if not found.hashes.shape == found.labels.shape == found.parts.shape == (found.hashes.size,):
                raise ValueError("columns of several lengths")
        except Exception as error:  # of a stranger's file, anything: NotImplementedError, RecursionError
            cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{self.images}: not readable ({cause}); delete it, then nothing is known") from error
        return found

    def append_history(self, row: dict[str, float]) -> None:
        """Append one epoch; the first call writes the header."""
        _append(self.history, row)

    def read_history(self) -> list[dict[str, float]]:
        """Return a row per epoch; a row that a kill or a power cut left incomplete is left out.

        Raises:
            UserError: The file is damaged.
        """
        whole = [row for row in _read_rows(self.history) if None not in row.values() and "" not in row.values()]
        try:
            # An epoch is whole, so that a continued run writes it as the first one did.
            return [
                {key: (int if key == "epoch" else float)(float(text)) for key, text in row.items()} for row in whole
            ]
        except (TypeError, ValueError, OverflowError) as error:  # surplus cells, no number, or an endless epoch
            raise UserError(f"{self.history}: not readable ({error})") from error

    def epochs(self) -> int:
        """Return how many epochs were trained, over all folds; 0 if a history cannot be read."""
        try:
            return sum(len(run.read_history()) for run in (self, *self.folds()))
        except (UserError, OSError):
            return 0

    def write_history(self, rows: list[dict[str, float]]) -> None:
        self.history.unlink(missing_ok=True)
        for row in rows:
            self.append_history(row)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json, which says that the run has ended, and remove the checkpoint."""
        with replacing(self.metrics) as temporary:
            temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        self.checkpoint.unlink(missing_ok=True)

    def read_metrics(self) -> dict[str, Any] | None:
        """Return the metrics, or None if the run has not finished.

        Raises:
            UserError: The file is damaged.
        """
        if not self.metrics.exists():
            return None
        try:
            metrics: dict[str, Any] = json.loads(self.metrics.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{self.metrics}: not readable ({error})") from error
        try:
            check_metrics(metrics)
        except ValueError as error:
            raise UserError(f"{self.metrics}: {error}") from error
        return metrics

    def write_validation(self, predictions: Predictions) -> None:
        with replacing(self.validation) as temporary:
            np.savez_compressed(temporary, **predictions.arrays())  # type: ignore[arg-type]

    def read_validation(self) -> Predictions:
        """Return the validation predictions; those of all folds, if it has folds.

        Raises:
            UserError: There are none, or a file is damaged.
        """
        folds = []
        for file in [run.validation for run in self.folds() or [self]]:
            try:
                with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                    folds.append(check_arrays(dict(archive)))
            except DAMAGED as error:
                raise UserError(f"{file}: no readable validation predictions ({error})") from error
        return Predictions.joined(folds)

    def read_by_content(self) -> ByContent:
        """Read the validation predictions in an order that is the same wherever the images were.

        Folds come in another order than one validation set of the same images, and so do the rows of another file.

        Raises:
            UserError: There are none, or a file is damaged.
        """
        saved, content = self.read_validation(), self.read_images()
        if content is None or not saved.fits(content):
            return ByContent(None, np.argsort(saved.images, kind="stable"), saved)
        hashes = content.hashes[saved.images]
        order = np.lexsort((saved.labels, hashes))
        labels = saved.labels[order].astype(np.int64)
        return ByContent(hashes[order].tobytes() + labels.tobytes() + repr(content.classes).encode(), order, saved)

    def append_test(self, row: dict[str, Any]) -> None:
        """Note that the locked test part was scored."""
        _append(self.tests, row)

    def read_tests(self) -> list[dict[str, str]]:
        """Return a row for each time that the locked test part was scored.

        Raises:
            UserError: The file is damaged.
        """
        return _read_rows(self.tests)

    def write_checkpoint(self, state: dict[str, np.ndarray]) -> None:
        """Replace the checkpoint in one step, so that a kill leaves the old one or the new one."""
        with replacing(self.checkpoint) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **state)  # type: ignore[arg-type]

    def read_checkpoint(self) -> dict[str, np.ndarray]:
        """Return what `write_checkpoint` was given.

        Raises:
            UserError: The run has finished, it has no checkpoint, or the checkpoint is damaged.
        """
        if self.metrics.exists():
            raise UserError(f"resume={self.folder}: this run has finished; nothing is left to continue")
        if not self.checkpoint.exists():
            raise UserError(
                f"resume={self.folder}: no checkpoint there; the run was stopped before its first epoch ended"
            )
        try:
            with self.checkpoint.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                return dict(archive)
        except DAMAGED as error:
            raise UserError(f"resume={self.folder}: its checkpoint is not readable ({error})") from error


def _append(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not readable ({error})") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with the same suffix; rename it to `path` unless an exception is raised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The machine is named too: in containers that share a folder, processes often have the same id.
    temporary = path.with_name(f".{path.stem}-{machine()}-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.filename == str(temporary):  # nobody knows its name
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):  # it was renamed or never made, or the disk is read-only
            temporary.unlink()
