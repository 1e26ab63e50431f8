"""The run folder: every file that a run leaves, named, written and read here and nowhere else."""

import contextlib
import csv
import json
import os
import socket
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sweeper_digits.errors import UserError
from sweeper_digits.runs.predictions import Predictions


class Run:
    """One run's folder.

    Files (beside Hydra's .hydra/ and train.log):
        history.csv     a row per epoch, appended as it ends
        checkpoint.npz  the state to continue from; gone when the run has finished
        model.keras     the best weights, in a model that takes raw pixels
        figures/        pictures
        validation.npz  what the best weights say of the validation images
        exports/        the model in other formats
        tests.csv       a row for each time that the locked test part was looked at
        metrics.json    written last: where it is, the run has finished
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.history = self.folder / "history.csv"
        self.checkpoint = self.folder / "checkpoint.npz"
        self.model = self.folder / "model.keras"
        self.figures = self.folder / "figures"
        self.metrics = self.folder / "metrics.json"
        self.validation = self.folder / "validation.npz"
        self.tests = self.folder / "tests.csv"
        self.exports = self.folder / "exports"
        self.tensorboard = self.folder / "tensorboard"

    def fold(self, number: int) -> "Run":
        """Return the folder of one fold, made if need be."""
        folder = self.folder / f"fold_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        return Run(folder)

    def folds(self) -> list["Run"]:
        """Return its folds, in order; none without split=kfold."""
        found = self.folder.glob("fold_*")
        return [Run(fold) for fold in sorted(found, key=lambda fold: int(fold.name.removeprefix("fold_")))]

    def models(self) -> list["Run"]:
        """Return the runs below it that have weights: itself, or its folds."""
        return [run for run in (self, *self.folds()) if run.model.exists()]

    def append_history(self, row: dict[str, float]) -> None:
        """Append one epoch; the first one writes the header."""
        _append(self.history, row)

    def read_history(self) -> list[dict[str, float]]:
        """Return the rows written so far; a last row cut short by a kill is left out."""
        if not self.history.exists():
            return []
        with self.history.open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if None not in row.values() and "" not in row.values()]
        return [{key: float(value) for key, value in row.items()} for row in rows]

    def epochs(self) -> int:
        """Return how many epochs were trained, over all folds."""
        return sum(len(run.read_history()) for run in (self, *self.folds()))

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Replace the history."""
        self.history.unlink(missing_ok=True)
        for row in rows:
            self.append_history(row)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json, and remove the checkpoint: the run has finished."""
        with replacing(self.metrics) as temporary:
            temporary.write_text(json.dumps(metrics, indent=2) + "\n")
        self.checkpoint.unlink(missing_ok=True)

    def read_metrics(self) -> dict[str, Any] | None:
        """Return the metrics, or None if the run has not finished.

        Raises:
            UserError: The file is cut short.
        """
        if not self.metrics.exists():
            return None
        try:
            metrics: dict[str, Any] = json.loads(self.metrics.read_text())
        except json.JSONDecodeError as error:
            raise UserError(f"{self.metrics}: not readable ({error})") from error
        return metrics

    def write_validation(self, predictions: Predictions) -> None:
        """Write the validation predictions, compressed."""
        with replacing(self.validation) as temporary:
            np.savez_compressed(temporary, **predictions.arrays())  # type: ignore[arg-type]

    def read_validation(self) -> Predictions:
        """Return the validation predictions; those of all folds, if it has folds.

        Raises:
            UserError: There are none, or a file is cut short.
        """
        parts = []
        for file in [run.validation for run in self.folds() or [self]]:
            try:
                with np.load(file, allow_pickle=False) as archive:
                    parts.append({name: archive[name] for name in archive.files})
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise UserError(f"{file}: no readable validation predictions ({error})") from error
        return Predictions.joined(parts)

    def append_test(self, row: dict[str, Any]) -> None:
        """Note that the locked test part was looked at."""
        _append(self.tests, row)

    def read_tests(self) -> list[dict[str, str]]:
        """Return a row for each time that the locked test part was looked at."""
        if not self.tests.exists():
            return []
        with self.tests.open(newline="") as stream:
            return list(csv.DictReader(stream))

    def write_checkpoint(self, state: dict[str, np.ndarray]) -> None:
        """Replace the checkpoint as a whole, so that a kill leaves the old one or the new one."""
        with replacing(self.checkpoint) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **state)  # type: ignore[arg-type]

    def read_checkpoint(self) -> dict[str, np.ndarray]:
        """Return what `write_checkpoint` was given.

        Raises:
            UserError: There is nothing to continue.
        """
        if self.metrics.exists():
            raise UserError(f"resume={self.folder}: this run has finished; nothing is left to continue")
        if not self.checkpoint.exists():
            raise UserError(f"resume={self.folder}: no checkpoint there; it was stopped before its first epoch ended")
        with np.load(self.checkpoint, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def _append(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix, that takes its place if all goes well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In containers that share a folder, all have the same process id.
    temporary = path.with_name(f".{path.stem}-{socket.gethostname()}-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
