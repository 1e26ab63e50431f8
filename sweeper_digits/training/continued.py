"""The earlier run that a run continues or repeats, and whether its images are these."""

import logging
from typing import Any

from sweeper_digits.config import Config
from sweeper_digits.data.fingerprint import Content
from sweeper_digits.errors import UserError
from sweeper_digits.runs import begun
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.record import read_metrics_alone
from sweeper_digits.text import relative
from sweeper_digits.training import reporting

log = logging.getLogger(__name__)


def source_of(config: Config, in_sweep: bool) -> RunFolder | None:
    """Return the run that `resume` names, if any.

    Raises:
        UserError: It has finished.
    """
    source = RunFolder(config.resume) if config.resume else None
    # In a sweep, a trial may go on from folds that were all finished when its process died.
    if source and source.metrics.exists() and not in_sweep:
        raise UserError(f"resume={config.resume}: this run has finished; nothing is left to continue")
    return source


def checked_source(source: RunFolder | None, content: Content) -> tuple[RunFolder | None, bool]:
    """Return the run that is continued, if any, and whether it is known which images the whole run is of.

    Args:
        source: The run that is to be continued, if any.
        content: Of the run that goes on.

    Raises:
        UserError: It began with other images, or with another split of them. A trial starts over then.
    """
    if source is None:
        return None, True
    try:
        kept = source.read_images()
        if kept and kept.division != content.division:
            changes = kept.changes(content) or "the same images, split in another way"
            raise UserError(
                f"resume={source.folder}: its data changed since it began: {changes}; put the data back as it was, or "
                f"begin another run with from_run={source.folder}"
            )
    except UserError as error:
        reporting.start_over(error)
        return None, True
    if kept is None:
        log.info("note       %s: not known whether it began with the same images", relative(source.folder))
    return source, kept is not None


def finished_fold(source: RunFolder, content: Content) -> dict[str, Any] | None:
    """Return the metrics of a fold that has finished and has all its files, or None.

    Raises:
        UserError: They are damaged, or of other images than this fold's.
    """
    record = read_metrics_alone(source.folder)
    if record.state == "unreadable":
        raise UserError(f"resume={source.folder}: {record.note}")
    if record.metrics.get("division", content.division) != content.division:
        raise UserError(f"resume={source.folder}: it is of other images, or of another fold; delete this folder")
    whole = source.model.exists() and source.validation.exists()
    return record.metrics if record.finished and whole else None


def compared(config: Config, content: Content) -> str:
    """Return what is to be said of the data and the code of the run that `from_run` names; "" if they are these."""
    run = RunFolder(str(config.from_run))
    try:
        kept, before = run.read_images(), begun.read(run)
    except UserError:
        kept = before = None
    if kept is None:
        return "; not known whether on the same data"
    changes = kept.changes(content)
    said = [f"on other data: {changes}"] if changes else []
    changed = begun.changed_code(before, begun.Begun.now(config)) if before else []
    said += [f"{', '.join(changed)} changed since"] if changed else []
    return f", but {'; '.join(said)}; no repetition of it" if said else ""
