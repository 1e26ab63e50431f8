"""The checks of a database that a stranger may have made, or into which another program may have written."""

import contextlib
import copy
from collections.abc import Container, Iterator
from datetime import datetime
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from sweeper_digits.errors import UserError
from sweeper_digits.sweep.private import CachedStorage
from sweeper_digits.sweep.record import DONE, StudyRecord, TrialRecord, check, check_trial


class StorageError(UserError):
    """The study's database cannot be used, and waiting does not help; no failure of a trial."""


class Reader(CachedStorage):
    """An SQL storage behind Optuna's cache, which gives out what a study of this program can hold, or a StorageError.

    In a study of ours, a trial of another program is given out as one that failed: so it is neither counted nor ranked,
    and no sampler learns from it.

    Args:
        database: The storage.

    Attributes:
        database: The storage.
        ended: The trials that have ended and were looked at, by Optuna's id.
    """

    def __init__(self, database: RDBStorage) -> None:
        super().__init__(database)
        self.database = database
        self.ended: dict[int, FrozenTrial] = {}
        self._ours: set[int] = set()

    def names(self) -> set[str]:
        """Return the names of all studies. Optuna's own way to them reads all attributes of all studies."""
        with self.database.engine.connect() as connection:
            return set(connection.execute(text("SELECT study_name FROM studies")).scalars())

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return what this program can have written, and what it does not know."""
        with self._reading(study_id):
            found: dict[str, Any] = super().get_study_user_attrs(study_id)
            check(found)
            return found

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return what this program can have written, and what it does not know."""
        with self._reading(study_id):
            found: dict[str, Any] = super().get_study_system_attrs(study_id)
            check(found)
            names = found.get(StudyRecord.metric_names.name)
            if names is not None and len(names) != len(self.get_study_directions(study_id)):
                raise ValueError(f"{len(names)} names of objectives; expected one for each direction")
            return found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial, as `get_all_trials` has given it if it has ended."""
        return self.ended.get(trial_id) or super().get_trial(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials that this program can have written, those of another as failed ones."""
        with self._reading(study_id):
            ours, objectives = self._is_ours(study_id), len(self.get_study_directions(study_id))
            found = super().get_all_trials(study_id, deepcopy=False)
            read = (self.ended.get(trial._trial_id) or self._read(trial, ours, objectives) for trial in found)
            trials = [trial for trial in read if states is None or trial.state in states]
            return copy.deepcopy(trials) if deepcopy else trials

    def _read(self, trial: FrozenTrial, ours: bool, objectives: int) -> FrozenTrial:
        if ours and _is_foreign(trial):
            read = _as_failed(trial)
        else:
            try:
                check_trial(trial, objectives)
            except ValueError as error:
                raise ValueError(f"#{trial.number}: {error}") from error
            read = trial
        if trial.state.is_finished():
            self.ended[trial._trial_id] = read
        return read

    def _is_ours(self, study_id: int) -> bool:
        if study_id not in self._ours and StudyRecord.settings.name in self.get_study_system_attrs(study_id):
            self._ours.add(study_id)
        return study_id in self._ours

    @contextlib.contextmanager
    def _reading(self, study_id: int) -> Iterator[None]:
        """Raise a StorageError that names the study for what cannot be read of it."""
        try:
            yield
        except (StorageError, optuna.exceptions.StorageInternalError, SQLAlchemyError):
            raise
        except Exception as error:  # of Optuna, for a value that it did not write: any
            why = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            name = self.get_study_name_from_id(study_id)
            raise StorageError(f"{name}: this study is not readable ({why})") from error


def _is_foreign(trial: FrozenTrial) -> bool:
    """Return whether another program ran a trial, of a study of ours.

    A trial that was only queued is ours: whoever begins it signs it. So is one that was stopped before it began, and
    one whose worker died in the instant before it signed, when it had drawn nothing or continued another.
    """
    record = TrialRecord(trial)
    if trial.state == TrialState.WAITING or record.worker is not None:
        return False
    if trial.state in DONE:
        return trial.state == TrialState.COMPLETE or trial.datetime_start is not None
    return bool(trial.params or trial.intermediate_values) and record.history is None


def _as_failed(trial: FrozenTrial) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.state, shown.values = TrialState.FAIL, None
    shown.datetime_complete = trial.datetime_complete or datetime.now()
    shown.params, shown.distributions, shown.intermediate_values = {}, {}, {}
    kept = TrialRecord.of_new(foreign=True, error="another program ran this trial, so it does not count")
    shown.user_attrs, shown.system_attrs = kept["user_attrs"], kept["system_attrs"]
    return shown
