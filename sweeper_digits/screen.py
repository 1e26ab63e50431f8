"""Printing that controls no terminal, whatever a stranger wrote."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from sweeper_digits.text import printable


class Message(logging.LogRecord):
    """A log record that controls no terminal, neither now nor when its file is looked at."""

    def getMessage(self) -> str:
        return printable(super().getMessage(), "\n\t")


class Printed:
    """A stream that shows what would control a terminal as a sign, for programs that print what strangers wrote.

    Args:
        beneath: The stream that is written to.
    """

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)

    def write(self, text: str) -> int:
        return self.beneath.write(printable(text, "\n\t"))


def beneath(stream: TextIO) -> TextIO:
    """Return the stream itself, for who colours its own words or moves the cursor."""
    return stream.beneath if isinstance(stream, Printed) else stream


@contextlib.contextmanager
def printed() -> Iterator[None]:
    """Let nothing that is printed control the terminal."""
    out, error = (cast(TextIO, Printed(stream)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        yield
