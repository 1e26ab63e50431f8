"""The base of all trackers: the settings and numbers that they record, when, and what a failure costs."""

import logging
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from typing import Any

import keras

from sweeper_digits.config import INCIDENTAL
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import FOLD, RunFolder
from sweeper_digits.training.context import RunContext
from sweeper_digits.url import without_passwords

log = logging.getLogger(__name__)

# Numbers of metrics.json that each epoch has too: those of the best epoch get another name.
OF_AN_EPOCH = ("loss", "accuracy", "val_loss", "val_accuracy")


def compared_settings(run: RunContext) -> dict[str, bool | int | float | str]:
    """Return the settings that change what is trained, without those that have no value.

    Left out are also the options of callbacks, which may hold an address, and `_target_`, which repeats an option's
    name.
    """
    kept = {}
    for key, value in run.settings.items():
        first, last = key.partition(".")[0], key.rpartition(".")[2]
        if first not in (*INCIDENTAL, "callbacks") and not last.startswith("_") and value is not None:
            kept[key] = value if isinstance(value, bool | int | float | str) else str(value)
    return kept


def best_numbers(folder: RunFolder) -> dict[str, float]:
    """Return the numbers of metrics.json; what each epoch has too is named `best_val_loss`, for example.

    Raises:
        UserError: metrics.json is damaged.
    """
    metrics = folder.read_metrics() or {}
    numbers = {key: float(value) for key, value in metrics.items() if _is_number(value)}
    return {f"best_{key}" if key in OF_AN_EPOCH else key: value for key, value in numbers.items()}


def without_secrets(error: BaseException) -> str:
    """Return the first line of an error, without the passwords of URLs."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {without_passwords(lines[0])}"


class Tracker(keras.callbacks.Callback):
    """Record a run elsewhere: `begin` once, `record` for each epoch, `end` once.

    It stands after the callback that writes history.csv. Epochs that a resumed run took over are recorded as well.
    A tracker that cannot begin ends the run, because that is found at once and a person can mend it. One that fails
    later costs a warning and the rest of its record, not the run.

    Args:
        run: The run that is watched.

    Attributes:
        name: As a user types it.
        run: The run that is watched.
        folder: The folder of the run, or of the fold.
        fold: Name of the fold's folder, None without folds.
        whole: Folder of the run; of a fold: of the run that the fold is a part of.
        recorded: The last epoch that is recorded, counted from 1.
    """

    name: str

    def __init__(self, run: RunContext) -> None:
        super().__init__()
        self.run, self.folder = run, RunFolder(run.folder)
        self.fold = run.folder.name if FOLD.fullmatch(run.folder.name) else None
        self.whole = run.folder.resolve().parent if self.fold else run.folder.resolve()
        self.recorded = 0
        self.begun = self.failed = False

    def begin(self) -> str:
        """Open the record, or that of the run which is continued; return what to call it on the screen."""
        raise NotImplementedError

    def record(self, epoch: int, numbers: dict[str, float]) -> None:
        """Record the numbers of an epoch, counted from 1."""
        raise NotImplementedError

    def end(self, state: str) -> None:
        """Record the files and the best numbers, and close the record."""
        raise NotImplementedError

    def continued(self) -> Path | None:
        """Return the folder of the run that is continued, without its fold; None if the run begins anew."""
        source = self.run.settings.get("resume")
        return Path(source).resolve() if self.run.resumed and source else None

    def pictures(self) -> list[Path]:
        """Return the pictures of the run, in order."""
        return sorted(self.folder.figures.glob("*.png"))

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Begin; record the epochs of the run that is continued.

        Raises:
            UserError: The tracker cannot be reached, or refuses the run.
        """
        if self.begun:
            return
        try:
            shown = self.begin()
        except Exception as error:  # of a client library: any
            self.failed = True
            if isinstance(error, UserError):
                raise
            raise UserError(f"callbacks=[{self.name}]: {without_secrets(error)}; mend it, or leave it out") from error
        self.begun = True
        log.info("%-10s %s", self.name, shown)
        self._attempt(self._catch_up)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the epoch: its row in history.csv, and numbers that other callbacks added to the logs."""
        numbers = {key: float(value) for key, value in (logs or {}).items() if _is_number(value)}
        self._attempt(lambda: self._catch_up({epoch + 1: numbers}))

    def on_run_end(self, state: str) -> None:
        """Record what the run left, and how it ended; called when all its files are written.

        Args:
            state: finished, pruned, stopped (by a person), diverged or failed.
        """
        if not self.begun and not self.failed:  # nothing was left to train
            self._attempt(self.on_train_begin)
        self._attempt(self._catch_up)
        self._attempt(lambda: self.end(state))

    def _catch_up(self, logs: dict[int, dict[str, float]] | None = None) -> None:
        """Record the epochs of history.csv, and of the logs, that are not recorded yet.

        The epoch in which a loss became NaN is in history.csv alone.
        """
        epochs = {int(row.pop("epoch")): row for row in self.folder.read_history()}
        for epoch, numbers in (logs or {}).items():
            epochs[epoch] = epochs.get(epoch, {}) | numbers
        for epoch in sorted(epochs):
            if epoch > self.recorded:
                self.record(epoch, epochs[epoch])
                self.recorded = epoch

    def _attempt(self, do: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            do()
        except Exception as error:  # of a client library: any
            self.failed = True
            log.warning("%-10s records no more: %s", self.name, without_secrets(error))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
