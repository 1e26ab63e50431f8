"""The verbs that look at a sweep or steer it from anywhere: `status`, `enqueue`, `stop`, `change`."""

import argparse
import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from sweeper_digits import live, program
from sweeper_digits.config import STUDY_FILE
from sweeper_digits.errors import UserError, closest
from sweeper_digits.screen import beneath
from sweeper_digits.sweep.budget import KEYS, is_supervised, last_watched
from sweeper_digits.sweep.choose_pruner import make_pruner
from sweeper_digits.sweep.owner import owner_of
from sweeper_digits.sweep.points import POINTS_KEY, Point, in_space
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.record import StudyRecord, TrialRecord, trials_of, tried_points
from sweeper_digits.sweep.show import StudyReader, View, show, summary, table, value_text
from sweeper_digits.sweep.storage import RetryingStorage, StorageError, open_storage
from sweeper_digits.text import as_json, counted, printable
from sweeper_digits.url import check_url, first_line, sqlite_file, url_of

# An error names no more studies than these.
MOST_NAMES = 20


# The folder of the folders of studies.
MULTIRUN = Path("multirun")


def open_queues(storage: str | None, multirun: Path = MULTIRUN) -> dict[str, Queue | UserError]:
    """Return all studies, by name in alphabetical order; of a study whose own database cannot be read, the error.

    Args:
        storage: An Optuna URL; None: each study has its own database, in its folder, whose name is the study's here.
        multirun: Has a folder for each study.

    Raises:
        UserError: There is no such database, or it cannot be read.
    """
    if storage is not None:
        with _opened(storage) as database:
            return {one: _queue(database, one) for one in sorted(database.names())}
    found: dict[str, Queue | UserError] = {}
    for file in sorted(multirun.glob(f"*/{STUDY_FILE}")):
        try:
            with _opened(url_of(file.parent)) as database:
                for name in database.names():
                    found[file.parent.name] = _queue(database, name)
        except UserError as error:
            found[file.parent.name] = error
    return found


@contextlib.contextmanager
def _opened(storage: str) -> Iterator[RetryingStorage]:
    check_url(storage, "--storage")
    if (file := sqlite_file(storage)) and not file.exists():
        raise UserError(f"{storage}: no such file; start a sweep, or name the database with --storage")
    try:
        yield open_storage(storage, heartbeat_seconds=60)
    except UserError:
        raise
    except Exception as error:  # of whichever database driver
        cause = first_line(error, storage)
        raise UserError(f"--storage: the database cannot be read: {cause}") from error


def _queue(database: RetryingStorage, name: str) -> Queue:
    return Queue(optuna.load_study(study_name=name, storage=database), database)


def no_such_study(typed: str, name: str, names: Collection[str]) -> UserError:
    """Return the error for what was typed, which names the studies that there are."""
    known = printable(", ".join(list(names)[:MOST_NAMES])) or "none"
    known += f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return UserError(f"{printable(typed)}: no such study{closest(name, names)}; there are {known}")


def find_queue(storage: str | None, study: str) -> Queue:
    """Return a study, with its pruner.

    Args:
        storage: An Optuna URL; None: the study has its own database, in its folder.
        study: Its name, or the folder of its sweep.

    Raises:
        UserError: There is no such database or study, or the folder is of a study that the database does not have.
    """
    is_folder = Path(study).is_dir()
    folder = Path(study) if is_folder else MULTIRUN / study
    if storage is None and not (folder / STUDY_FILE).exists():
        raise no_such_study(study, folder.name, [file.parent.name for file in MULTIRUN.glob(f"*/{STUDY_FILE}")])
    with _opened(storage or url_of(folder)) as database:
        owner, names = owner_of(folder) if is_folder else None, sorted(database.names())
        name = owner.study if owner else folder.name
        if storage is None and len(names) == 1:  # a folder that was renamed has its study in it
            (name,) = names
        if name not in names:
            raise no_such_study(study, name, names)
        queue = _queue(database, name)
    kept = StudyRecord(queue.study)
    if owner and kept.identity != owner.identity:
        raise UserError(f"{printable(study)}: the database has another study of this name")
    if options := kept.pruner:
        queue.study.pruner = make_pruner(options)
    return queue


# Seconds between two looks of --watch, and the columns and lines of what is no terminal.
WATCH_SECONDS = 1.5
PLAIN = (160, 1000)


def status(arguments: argparse.Namespace) -> None:
    """Print a sweep, or a line for each study; with `--watch` until the sweep ends."""
    name = _running(arguments.storage) if arguments.study is None else arguments.study
    if name is None:
        if arguments.watch:
            raise UserError("--watch: no sweep runs, or several do; name the study")
        _print_all(arguments)
        return
    queue = find_queue(arguments.storage, name)
    spotter = StudyReader(queue, _is_enumerated(queue))
    view = spotter.look()
    if arguments.json:
        print(as_json(document(queue, view)), end="")
        return
    if arguments.watch and is_supervised(queue.study):
        _watch(queue, spotter)
        return
    print(_state(queue))
    console = Console(highlight=False, file=beneath(sys.stdout))
    if console.is_terminal:
        console.print(table(view, *console.size))
        return
    console = Console(highlight=False, width=PLAIN[0])
    with console.capture() as captured:
        console.print(table(view, *PLAIN))
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))  # a table is filled with blanks


