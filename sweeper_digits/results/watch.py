"""`compare --watch`: the report follows the run folders, until Ctrl-C."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from sweeper_digits.runs.folder import RunFolder, replacing

PAUSE = 3.0  # seconds between two looks at the folders
# A pause is at least so many times the processor time of the look before it, or of the writing, also of 2,000 runs.
LOOKS, WRITINGS = 50, 2
# A sweep whose runs have all ended may begin another for so many seconds; after that, its report is finished.
QUIET = 60.0
NICE = 10  # trainings on the same cores come first
# An attribute of the page: it reloads itself.
LIVE = " data-live"
FILES_OF_A_RUN = RunFolder("")
READ = {
    file.name
    for file in (FILES_OF_A_RUN.history, FILES_OF_A_RUN.metrics, FILES_OF_A_RUN.validation, FILES_OF_A_RUN.tests)
}
CONFIG = "config.yaml"
# Path -> time of the last change, in nanoseconds, and size in bytes.
Files = dict[str, tuple[int, int]]


def watch(paths: Sequence[str], report: Path, rewrite: Callable[[bool], str]) -> NoReturn:
    """Rewrite a report whenever a file that it is made of has changed, until Ctrl-C; then it is finished.

    Args:
        paths: Where the runs are.
        report: The report.
        rewrite: Writes it, and returns a line to print. Its argument: whether more is to come, so that the page
            reloads itself.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        OSError: A path that is not there, or is not there any more.
    """
    os.nice(NICE)
    seen = None
    try:
        while True:
            started = time.process_time()
            files = files_below(paths)
            live = is_live(files)
            factor = LOOKS
            if (files, live) != seen:
                seen, factor = (files, live), WRITINGS
                line = rewrite(live) if runs_in(files) else "no run yet"
                print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)
            time.sleep(max(PAUSE, factor * (time.process_time() - started)))
    finally:
        finish(report)


def finish(report: Path) -> None:
    """Let the page of a report reload itself no more."""
    with contextlib.suppress(FileNotFoundError):
        text = report.read_text(encoding="utf-8")
        if LIVE in text[:200]:
            with replacing(report) as temporary:
                temporary.write_text(text.replace(LIVE, "", 1), encoding="utf-8")


def files_below(paths: Sequence[str]) -> Files:
    """Return the files below the paths that a report is made of.

    Raises:
        OSError: A path that is no folder.
    """
    found: Files = {}
    for path in paths:
        folders = [path]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        elif entry.name in READ or (entry.name == CONFIG and folder.endswith(f"{os.sep}.hydra")):
                            status = entry.stat()
                            found[entry.path] = status.st_mtime_ns, status.st_size
            except OSError:
                if folder == path:
                    raise  # the others were moved or deleted since they were listed
    return found


def runs_in(files: Files) -> set[str]:
    return {os.path.dirname(os.path.dirname(file)) for file in files if file.endswith(f"{os.sep}{CONFIG}")}  # noqa: PTH120


def is_live(files: Files) -> bool:
    """Return whether more is to come: a run has not ended, or something has just changed."""
    ended = {os.path.dirname(file) for file in files if file.endswith(f"{os.sep}{FILES_OF_A_RUN.metrics.name}")}  # noqa: PTH120
    newest = max((when for when, _ in files.values()), default=0) / 1e9
    return bool(runs_in(files) - ended) or time.time() - newest < QUIET
