"""The next steps with the runs, as commands for the shell, in the folder where they were written."""

import contextlib
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import optuna
from hydra.errors import HydraException

from sweeper_digits import program
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_text
from sweeper_digits.predict.ensemble import predict_together
from sweeper_digits.results.repeat import repeated
from sweeper_digits.runs.judge import Configuration, Winner
from sweeper_digits.runs.record import Record, best_first, objectives_of
from sweeper_digits.sweep.owner import owner_of
from sweeper_digits.sweep.reading import Reader
from sweeper_digits.sweep.record import DONE, StudyRecord, trials_of
from sweeper_digits.text import brief
from sweeper_digits.url import hidden, sqlite_file, url_of

FINALISTS, SEEDS, MODELS = 3, 3, 5
UNITS = {"n_trials": "trials", "timeout": "seconds", "n_epochs": "epochs"}


class Step(NamedTuple):
    """A thing to do, in words, and the commands that do it, one a line."""

    text: str
    command: str


def next_steps(
    paths: Sequence[str],
    filtered: bool,
    found: list[Record],
    groups: list[Configuration],
    winner: Winner,
    storage: str | None,
) -> list[Step]:
    """Return the next steps: confirm the best, predict with the best few, search on, repeat the best.

    Runs that a filter has chosen get only the steps that hold for them and not for all runs below the paths.

    Args:
        paths: Where the runs are, as the user named them.
        filtered: Whether runs below these paths were left out.
        found: The runs.
        groups: Their configurations, best first; at least one.
        winner: How the best of them compares with the others.
        storage: URL of the database of the studies; None: each has its own, in its folder.
    """
    search = None if filtered else _search_on(found, storage)
    steps = [_predict(paths, filtered, found), search]
    with contextlib.suppress(UserError, HydraException):  # of a run that is older than today's conf/: `compare` says so
        steps.append(Step("Train the best again, and with another seed", repeated(groups[0].runs[0])))
        if not filtered and len(paths) == 1 and (len(groups[0].samples) == 1 or winner.may_be_luck):
            steps.insert(0, _confirm(paths[0], len(groups)))
    return [step for step in steps if step]


def _confirm(path: str, configurations: int) -> Step:
    top = min(FINALISTS, configurations)
    best = f"the best {top}" if top > 1 else "the best"
    text = f"Was it luck? Train {best} on {SEEDS} new seeds each"
    return Step(text, program.command("confirm", path, "--top", str(top), "--seeds", str(SEEDS)))


def _predict(paths: Sequence[str], filtered: bool, found: list[Record]) -> Step | None:
    """Return the average of the best runs that have weights, and the data and the classes of the best."""
    ranked = best_first(found, objectives_of(found)[0])
    plain = list(islice((record for record in ranked if record.run.models()), MODELS))
    if not plain:
        return None
    alike = [record for record in plain if predict_together(plain[0], record)]
    which = paths if not filtered and len(alike) == len(plain) else [str(record.run.folder) for record in alike]
    locked = bool(plain[0].settings.get("split.test_size"))
    part = "the locked test part; each look is noted" if locked else "the validation part"
    models = f"the best {len(alike)} together" if len(alike) > 1 else "the best"
    return Step(f"Score {models} on {part}", program.command("predict", *which, "--top", str(len(alike))))


def _search_on(found: list[Record], storage: str | None) -> Step | None:
    """Return the command that goes on with a sweep until twice as much is done; None where these runs are no sweep.

    The database has the command of the sweep, and what ends it. The folder has the identity of the study, so it is no
    stranger's; a database that cannot be read costs this step only.
    """
    folders = {record.run.folder.parent for record in found}
    if len(folders) != 1:
        return None
    try:
        owner = owner_of(sweep := folders.pop())
        url = storage or url_of(sweep)
        if owner is None or ((file := sqlite_file(url)) and not file.exists()):
            return None
        study = optuna.load_study(study_name=owner.study, storage=Reader(optuna.storages.RDBStorage(url)))
        kept = StudyRecord(study)
        typed, folder, space = kept.command["words"], kept.command["folder"], kept.space
        if kept.identity != owner.identity or Path(folder) != Path.cwd():
            return None  # another study, or paths that count from another folder
        budget = kept.steering["budget"]
        done = sum(trial.state in DONE for trial in trials_of(study))
    except Exception:  # of whichever database driver, or of a damaged file: it costs this step only
        return None
    if space["is_enumerated"]:  # each point once: there is no more to draw
        return None
    limits = {key: value for key, value in budget.items() if value is not None}
    more = {key: 2 * (max(limit, done) if key == "n_trials" else limit) for key, limit in limits.items()}
    shown = " or ".join(f"{brief(value)} {UNITS[key]}" for key, value in more.items())
    words = [*typed, *(f"hydra.sweeper.{key}={value:.15g}" for key, value in more.items())]
    if storage is not None and storage != os.environ.get("OPTUNA_STORAGE"):
        if hidden(storage) != storage:  # a password, which no page shows
            return None
        words.append(f"hydra.sweeper.storage={override_text(storage)}")
    return Step(f"Search on, up to {shown} in all", program.same_command(words))
