"""Studies and their folders: their trials, their disk use, and what crashes and copies have left in them."""

import argparse
import contextlib
import io
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.trial import TrialState

from sweeper_digits import program
from sweeper_digits.bad_input import one_line
from sweeper_digits.config import check_study
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import FOLD
from sweeper_digits.runs.process import machine
from sweeper_digits.runs.record import read_metrics_alone
from sweeper_digits.sweep.owner import OWNER, TRIAL, find_copies, has_trials, owner_of
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.record import DONE, StudyRecord, TrialRecord, counts, trials_of
from sweeper_digits.sweep.storage import StorageError
from sweeper_digits.sweep.verbs import no_such_study, open_queues
from sweeper_digits.text import as_json, printable
from sweeper_digits.url import sqlite_file

# What `runs.folder.replacing` and its callers, `sweep.owner` and `sweep.frozen` name: what was to be written, the
# machine and the process.
TEMPORARY = re.compile(
    r"\.(?:checkpoint|metrics|validation|model|images|begun|optimization_results|trials|points|report|study\.json|conf)"
    r"-(.+)-([0-9]{1,9})(?:\.(?:npz|json|keras|yaml|csv|html))?"
)


@dataclass
class Diagnosis:
    """What is known of one study.

    Attributes:
        lines: To be shown; what is wrong begins with two blanks.
        left: Files to delete: those that killed processes were writing.
        known: For `--json`: the study's name, its folder, how many trials are in each state, its bytes.
    """

    lines: list[str]
    left: list[Path] = field(default_factory=list)
    known: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return what `--json` prints of it; what is not known is null."""
        findings = [line.strip() for line in self.lines[1 if self.known else 0 :]]
        return {"study": None, "folder": None, "trials": None, "bytes": None, **self.known, "findings": findings}


def main(arguments: argparse.Namespace) -> None:
    """Print what is known of the studies; delete what killed processes left if `--fix` says so."""
    missing = arguments.storage and (file := sqlite_file(arguments.storage)) and not file.exists()
    if missing and not arguments.json:  # an error, but the folders can be named
        for diagnosis in _unknown_folders(arguments.multirun, arguments.study, {}):
            print(printable(diagnosis.lines[0]))
    diagnoses = diagnose(arguments.storage, arguments.multirun, arguments.study)
    left = [file for diagnosis in diagnoses for file in diagnosis.left]
    with contextlib.redirect_stdout(io.StringIO() if arguments.json else sys.stdout):  # the document has it all
        print("\n".join(printable(line) for diagnosis in diagnoses for line in diagnosis.lines) or "no studies")
        print("\nnothing to repair" if not left else "\nto repair:" if arguments.fix else "\n--fix would:")
        rows = [_delete(file, arguments.fix) for file in left]
    if arguments.json:
        print(as_json({"studies": [diagnosis.document() for diagnosis in diagnoses], "repairs": rows}), end="")


def _delete(file: Path, fix: bool) -> dict[str, Any]:
    """Print that a file is to be deleted, delete it if `fix` says so, and return what `--json` prints of it."""
    text = printable(f"delete {file}")
    print(f"  {text}", flush=True)
    row = {"repair": text, "done": fix, "reason": None}
    if fix:
        try:
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
        except OSError as error:  # a read-only folder
            row |= {"done": False, "reason": one_line(error)}
            print(f"    not done: {row['reason']}")
    return row


def diagnose(storage: str | None, multirun: Path, name: str | None) -> list[Diagnosis]:
    """Look at all studies of a storage and all folders of studies, or at one.

    Args:
        storage: An Optuna URL; None: each study has its own database, in its folder.
        multirun: Has a folder for each study.
        name: The study, or None for all.

    Raises:
        UserError: No such database or study, or one that cannot be read.
    """
    queues = open_queues(storage, multirun)
    names = list(queues)
    identities = {one: _identity(queue) for one, queue in queues.items()}
    unknown = _unknown_folders(multirun, name, identities)
    if name is not None and name not in names:
        if not unknown:
            raise no_such_study(name, name, names)
        return unknown
    return [_read(queues[one], multirun / one) for one in ([name] if name else names)] + unknown


def _unknown_folders(multirun: Path, name: str | None, identities: dict[str, str | None]) -> list[Diagnosis]:
    """Return a line for each study's folder whose study no database knows, and for each copy of a folder.

    Args:
        multirun: Has a folder for each study.
        name: The one folder to look at, or None for all.
        identities: Of the studies in the database, by name; None: another program began it; empty:
            it is not readable.
    """
    folders = [entry for entry in sorted(multirun.glob("*")) if (entry / OWNER).is_file() or has_trials(entry)]
    copies, lines = find_copies(folders), []
    for folder in (folder for folder in folders if name in (None, folder.name)):
        try:
            owner = owner_of(folder)
        except UserError as error:
            lines.append(str(error))
            continue
        known = folder.name in identities
        if owner:
            known = owner.identity in identities.values() or identities.get(owner.study) == ""
        if original := copies.get(folder.resolve()):
            lines.append(
                f"{folder}: a copy of {original}, so `compare` counts its runs twice; move it away or delete it"
            )
        elif not known:
            lines.append(
                f"{folder}: no study has these trials; `{program.command('compare', str(folder))}` "
                "reads them; for a new sweep choose another study=NAME, or move the folder away"
            )
    return [Diagnosis([line]) for line in lines]


def _identity(queue: Queue | UserError) -> str | None:
    try:
        return "" if isinstance(queue, UserError) else StudyRecord(queue.study).identity
    except StorageError:
        return ""


def _read(queue: Queue | UserError, folder: Path) -> Diagnosis:
    """Look at one study; what cannot be read of it is said instead."""
    if isinstance(queue, UserError):
        return Diagnosis([str(queue)])
    name = queue.study.study_name
    try:
        check_study(name)
        return _of(queue, folder)
    except StorageError as error:
        return Diagnosis([str(error)])
    except UserError as error:
        return Diagnosis([f"{name}: not a study of this program ({error})"])
    except Exception as error:  # values of another program, of any type, can raise anything
        return Diagnosis([f"{name}: not readable ({type(error).__name__}: {error})"])


def _of(queue: Queue, folder: Path) -> Diagnosis:
    study = queue.study
    trials = trials_of(study)
    states = counts(study)
    summary = ", ".join(f"{count} {state.name.lower()}" for state, count in states.items()) or "no trials"
    size = _bytes_below(folder)
    known = {"study": study.study_name, "folder": folder, "bytes": size}
    known["trials"] = {state.name.lower(): count for state, count in states.items()}
    result = Diagnosis([f"{study.study_name}: {summary}; {folder}: {size / 2**20:,.0f} MiB"], _left_over(folder), known)
    stuck = False
    for trial in trials:
        if TrialRecord(trial).foreign:
            result.lines.append(f"  #{trial.number}: {TrialRecord(trial).error}")
        elif trial.state == TrialState.RUNNING and TrialRecord(trial).worker is None:
            result.lines.append(
                f"  #{trial.number}: running, and no worker has signed it; the next sweep of it decides"
            )
        elif queue.is_dead(trial):
            stuck = True
            result.lines.append(f"  #{trial.number}: running in the study, but its worker is gone")
    if stuck:
        result.lines.append(f"  the next start of the sweep queues such points again{_command_of(study)}")
    numbers = {trial.number for trial in trials}
    present = {int(entry.name) for entry in folder.glob("*") if TRIAL.fullmatch(entry.name) and entry.is_dir()}
    if lost := sorted(present - numbers):
        result.lines.append(f"  folders without a trial: {_list(lost)}")
    begun = {trial.number for trial in trials if trial.state in DONE}
    if lost := sorted(begun - present):
        result.lines.append(f"  trials without a folder: {_list(lost)}")
    for number in sorted(present & begun):
        if (record := read_metrics_alone(folder / str(number))).state == "unreadable":
            result.lines.append(f"  #{number}: not readable ({record.note}); the study keeps its value")
    result.lines += [f"  left by a killed process: {file}" for file in result.left]
    return result


def _command_of(study: optuna.Study) -> str:
    """Return a colon and the command that was given last for the sweep; "" of another program's study."""
    try:
        return f": {program.same_command(StudyRecord(study).command['words'])}"
    except (TypeError, KeyError):
        return ""


def _bytes_below(folder: Path) -> int:
    """Return the size of all files of a folder; one that is deleted meanwhile counts nothing."""
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def _left_over(folder: Path) -> list[Path]:
    """Return the temporary files of a sweep and its runs whose writer, a process of this machine, is gone.

    One is a folder: a copy of conf/ that was not finished.
    """
    runs = [folder, *(entry for entry in folder.glob("*") if TRIAL.fullmatch(entry.name))]
    runs += [run / ".hydra" for run in runs]
    runs += [fold for run in runs[1:] for fold in run.glob("fold_*") if FOLD.fullmatch(fold.name)]
    found = []
    for run in runs:
        for file in sorted(run.glob(".*")):
            match = TEMPORARY.fullmatch(file.name)
            if match and match[1] == machine() and not psutil.pid_exists(int(match[2])):
                found.append(file)
    return found


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:20])) + (f" and {len(numbers) - 20} more" if len(numbers) > 20 else "")