def document(queue: Queue, view: View) -> dict[str, Any]:
    """Return what `--json` prints of a sweep; what is not known is null."""
    best = None
    if view.best is not None:
        error = TrialRecord(view.best).standard_error
        best = {"number": view.best.number, "value": view.best.values[0], "standard_error": error}
        best |= {"point": view.best.params}
    return {
        "study": queue.study.study_name,
        "runs": is_supervised(queue.study),
        "watched_until": last_watched(queue.study),
        "objectives": view.objectives,
        "trials": {state.name.lower(): count for state, count in view.states.items()},
        "budget": {key: {"used": used, "of": limit} for key, (used, limit) in view.used.items()},
        "seconds_left": view.seconds_left,
        "best": best,
        "front": view.front or None,
        "running": [dataclasses.asdict(one) | {"worker": one.worker or None} for one in view.running],
    }


def _running(storage: str | None) -> str | None:
    """Return the one study that is supervised now; one that is not readable is not counted."""
    found = []
    for name, queue in open_queues(storage).items():
        with contextlib.suppress(StorageError):
            found += [name] if isinstance(queue, Queue) and is_supervised(queue.study) else []
    return found[0] if len(found) == 1 else None


def _print_all(arguments: argparse.Namespace) -> None:
    lines, documents = [], []
    for name, queue in open_queues(arguments.storage).items():
        try:
            if isinstance(queue, UserError):
                raise queue
            view = StudyReader(queue, _is_enumerated(queue)).look()
            documents.append(document(queue, view))
        except (StorageError, UserError) as error:
            lines.append(str(error))
            documents.append({"study": name, "error": str(error)})
            continue
        best = f"; best {value_text(view.best.values[0], view.best)} #{view.best.number}" if view.best else ""
        lines.append(f"{name:20s} {', '.join(view.objectives)}: {summary(view)[0]}{best}")
    if arguments.json:
        print(as_json({"studies": documents}), end="")
        return
    print("\n".join(map(printable, lines)) or f"no studies in {'the database' if arguments.storage else MULTIRUN}")
    if lines:
        print(f"\none of them: {program.command('status', 'STUDY')}")


