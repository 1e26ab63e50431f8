"""What Optuna's dashboard shows of a sweep beside Optuna's own records: a trial's pictures and its command.

The package optuna-dashboard is not needed to write it.
"""

import logging
import os
import shlex
import tempfile
from pathlib import Path

import optuna

from sweeper_digits import program
from sweeper_digits.overrides import override_text
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.storage import StorageError
from sweeper_digits.text import printable, relative
from sweeper_digits.url import url_of

log = logging.getLogger(__name__)

# In a sweep's folder: copies of the pictures, by the names that Optuna gives them.
PICTURES = "artifacts"
# Characters of a part of a note.
PART = 2045


def command(sweep: Sweep) -> str:
    """Return the command that starts the dashboard on the study, and on its pictures if it has some."""
    pictures = sweep.folder / PICTURES
    shown = ["--artifact-dir", os.path.relpath(pictures)] if pictures.is_dir() else []
    url, own = sweep.options.storage, url_of(sweep.folder)
    return shlex.join(["optuna-dashboard", url_of(relative(sweep.folder)) if url == own else url, *shown])


def show(queue: Queue, trial: optuna.Trial, sweep: Sweep) -> None:
    """Let the page of a trial, before it is told, have its pictures and a note with the command that repeats it."""
    folder = RunFolder(sweep.folder / str(trial.number))
    try:
        _upload(trial, folder, sweep.folder / PICTURES)
    except StorageError:
        raise
    except OSError as error:  # a full disk; it costs no trial
        log.warning("dashboard  not whole: %s", error)
        return
    if (folder.folder / ".hydra").is_dir():
        repeats = program.command("train", f"from_run={override_text(str(relative(folder.folder)))}")
        # A line that is indented is shown as it is, whatever is in it.
        _note(queue, trial.number, f"This command repeats the trial:\n\n    {printable(repeats)}")


def _upload(trial: optuna.Trial, folder: RunFolder, store: Path) -> None:
    pictures = sorted(folder.folder.glob("figures/*.png")) + sorted(folder.folder.glob("fold_*/figures/*.png"))
    for picture in pictures:
        # Only here: with it come the clients of clouds that are installed, 0.1 s.
        from optuna.artifacts import FileSystemArtifactStore, upload_artifact

        store.mkdir(exist_ok=True)
        name = " ".join((*picture.relative_to(folder.folder).parts[:-2], picture.name))  # fold_0 mistakes.png
        with tempfile.TemporaryDirectory() as temporary:  # Optuna shows the name that the file has
            named = Path(temporary, name)
            named.symlink_to(picture.resolve())
            upload_artifact(artifact_store=FileSystemArtifactStore(store), file_path=str(named), study_or_trial=trial)


def _note(queue: Queue, number: int, text: str) -> None:
    """Write a note as optuna_dashboard.save_note does: in parts, as attributes of the study."""
    trial_id = queue.storage.get_trial_id_from_study_id_trial_number(queue.study_id, number)
    for part, begin in enumerate(range(0, len(text), PART)):
        name = f"dashboard:{trial_id}:note_str:{part}"
        queue.storage.set_study_system_attr(queue.study_id, name, text[begin : begin + PART])
    queue.storage.set_study_system_attr(queue.study_id, f"dashboard:{trial_id}:note_ver", 1)
