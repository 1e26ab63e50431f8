"""What a reader of a table must know before its ranks are believed: other data, and copies."""

import os

from sweeper_digits.runs.record import REPEATED, Record
from sweeper_digits.screen import counted, printable
from sweeper_digits.sweep.claim import find_copies

# Groups of runs that a line names.
MOST_GROUPS = 4


def describe_mixture(found: list[Record]) -> list[str]:
    """Return lines that say which runs are ranked together though their values do not compare."""
    return _describe_data(found) + _describe_copies(found)


def data_settings(record: Record) -> dict[str, object]:
    """Return the settings that decide which images train and validate, apart from the fold."""
    settings = record.settings.items()
    return {k: v for k, v in settings if k.split(".")[0] in ("data", "split") and k not in REPEATED}


def _describe_data(found: list[Record]) -> list[str]:
    groups: dict[str, tuple[dict[str, object], list[Record]]] = {}
    for record in (record for record in found if record.finished):
        settings = data_settings(record)
        groups.setdefault(str(sorted(settings.items())), (settings, []))[1].append(record)
    if len(groups) < 2:
        return []
    every = [settings for settings, _ in groups.values()]
    names = sorted({name for settings in every for name in settings if not name.endswith("_target_")})
    differing = [name for name in names if len({str(settings.get(name)) for settings in every}) > 1]
    parts = []
    for settings, runs in sorted(groups.values(), key=lambda group: -len(group[1]))[:MOST_GROUPS]:
        values = " ".join(printable(f"{name}={settings[name]}") for name in differing if name in settings)
        parts.append(f"{counted(len(runs), 'run')} with {values or 'another version of the options'}")
    more = f", and {counted(len(groups) - MOST_GROUPS, 'more group')}" if len(groups) > MOST_GROUPS else ""
    return [f"the ranks mix values of different images: {', '.join(parts)}{more}; choose one group with --filter"]


def _describe_copies(found: list[Record]) -> list[str]:
    copies = find_copies({record.run.folder.parent for record in found})
    return [
        printable(f"{os.path.relpath(copy)} is a copy of {os.path.relpath(original)}: its runs are listed twice")
        for copy, original in copies.items()
    ]