def _watch(queue: Queue, spotter: StudyReader) -> None:
    """Show the sweep as it goes on, until it has no supervisor and no trial runs."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO, force=True)
    logging.info("%s", _state(queue))
    with live.region() as region:
        while True:
            view = spotter.look()
            show(view, region)
            if not is_supervised(queue.study):
                break
            time.sleep(WATCH_SECONDS)
    for line in (_state(queue), *summary(view)):
        logging.info("%s", line)


def _state(queue: Queue) -> str:
    name = printable(queue.study.study_name)
    if is_supervised(queue.study):
        return f"{name}: the sweep runs"
    if (last := last_watched(queue.study)) is None:
        return f"{name}: no sweep runs"
    return f"{name}: no sweep runs since {time.strftime('%F %H:%M', time.localtime(last))}"


def _is_enumerated(queue: Queue) -> bool:
    try:
        return queue.shared.space().is_enumerated
    except StorageError:
        raise
    except UserError:  # of a study that another program began, the total is not known
        return False


BY_HAND = "enqueued by hand"


def enqueue(arguments: argparse.Namespace) -> None:
    """Queue the point, and say when it is tried."""
    queue = find_queue(arguments.storage, arguments.study)
    number = queue_point(queue, parse_point(arguments.point))
    name, study = printable(queue.study.study_name), queue.study
    trials = trials_of(study)
    used_up = queue.shared.budget().used_up(study, trials)
    waiting = sum(trial.state == TrialState.WAITING for trial in trials) - 1
    when = f"after {counted(waiting, 'other point')} that {'wait' if waiting > 1 else 'waits'}" if waiting else ""
    if is_supervised(study):
        print(f"{name} #{number}: queued; it is tried {when or 'next'}")
    else:
        again = f"given again{f' with a larger hydra.sweeper.{used_up}' if used_up else ''}"
        print(f"{name} #{number}: queued; no sweep runs: its command, {again}, tries this point {when or 'first'}")


def parse_point(texts: list[str]) -> Point:
    """Return the values of `KEY=VALUE`, as Hydra reads them.

    Raises:
        UserError: Not of this form, or a sweep of several values.
    """
    point: Point = {}
    for text in texts:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            raise UserError(f"{printable(text)}: not of the form KEY=VALUE") from error
        key = str(override.key_or_group)
        if override.is_sweep_override() or override.is_delete() or not POINTS_KEY.fullmatch(key):
            raise UserError(f"{printable(text)}: a point has one value for each key, for example batch_size=64")
        point[key] = override.value()
    return point


def queue_point(queue: Queue, point: Point) -> int:
    """Queue a point of the search space, or a run of a study that lists its runs; return the number of its trial.

    Raises:
        UserError: The point is not in the space, or a trial has it already.
    """
    space = queue.shared.space()
    if space.distributions:
        point = in_space(point, space)
        if space.is_enumerated:
            queued = tried_points(trials_of(queue.study))
            more = f"; {queued} of its {space.size} are queued, and all with hydra.sweeper.n_trials={space.size}"
            cut = space.size is not None and queued < space.size
            raise UserError(f"this sweep tries each point of its space once, without being told{more if cut else ''}")
    for trial in trials_of(queue.study):
        if trial.state != TrialState.FAIL and point in (_queued_point(trial), trial.params):
            raise UserError(f"#{trial.number} has this point already ({trial.state.name.lower()})")
    kept = {"queued_with": point} if space.distributions else {"queued_with": {}, "listed": point}
    queue.study.add_trial(
        optuna.create_trial(state=TrialState.WAITING, **TrialRecord.of_new(point_from=BY_HAND, **kept))
    )
    return max(trial.number for trial in trials_of(queue.study) if _queued_point(trial) == point)


def _queued_point(trial: FrozenTrial) -> Point:
    return dict(TrialRecord(trial).listed or TrialRecord(trial).queued_with or {})


def stop(arguments: argparse.Namespace) -> None:
    """Stop a trial or the sweep, and say what happens next."""
    queue = find_queue(arguments.storage, arguments.study)
    name = printable(queue.study.study_name)
    if arguments.trial is not None:
        print(f"{name} #{arguments.trial}: {stop_trial(queue, arguments.trial)}")
        return
    if not is_supervised(queue.study):
        raise UserError(f"{name}: no sweep runs")
    queue.shared.stop()
    print(f"{name}: the sweep stops, as at Ctrl-C; its command, given again, goes on")


def stop_trial(queue: Queue, number: int) -> str:
    """Let a trial be pruned; return when.

    Args:
        queue: The queue of the study.
        number: The number of the trial.

    Raises:
        UserError: No such trial, or it has ended.
    """
    trials = trials_of(queue.study)
    if not 0 <= number < len(trials):
        raise UserError(f"#{number}: no such trial; the study has {counted(len(trials), 'trial')}")
    trial = queue.read(number)
    try:
        if trial.state == TrialState.WAITING:
            queue.set_state(number, TrialState.PRUNED)
            return "pruned before it began"
        queue.write(number, stop=True)
        runs = is_supervised(queue.study)
        return (
            "is pruned when its epoch ends, or in five seconds"
            if runs
            else "no sweep runs; once one does, its next epoch is its last"
        )
    except optuna.exceptions.UpdateFinishedTrialError as error:
        raise UserError(f"#{number}: it has ended already ({queue.read(number).state.name.lower()})") from error


WHOLE = ("n_trials", "n_epochs", "n_jobs")


def change(arguments: argparse.Namespace) -> None:
    """Change the keys, and say what holds now."""
    queue = find_queue(arguments.storage, arguments.study)
    values = dict(_parse(text) for text in arguments.values)
    name, runs = printable(queue.study.study_name), is_supervised(queue.study)
    enumerated = queue.shared.space().is_enumerated
    if "n_trials" in values and enumerated:
        raise UserError(
            "n_trials: this sweep tries each point of its space once; if they are not all, its command with a larger "
            "hydra.sweeper.n_trials tries more of them"
        )
    jobs = values.pop("n_jobs", None)
    if jobs is not None and not runs:
        raise UserError(f"n_jobs: no sweep of {name} runs; give hydra.sweeper.n_jobs={jobs:g} with its command")
    if values:
        queue.shared.change_budget(values, may_be_open=enumerated)
    if jobs is not None:
        queue.shared.change_jobs(int(jobs))
    workers = f"; {counted(int(jobs), 'worker')} from now on" if jobs is not None else ""
    when = "" if runs else "; no sweep runs: the command of the sweep, given again, has this budget"
    budget = queue.shared.budget()
    parts = ", or ".join(filter(None, ("each point once" if enumerated else "", budget.describe())))
    if runs and (used_up := budget.used_up(queue.study, trials_of(queue.study))):
        when = f"; hydra.sweeper.{used_up} is used up: the sweep ends with the trials that run"
    print(f"{name}: {parts}{workers}{when}")


def _parse(text: str) -> tuple[str, float | None]:
    key, equals, value = text.strip().partition("=")
    key = key.removeprefix("hydra.sweeper.")
    known = (*KEYS, "n_jobs")
    if key in known and not equals:
        raise UserError(f"{printable(text)}: a value is needed, for example {key}=100")
    if key not in known:
        hint = closest(key, known)
        raise UserError(f"{printable(text)}: not one of {', '.join(known)}{hint}; for example n_trials=100")
    if value == "null" and key != "n_jobs":
        return key, None
    try:
        number = int(value) if key in WHOLE else float(value)
    except ValueError as error:
        kind = "a whole number" if key in WHOLE else "a number of seconds"
        raise UserError(f"{key}={printable(value)}: {kind} is needed") from error
    if not 0 < number < float("inf"):
        raise UserError(f"{key}={printable(value)}: must be above 0; null is no limit")
    return key, number
