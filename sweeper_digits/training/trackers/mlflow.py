"""A run of MLflow for each run; the trials of a sweep have one parent."""

import contextlib
import fcntl
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Before the import: MLflow would tell its makers of each program that uses it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# By its own default it would wait four minutes for a server whose name is misspelt.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")

import mlflow
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.training.context import RunContext
from sweeper_digits.training.trackers.tracker import Tracker, best_numbers, compared_settings

# In the run's folder: the id of its run of MLflow.
ID_FILE, LONGEST_ID = ".mlflow_run_id", 64
# Tags: a sweep is found again by its name; a run says which folder is its own.
SWEEP, FOLDER, STATE = "sweeper_digits.sweep", "sweeper_digits.folder", "sweeper_digits.state"
STATUS = {"finished": "FINISHED", "pruned": "KILLED", "stopped": "KILLED"}  # any other: FAILED
PARAMS_AT_ONCE = 100  # MLflow takes no more
LONGEST_PARAM = 6000  # characters, likewise
# Machines that begin a sweep in the same moment see each other's parent run after this time.
SETTLE_SECONDS = 1.0


class MlflowRun(Tracker):
    """Record a run, with all its folds, as one run of MLflow; a resumed run goes on in the same one.

    MLflow's own MlflowCallback is of no use here. It writes to the run that is active in the process, and lags behind,
    so a kill loses epochs. It describes what is trained, which holds all images as weights. It names each parameter of
    the optimizer a second time. It cannot skip the epochs that a resumed run has recorded before.

    Args:
        run: The run that is watched.
        tracking_uri: The URI of the server or database; None: MLflow's own choice.
        experiment: Name of the experiment, made if it is missing.
        model: Whether model.keras is stored too.
    """

    name = "mlflow"

    def __init__(self, run: RunContext, tracking_uri: str | None, experiment: str, model: bool) -> None:
        super().__init__(run)
        self.uri = tracking_uri or mlflow.get_tracking_uri()
        self.experiment, self.with_model = experiment, model
        self.prefix = f"{self.fold}/" if self.fold else ""

    def begin(self) -> str:
        """Find or make the run and its parent, and store the settings."""
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of each table that it makes
        with _one_at_a_time(self.uri):
            self.client = mlflow.MlflowClient(self.uri)
            self.experiment_id = self._experiment()
            self.parent = self._parent(self.run.study) if self.run.study else None
            self.id, self.recorded = self._own()
        if self.parent:
            self.client.update_run(self.parent, status="RUNNING")
        return f"run {self._title()} in the experiment {self.experiment}"

    def record(self, epoch: int, numbers: dict[str, float]) -> None:
        """Record the numbers of an epoch; of a fold, under the fold's name."""
        now = int(1000 * time.time())
        values = [Metric(self.prefix + name, value, now, epoch) for name, value in numbers.items()]
        self.client.log_batch(self.id, metrics=values)

    def end(self, state: str) -> None:
        """Store the files and the best numbers; the parent has ended when none of its children runs."""
        folder, now = self.folder, int(1000 * time.time())
        files = {path: "figures" for path in self.pictures()} | {folder.history: "", folder.metrics: ""}
        files |= {folder.model: ""} if self.with_model else {}
        for path, where in files.items():
            if path.exists():
                self.client.log_artifact(self.id, str(path), (self.prefix + where).rstrip("/") or None)
        values = [Metric(name, value, now, self.recorded) for name, value in self._best().items()]
        self.client.log_batch(self.id, metrics=values)
        self.client.set_tag(self.id, STATE, state)
        self.client.set_terminated(self.id, STATUS.get(state, "FAILED"))
        if self.parent and not self._found(f"tags.`mlflow.parentRunId` = '{self.parent}' AND status = 'RUNNING'"):
            self.client.set_terminated(self.parent)

    def _best(self) -> dict[str, float]:
        """Return the numbers of the best epoch; with folds, the means over those that have ended."""
        if not self.fold:
            return best_numbers(self.folder)
        folds = [found for fold in RunFolder(self.whole).folds() if (found := best_numbers(fold))]
        names = set.intersection(*map(set, folds)) if folds else set()
        return {name: sum(fold[name] for fold in folds) / len(folds) for name in names}

    def _title(self) -> str:
        return f"{self.run.study}/{self.run.trial}" if self.run.study else self.whole.name

    def _experiment(self) -> str:
        """Return the experiment's id; another machine may make it at the same time."""
        if (found := self.client.get_experiment_by_name(self.experiment)) is None:
            with contextlib.suppress(MlflowException):
                return str(self.client.create_experiment(self.experiment))
            found = self.client.get_experiment_by_name(self.experiment)
        if found is None or found.lifecycle_stage != "active":
            raise UserError(
                f"callbacks.mlflow.experiment={self.experiment}: it was deleted; restore it, or choose another name"
            )
        return str(found.experiment_id)

    def _found(self, condition: str) -> list[Run]:
        """Return the runs that meet a condition, the oldest first; of equal times, always in the same order."""
        runs = self.client.search_runs([self.experiment_id], condition)
        return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))

    def _parent(self, study: str) -> str:
        """Return the id of the sweep's run.

        MLflow has no run that is unique by its name. On one machine, one process after the other looks for it and
        makes it. Where machines have made several at the same time, all keep the oldest one.
        """
        condition = f"tags.`{SWEEP}` = '{study}'"
        if found := self._found(condition):
            return str(found[0].info.run_id)
        made = self.client.create_run(self.experiment_id, tags={SWEEP: study}, run_name=study).info.run_id
        if not self.uri.startswith("sqlite"):
            time.sleep(SETTLE_SECONDS)
        first = self._found(condition)[0].info.run_id
        if first != made:
            self.client.delete_run(made)
        return str(first)

    def _own(self) -> tuple[str, int]:
        """Return the id of this run's run, and the last epoch that is recorded there.

        A run that was cut off before its first epoch ended leaves nothing to continue, and begins again in its
        folder. So a run that is marked as running in the same folder, with the same settings, is this one. So is one
        that has recorded other folds.
        """
        params = {key: str(value)[:LONGEST_PARAM] for key, value in compared_settings(self.run).items()}
        source, here = self.continued(), str(self.whole)
        if run := self._of_folder(source or self.whole):
            known = self.client.get_metric_history(run.info.run_id, f"{self.prefix}loss")
            open_still = run.info.status == "RUNNING" or (self.fold and not known)
            if source or (open_still and run.data.params == params):
                self.client.set_tag(run.info.run_id, FOLDER, here)
                self.client.update_run(run.info.run_id, status="RUNNING", name=self._title())
                self._keep(run.info.run_id)
                return run.info.run_id, max((metric.step for metric in known), default=0)
        tags = {FOLDER: here} | ({"mlflow.parentRunId": self.parent} if self.parent else {})
        made: str = self.client.create_run(self.experiment_id, tags=tags, run_name=self._title()).info.run_id
        pairs = [Param(key, value) for key, value in params.items()]
        for first in range(0, len(pairs), PARAMS_AT_ONCE):
            self.client.log_batch(made, params=pairs[first : first + PARAMS_AT_ONCE])
        self._keep(made)
        return made, 0

    def _of_folder(self, folder: Path) -> Run | None:
        """Return the run whose id a folder has; a stranger's may name any, so the run has to name the folder too."""
        file = folder / ID_FILE
        with contextlib.suppress(MlflowException, OSError, ValueError):  # another server, a run that was deleted
            run = self.client.get_run(file.read_text(encoding="ascii")[:LONGEST_ID])
            alike = run.info.experiment_id == self.experiment_id and run.info.lifecycle_stage == "active"
            return run if alike and run.data.tags.get(FOLDER) == str(folder) else None
        return None

    def _keep(self, run_id: str) -> None:
        (self.whole / ID_FILE).write_text(run_id, encoding="ascii")


@contextlib.contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Let no other process of this machine and user enter at the same time; the lock ends with the process.

    MLflow's own lock does not keep two processes from making the tables of a new database: one of them would fail.
    """
    name = f"sweeper_digits-{os.getuid()}-{hashlib.sha256(uri.encode()).hexdigest()[:16]}.lock"
    with (Path(tempfile.gettempdir()) / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
