"""What a reader of a table must know before its ranks are believed: other data, and copies."""

import os

from sweeper_digits.runs.record import REPEATED, Record
from sweeper_digits.screen import counted, printable
from sweeper_digits.sweep.claim import find_copies

# Groups of runs that a line names.
MOST_GROUPS = 4
# Digits of a fingerprint that a person sees.
SHOWN = 8


def describe_mixture(found: list[Record]) -> list[str]:
    """Return lines that say which runs are ranked together though their values do not compare."""
    return _describe_data(found) + _describe_copies(found)


def _describe_data(found: list[Record]) -> list[str]:
    groups: dict[str, list[Record]] = {}
    for record in (record for record in found if record.finished):
        groups.setdefault(str(sorted(record.data.items())), []).append(record)
    if len(groups) < 2:
        return []
    every = [_settings(runs[0]) for runs in groups.values()]
    contents = {runs[0].fingerprint for runs in groups.values()}
    mix = "may mix" if None in contents else "mix"
    left_out = ("data",) if len(contents) == 1 and None not in contents else ()  # of copies, the paths do not matter
    names = sorted({name for settings in every for name in settings if not name.endswith("_target_")})
    names = [name for name in names if name.split(".")[0] not in left_out]
    differing = [name for name in names if len({str(settings.get(name)) for settings in every}) > 1]
    parts = []
    for runs in sorted(groups.values(), key=len, reverse=True)[:MOST_GROUPS]:
        settings = _settings(runs[0])
        values = " ".join(printable(f"{name}={settings[name]}") for name in differing if name in settings)
        parts.append(f"{counted(len(runs), 'run')} with {values or 'another version of the options'}")
    more = f", and {counted(len(groups) - MOST_GROUPS, 'more group')}" if len(groups) > MOST_GROUPS else ""
    return [f"the ranks {mix} values of different images: {', '.join(parts)}{more}; choose one group with --filter"]


def _settings(record: Record) -> dict[str, object]:
    """Return the settings of a run's data and split, apart from the fold, and what tells its data."""
    settings = {k: v for k, v in record.settings.items() if k.split(".")[0] in ("data", "split") and k not in REPEATED}
    return settings | {"content": record.fingerprint[:SHOWN] if record.fingerprint else "unknown"}


def _describe_copies(found: list[Record]) -> list[str]:
    copies = find_copies({record.run.folder.parent for record in found})
    return [
        printable(f"{os.path.relpath(copy)} is a copy of {os.path.relpath(original)}: its runs are listed twice")
        for copy, original in copies.items()
    ]
