"""The one error type that a user is meant to read."""

import difflib
from collections.abc import Iterable

from hydra.errors import CompactHydraException


class UserError(CompactHydraException):
    """Bad input: one line that says what is wrong, where, and what to do.

    Derives from Hydra's compact exception so that it stays one line inside a sweeper too.
    """


class Diverged(UserError):
    """The loss became NaN or infinite."""

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch  # counted from 0


def closest(name: str, options: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for a misspelt option, or an empty string."""
    close = difflib.get_close_matches(name, list(options), n=2)
    return f" (did you mean {' or '.join(repr(option) for option in close)}?)" if close else ""
