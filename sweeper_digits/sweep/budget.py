"""How much a sweep may use: trials, seconds of wall time, epochs; over all workers and restarts."""

import math
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits import text
from sweeper_digits.errors import UserError
from sweeper_digits.sweep.record import DONE, StudyRecord, TrialRecord

KEYS = ("n_trials", "timeout", "n_epochs")
# A supervisor of which nothing was heard for so long was killed, or its machine is gone.
SILENT_SECONDS = 20.0
# A supervisor writes down this often that it is still there; after a longer silence the machine has slept.
TICK_SECONDS = 5.0
SLEPT_SECONDS = 60.0


@dataclass(frozen=True)
class Budget:
    """The limits of a sweep; the first that is used up ends it. None is no limit.

    Attributes:
        n_trials: Trials that are complete or pruned.
        timeout: Seconds of wall time, those in which the sweep did not run left out.
        n_epochs: Epochs over all trials.
    """

    n_trials: int | None
    timeout: float | None
    n_epochs: int | None

    @classmethod
    def of(cls, options: Any, is_open: bool = False) -> "Budget":
        """Return the budget that hydra.sweeper sets.

        Args:
            options: hydra.sweeper.
            is_open: Whether there may be no limit at all.

        Raises:
            UserError: There is none, or it is nothing.
        """
        values = {"n_trials": options.n_trials, "timeout": options.timeout, "n_epochs": options.n_epochs}
        if not is_open and all(value is None for value in values.values()):
            raise UserError("hydra.sweeper: n_trials, timeout and n_epochs are all null; a sweep needs one of them")
        for key, value in values.items():
            if value is not None and not value > 0:
                raise UserError(f"hydra.sweeper.{key}={value}: must be above 0")
        return cls(**values)

    def describe(self) -> str:
        parts = [text.counted(self.n_trials, "trial")] if self.n_trials is not None else []
        parts += [f"{text.minutes(self.timeout)} minutes"] if self.timeout is not None else []
        parts += [text.counted(self.n_epochs, "epoch")] if self.n_epochs is not None else []
        return ", or ".join(parts)

    def used_up(self, study: optuna.Study, trials: list[FrozenTrial]) -> str | None:
        """Return the key of the part that is used up, or None."""
        for key, (used, limit) in self.used(study, trials).items():
            if used >= limit:
                return key
        return None

    def used(self, study: optuna.Study, trials: list[FrozenTrial]) -> dict[str, tuple[float, float]]:
        """Return, for each part that is set, how much of it is used, and how much there is."""
        found: dict[str, tuple[float, float]] = {}
        if self.n_trials is not None:
            found["n_trials"] = sum(trial.state in DONE for trial in trials), self.n_trials
        if self.timeout is not None:
            found["timeout"] = watched_seconds(study), self.timeout
        if self.n_epochs is not None:
            found["n_epochs"] = sum(epochs_of(trials)), self.n_epochs
        return found

    def seconds_left(self, study: optuna.Study, trials: list[FrozenTrial], rates: Mapping[str, float]) -> float:
        """Return how long the budget will last.

        Args:
            study: The study.
            trials: All its trials.
            rates: Key -> how much of it is used per second; a key that is missing or 0 says nothing.
        """
        used = self.used(study, trials)
        times = [(limit - amount) / rate for key, (amount, limit) in used.items() if (rate := _rate(key, rates)) > 0]
        return max(0.0, min(times, default=math.inf))


def _rate(key: str, rates: Mapping[str, float]) -> float:
    return 1.0 if key == "timeout" else rates.get(key, 0.0)


def epochs_of(trials: list[FrozenTrial]) -> Iterable[int]:
    """Yield how many epochs each trial has trained itself, without those that it took over from one that was cut off.

    So each epoch counts once, whether a trial that was cut off is continued, trained from the beginning, or waits.
    """
    for trial in trials:
        if trial.state == TrialState.WAITING:
            continue
        record = TrialRecord(trial)
        told = record.progress or {}
        if record.epochs is not None:
            yield max(0, int(record.epochs) - int(told.get("taken_over", 0)))
        else:  # it runs, or was cut off
            yield int(told.get("trained", len(trial.intermediate_values)))


def watched_seconds(study: optuna.Study) -> float:
    """Return in how many seconds at least one supervisor was there."""
    spans = sorted(tuple(span[:2]) for span in StudyRecord(study).spans)
    total, until = 0.0, -math.inf
    for begin, end in spans:
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def last_watched(study: optuna.Study) -> float | None:
    """Return when a supervisor was there last, in seconds since 1970; None if there was none."""
    return max((span[1] for span in StudyRecord(study).spans), default=None)


def is_supervised(study: optuna.Study) -> bool:
    """Return whether a supervisor is there: it has written so lately, and has not left since."""
    return any(time.time() - end < SILENT_SECONDS and not left for _, end, *left in StudyRecord(study).spans)


class SupervisorHeartbeat:
    """Writes into a study from when to when this supervisor is there.

    Args:
        study: The study.
    """

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self._begin()

    def tick(self, timeout: float | None = None) -> None:
        """Say that the supervisor is still there, every few seconds, and once the sweep has used up its time.

        Args:
            timeout: Seconds of wall time of the sweep; None: no limit.
        """
        now = time.time()
        left = math.inf if timeout is None else timeout - watched_seconds(self.study)
        if now - self.last > SLEPT_SECONDS or now < self.last:
            self._begin()
        elif now - self.last > min(TICK_SECONDS, left):
            self._write(now)

    def end(self) -> None:
        slept = not 0 <= time.time() - self.last <= SLEPT_SECONDS
        self._write(self.last if slept else time.time(), has_left=True)

    def _begin(self) -> None:
        self.name, self.begun = uuid.uuid4().hex[:12], time.time()
        self._write(self.begun)

    def _write(self, now: float, has_left: bool = False) -> None:
        self.last = now
        StudyRecord(self.study).write_span(self.name, [self.begun, now, *([True] if has_left else [])])
