"""A sweep as its own terminal shows it, from anywhere: `status`."""

import argparse
import contextlib
import dataclasses
import logging
import sys
import time
from typing import Any

from rich.console import Console

from sweeper_digits import live, program
from sweeper_digits.errors import UserError
from sweeper_digits.results.document import as_json
from sweeper_digits.results.studies import find_queue, open_queues
from sweeper_digits.screen import beneath, printable
from sweeper_digits.sweep.budget import is_supervised, last_watched
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.storage import StorageError
from sweeper_digits.sweep.table import show, summary, table, value_text
from sweeper_digits.sweep.trials import STANDARD_ERROR
from sweeper_digits.sweep.view import Spotter, View

# Seconds between two looks of --watch, and the columns and lines of what is no terminal.
WATCH_SECONDS = 1.5
PLAIN = (160, 1000)


def main(arguments: argparse.Namespace) -> None:
    """Print a sweep, or a line for each study; with `--watch` until the sweep ends."""
    name = _running(arguments.storage) if arguments.study is None else arguments.study
    if name is None:
        if arguments.watch:
            raise UserError("--watch: no sweep runs, or several do; name the study")
        _print_all(arguments)
        return
    queue = find_queue(arguments.storage, name)
    spotter = Spotter(queue, _is_enumerated(queue))
    view = spotter.look()
    if arguments.json:
        print(as_json(document(queue, view)), end="")
        return
    if arguments.watch and is_supervised(queue.study.user_attrs):
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
    attributes, best = queue.study.user_attrs, None
    if view.best is not None:
        error = view.best.user_attrs.get(STANDARD_ERROR)
        best = {"number": view.best.number, "value": view.best.values[0], "standard_error": error}
        best |= {"point": view.best.params}
    return {
        "study": queue.study.study_name,
        "runs": is_supervised(attributes),
        "watched_until": last_watched(attributes),
        "objectives": view.objectives,
        "trials": {state.name.lower(): count for state, count in view.states.items()},
        "budget": {key: {"used": used, "of": limit} for key, (used, limit) in view.used.items()},
        "seconds_left": view.seconds_left,
        "best": best,
        "front": view.front or None,
        "running": [dataclasses.asdict(one) | {"worker": one.worker or None} for one in view.running],
    }


def _running(storage: str) -> str | None:
    """Return the one study that is supervised now; one that is not readable is not counted."""
    found = []
    for name, queue in open_queues(storage).items():
        with contextlib.suppress(StorageError):
            found += [name] if is_supervised(queue.study.user_attrs) else []
    return found[0] if len(found) == 1 else None


def _print_all(arguments: argparse.Namespace) -> None:
    lines, documents = [], []
    for name, queue in open_queues(arguments.storage).items():
        try:
            view = Spotter(queue, _is_enumerated(queue)).look()
            documents.append(document(queue, view))
        except StorageError as error:
            lines.append(str(error))
            documents.append({"study": name, "error": str(error)})
            continue
        best = f"; best {value_text(view.best.values[0], view.best)} #{view.best.number}" if view.best else ""
        lines.append(f"{name:20s} {', '.join(view.objectives)}: {summary(view)[0]}{best}")
    if arguments.json:
        print(as_json({"studies": documents}), end="")
        return
    print("\n".join(map(printable, lines)) or "no studies")
    if lines:
        print(f"\none of them: {program.command('status', 'STUDY')}")


def _watch(queue: Queue, spotter: Spotter) -> None:
    """Show the sweep as it goes on, until it has no supervisor and no trial runs."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO, force=True)
    logging.info("%s", _state(queue))
    with live.region() as region:
        while True:
            view = spotter.look()
            show(view, region)
            if not is_supervised(queue.study.user_attrs):
                break
            time.sleep(WATCH_SECONDS)
    for line in (_state(queue), *summary(view)):
        logging.info("%s", line)


def _state(queue: Queue) -> str:
    attributes, name = queue.study.user_attrs, printable(queue.study.study_name)
    if is_supervised(attributes):
        return f"{name}: the sweep runs"
    if (last := last_watched(attributes)) is None:
        return f"{name}: no sweep runs"
    return f"{name}: no sweep runs since {time.strftime('%F %H:%M', time.localtime(last))}"


def _is_enumerated(queue: Queue) -> bool:
    try:
        return queue.helm.space().is_enumerated
    except StorageError:
        raise
    except UserError:  # of a study that an earlier version began, the total is not known
        return False
