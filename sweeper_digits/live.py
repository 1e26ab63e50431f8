"""The lines at the bottom of a terminal that are written anew while a training or a sweep runs."""

import contextlib
import logging
import math
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sweeper_digits.screen import beneath

if TYPE_CHECKING:  # loaded only where there is a terminal
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

# Attribute of a log record whose line is cut to the width of a terminal, as the row of a table is.
ROW = {"is_row": True}
# Values of TERM of terminals that cannot move the cursor.
WITHOUT_CURSOR = ("", "dumb", "unknown")


def is_terminal() -> bool:
    """Return whether stderr is a terminal that can write a line anew."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in WITHOUT_CURSOR


class Region:
    """The bottom lines of the terminal, above which messages scroll.

    Args:
        console: The terminal.
        live: Writes the lines.
    """

    def __init__(self, console: "Console", live: "Live") -> None:
        self.console, self._live = console, live
        self._drawn: list[int] = []  # columns of the lines that stand there

    @property
    def size(self) -> tuple[int, int]:
        """Return the columns and the lines that there are now: a person may have resized the terminal.

        At Ctrl-C, a terminal writes two characters behind the last line; they must not begin another line.
        """
        return self.console.size.width - 2, self.console.size.height

    def update(self, content: "RenderableType") -> None:
        from rich.segment import SegmentLines

        self.forget_broken_lines()
        lines = self.console.render_lines(content, pad=False)
        self._live.update(SegmentLines(lines, new_lines=True), refresh=True)
        self._drawn = [sum(segment.cell_length for segment in line) for line in lines]

    def forget_broken_lines(self) -> None:
        """Clear the lines of a terminal that was made narrower: it has broken them, and rich counts each as one."""
        width = self.console.size.width
        rows = sum(max(1, math.ceil(length / width)) for length in self._drawn)
        if rows > len(self._drawn):
            # Up to the first of them, clear all below, and down to where rich begins to go up.
            down = "\n" * (len(self._drawn) - 1)
            self.console.file.write(f"\x1b[{rows - 1}A\r\x1b[J{down}")
            self._drawn = [min(length, width) for length in self._drawn]


class _Above(logging.Handler):
    """Writes messages above the lines, in place of a handler that writes to the terminal."""

    def __init__(self, region: Region, replaced: logging.Handler) -> None:
        super().__init__(replaced.level)
        self.region, self.console = region, region.console
        self.setFormatter(replaced.formatter)

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        text = Text(self.format(record))
        self.region.forget_broken_lines()
        with contextlib.suppress(BrokenPipeError, ValueError):  # the terminal is gone
            if getattr(record, "is_row", False):
                self.console.print(text, no_wrap=True, overflow="ellipsis")
            else:  # the terminal breaks a line so that a command in it can be copied
                self.console.print(text, soft_wrap=True)


def bar(share: float, width: int) -> "Text":
    """Return a bar of which a share, from 0 to 1, is done; readable without colours."""
    from rich.text import Text

    full = round(width * min(1.0, share))
    return Text.assemble(("━" * full, "cyan"), ("─" * (width - full), "bright_black"))


@contextlib.contextmanager
def region() -> Iterator[Region | None]:
    """Open the bottom lines of the terminal, and clear them at the end; None where stderr is no terminal.

    Meanwhile, what is logged to the terminal is written above them.
    """
    if not is_terminal():
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(file=beneath(sys.stderr), highlight=False)
    live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
    opened = Region(console, live)
    root = logging.getLogger()
    handlers = root.handlers
    root.handlers = [_Above(opened, one) if _is_on_terminal(one) else one for one in handlers]
    try:
        with live:
            console.show_cursor(True)  # a process that is killed could not show it again
            try:
                yield opened
            finally:
                opened.forget_broken_lines()
    finally:
        root.handlers = handlers


def _is_on_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream.isatty()
