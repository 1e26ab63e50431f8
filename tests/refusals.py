"""Refusals, many in one test: each input ends in one line that says its cause."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from sweeper_digits.errors import UserError

Given = TypeVar("Given")


def not_refused(call: Callable[[Given], object], table: Iterable[tuple[Given, str]]) -> list[str]:
    """Return the inputs of a table that were not refused in one line that has the table's words, and what was said."""
    found = []
    for given, message in table:
        said = "nothing was raised"
        try:
            call(given)
        except (UserError, SystemExit) as error:
            said = str(error)
        if not re.search(message, said) or "\n" in said:
            found.append(f"{given}: {said}")
    return found
