"""Tables of bad input: each is refused in one line, and all that are not are listed at once."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from sweeper_digits import bad_input
from sweeper_digits.errors import UserError


def unlike(cases: Iterable[tuple[Any, str]], take: Callable[[Any], object]) -> list[str]:
    """Give each input to a function; return those that are not refused in one line that matches their pattern."""
    found = []
    for given, pattern in cases:
        try:
            take(given)
            text = "it was taken"
        except (UserError, SystemExit) as error:
            text = str(error)
        except (HydraException, OmegaConfBaseException) as error:
            text = bad_input.one_line(error)
        if "\n" in text or not re.search(pattern, text):
            found.append(f"{given!r}: {text!r} is not like {pattern!r}")
    return found
