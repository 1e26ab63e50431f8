"""Options of runs of earlier versions, as a run of today would have saved them."""

import dataclasses
from typing import Any

from omegaconf import MISSING

from sweeper_digits import registry
from sweeper_digits.errors import UserError
from sweeper_digits.signature import default_of


def upgraded(group: str, saved: dict[str, Any]) -> dict[str, Any]:
    """Return an option of a config group as a run of today would have saved it.

    A run of an earlier version is comparable with one of today: what has become a key since then had its default. Of
    the callbacks, those are left out that change nothing in a training.

    Args:
        group: The config group.
        saved: The option's keys and values; of `callbacks`, by name.
    """
    if group == "callbacks":
        known = registry.options_of(group)
        return {name: value for name, value in saved.items() if not (name in known and known[name].watches)}
    try:
        part = registry.find(group, saved)
    except UserError:  # not an option, or of a plug-in that is not loaded
        return saved
    fields = dataclasses.fields(part.option)
    defaults = {one.name: value for one in fields if (value := default_of(one)) is not MISSING}
    return defaults | {name: value for name, value in saved.items() if name in {one.name for one in fields}}
