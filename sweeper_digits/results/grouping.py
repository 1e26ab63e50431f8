"""Which settings runs differ in, and `compare --group-by`: what the values of one of them came to."""

from typing import Any

import pandas as pd

from sweeper_digits.errors import UserError, closest
from sweeper_digits.runs.record import Record, direction_of, objectives_of
from sweeper_digits.schema import GROUPS, INCIDENTAL

# States that count as worse than any value. An unfinished run may still become the best.
WORST = ["pruned", "diverged", "failed"]


def differing_settings(records: list[Record]) -> list[str]:
    """Return the settings in which the records differ.

    Left out are those that only follow from a choice: model.filters where each option of `model`
    has one value and no command gave another.
    """
    values: dict[str, set[str]] = {}
    for record in records:
        for name, value in record.used.items():
            values.setdefault(name, set()).add(str(value))
    overridden = set().union(*(record.overrides for record in records)) if records else set()
    names = []
    for name, found in values.items():
        if len(found) < 2 or name.split(".")[0] in INCIDENTAL or name.endswith("_target_"):
            continue
        if name in overridden or not _follows(records, name):
            names.append(name)
    return sorted(names, key=lambda name: (name.split(".")[0] not in GROUPS, name))


def group_by_setting(found: list[Record], name: str) -> pd.DataFrame:
    """Return a row for each value of a setting, ordered by the mean rank of its runs, finished or not.

    Mean, standard deviation, best and count of the objective are of finished runs. Where one value's bad runs were
    pruned, and another's were not, only ranks compare the two. A column follows for each other state that occurs.

    Raises:
        UserError: No run has the setting.
    """
    known = {key for record in found for key in record.used}
    if name not in known:
        raise UserError(f"--group-by {name}: no run has this setting{closest(name, known)}")
    objective = objectives_of(found)[0]
    maximize = direction_of(found, objective) == "maximize"
    values = pd.Series([record.value(objective) if record.finished else None for record in found], dtype=float)
    states = pd.Series([record.state for record in found])
    settings = pd.Series([str(record.used.get(name)) for record in found], name=name)
    # A run that cannot be read has no settings. A finished run without a value had no validation part.
    kept = pd.Series([bool(record.settings) for record in found]) & (values.notna() | (states != "finished"))
    settings = settings[kept]
    groups = values.groupby(settings).agg(["mean", "std", "max" if maximize else "min", "count"])
    groups.columns = ["mean", "std", "best", "count"]
    worst = float("-inf" if maximize else "inf")
    groups["mean_rank"] = values.mask(states.isin(WORST), worst).rank(ascending=not maximize).groupby(settings).mean()
    for state in [*WORST, "unfinished"]:
        if ((states == state) & kept).any():
            groups[state] = (states == state).groupby(settings).sum()
    return groups.sort_values("mean_rank", kind="stable").reset_index()


def describe_columns(groups: pd.DataFrame, objective: str) -> str:
    """Return the line that says what the columns are of, and over which runs if some did not finish."""
    worst = [state for state in WORST if state in groups]
    unfinished = "unfinished" in groups
    only = ", over finished runs only" if worst or unfinished else ""
    last = f"; mean_rank is over all, {', '.join(worst)} last" if worst else ""
    running = "; unfinished runs do not count" if unfinished else ""
    return f"mean, std and best are of {objective}{only}{last}{running}"


def _follows(records: list[Record], name: str) -> bool:
    group = name.partition(".")[0]
    if group == name or group not in GROUPS:
        return False
    by_option: dict[Any, set[str]] = {}
    for record in records:
        if name in record.settings:
            by_option.setdefault(record.settings.get(group), set()).add(str(record.settings[name]))
    return all(len(values) == 1 for values in by_option.values())
