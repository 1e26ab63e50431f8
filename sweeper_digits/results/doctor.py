"""Studies and their folders: what is in them, what is stuck, and the repair."""

import argparse
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.errors import UserError, closest
from sweeper_digits.runs.folder import FOLD, RunFolder
from sweeper_digits.runs.process import machine
from sweeper_digits.sweep.claim import TRIAL
from sweeper_digits.sweep.queue import WORKER, Queue
from sweeper_digits.sweep.storage import open_storage
from sweeper_digits.sweep.trials import DONE, counts, trials_of
from sweeper_digits.sweep.url import check_url, first_line, sqlite_file

# What `runs.folder.replacing` and its callers name: a file that was to be written, the machine and the process.
TEMPORARY = re.compile(
    r"\.(?:checkpoint|metrics|validation|model|optimization_results|trials)-(.+)-([0-9]+)\.(?:npz|json|keras|yaml|csv)"
)


@dataclass
class Diagnosis:
    """What is known of one study.

    Attributes:
        lines: To be shown.
        repairs: What would be done, and the function that does it.
    """

    lines: list[str]
    repairs: list[tuple[str, Callable[[], object]]] = field(default_factory=list)


def main(arguments: argparse.Namespace) -> None:
    """Print what is known of the studies; repair what is stuck if `--fix` says so."""
    diagnoses = diagnose(arguments.storage, arguments.multirun, arguments.study)
    repairs = [repair for diagnosis in diagnoses for repair in diagnosis.repairs]
    print("\n".join(line for diagnosis in diagnoses for line in diagnosis.lines) or "no studies")
    if not repairs:
        print("\nnothing to repair")
        return
    print("\nto repair:" if arguments.fix else "\n--fix would:")
    for text, do in repairs:
        print(f"  {text}", flush=True)
        if arguments.fix:
            do()


def diagnose(storage: str, multirun: Path, name: str | None) -> list[Diagnosis]:
    """Look at all studies of a storage, or at one.

    Args:
        storage: An Optuna URL.
        multirun: Has a folder for each study.
        name: The study, or None for all.

    Raises:
        UserError: No such database or study, or one that cannot be read.
    """
    check_url(storage, "--storage")
    if (file := sqlite_file(storage)) and not file.exists():
        raise UserError(f"{storage}: no such file; start a sweep, or name the database with --storage")
    try:
        opened = open_storage(storage, heartbeat_seconds=60)
        names = sorted(optuna.get_all_study_names(opened))
    except Exception as error:  # of whichever database driver
        cause = first_line(error, storage)
        raise UserError(f"--storage: the database cannot be read: {cause}") from error
    if name is not None:
        if name not in names:
            raise UserError(f"{name}: no such study in the database{closest(name, names)}; it has {', '.join(names)}")
        names = [name]
    return [_of(Queue(optuna.load_study(study_name=one, storage=opened), opened), multirun / one) for one in names]


def _of(queue: Queue, folder: Path) -> Diagnosis:
    study = queue.study
    trials = trials_of(study)
    states = counts(study)
    counted = ", ".join(f"{count} {state.name.lower()}" for state, count in states.items()) or "no trials"
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    result = Diagnosis([f"{study.study_name}: {counted}; {folder}: {size / 2**20:,.0f} MiB"])
    for trial in trials:
        if trial.state == TrialState.RUNNING and WORKER not in trial.user_attrs:
            result.lines.append(
                f"  #{trial.number}: running, and no worker has signed it; the next sweep of it decides"
            )
        elif queue.is_dead(trial):
            _stuck(result, queue, folder, trial)
    numbers = {trial.number for trial in trials}
    present = {int(entry.name) for entry in folder.glob("*") if TRIAL.fullmatch(entry.name)}
    if lost := sorted(present - numbers):
        result.lines.append(f"  folders without a trial: {_list(lost)}")
    begun = {trial.number for trial in trials if trial.state in DONE}
    if lost := sorted(begun - present):
        result.lines.append(f"  trials without a folder: {_list(lost)}")
    for file in _left_over(folder):
        result.lines.append(f"  left by a killed process: {file}")
        result.repairs.append((f"delete {file}", functools.partial(file.unlink, missing_ok=True)))
    return result


def _left_over(folder: Path) -> list[Path]:
    """Return the temporary files of a sweep and its runs whose writer, a process of this machine, is gone."""
    runs = [folder, *(entry for entry in folder.glob("*") if TRIAL.fullmatch(entry.name))]
    runs += [fold for run in runs[1:] for fold in run.glob("fold_*") if FOLD.fullmatch(fold.name)]
    found = []
    for run in runs:
        for file in sorted(run.glob(".*")):
            match = TEMPORARY.fullmatch(file.name)
            if match and match[1] == machine() and not psutil.pid_exists(int(match[2])) and file.is_file():
                found.append(file)
    return found


def _stuck(result: Diagnosis, queue: Queue, folder: Path, trial: FrozenTrial) -> None:
    metrics = RunFolder(folder / str(trial.number)).read_metrics() or {}
    value = metrics.get("objective")
    if metrics.get("state") == "finished" and value is not None:
        values = value if isinstance(value, list) else [value]
        result.lines.append(f"  #{trial.number}: running in the study, but its run has finished")
        told = f"tell the study that #{trial.number} is complete: {value}"
        result.repairs.append((told, lambda: queue.study.tell(trial.number, values)))
        return
    result.lines.append(f"  #{trial.number}: running in the study, but its worker is gone")

    def repair() -> None:
        queue.fail_and_requeue(trial, "its worker died", max_retries=None)

    result.repairs.append((f"set #{trial.number} to failed and queue its point again", repair))


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:20])) + (f" and {len(numbers) - 20} more" if len(numbers) > 20 else "")
