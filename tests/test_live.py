"""The bottom lines of a terminal: real ones, of a pseudo-terminal, and none where there is none."""

import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from sweeper_digits import live
from tests.conftest import ROOT

# Two rows and a command are logged while the bottom line is written anew.
PROGRAM = """
import logging, sys
from sweeper_digits import live
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
with live.region() as region:
    for number in range(2):
        logging.info("row %d " + "x" * 100, number, extra=live.ROW)
        logging.info("command %d " + "y" * 100, number)
        if region:
            region.update(live.bar(number / 2, 10))
logging.info("after")
"""
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(program: str, seconds: float = 30, **environment: str) -> str:
    """What a program of 60 columns writes to its terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "60", "LINES": "20"} | environment,
        cwd=ROOT,
    )
    os.close(theirs)
    written, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                written += os.read(ours, 65536)
            except OSError:  # all of it was read, and the program has ended
                break
    os.close(ours)
    assert process.wait(timeout=seconds) == 0
    return written.decode().replace("\r\n", "\n")


def test_rows_are_cut_and_messages_are_not_while_the_bottom_line_is_there() -> None:
    written = on_a_terminal(PROGRAM)
    lines = re.split(r"[\r\n]+", ESCAPE.sub("", written).strip())
    for number in range(2):
        assert f"row {number} {'x' * 53}…" in lines
        assert f"command {number} {'y' * 100}" in lines
    assert "━━━━━─────" in ESCAPE.sub("", written)
    assert lines[-1] == "after"
    assert written.rfind("\x1b[?25l") < written.rfind("\x1b[?25h"), "the cursor is shown"


def test_no_color_leaves_the_lines() -> None:
    written = on_a_terminal(PROGRAM, NO_COLOR="1")
    assert "━━━━━─────" in written and "\x1b[36m" not in written
    assert "\x1b[36m" in on_a_terminal(PROGRAM)


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(term: str) -> None:
    written = on_a_terminal(PROGRAM, TERM=term)
    assert "\x1b" not in written
    assert written.splitlines() == [
        f"{word} {number} {letter * 100}" for number in range(2) for word, letter in (("row", "x"), ("command", "y"))
    ] + ["after"]


def test_a_pipe_gets_plain_lines() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.count("\n") == 5 and "\x1b" not in done.stdout + done.stderr
    assert done.stderr == ""


def test_a_bar_is_readable_without_colours() -> None:
    assert [live.bar(share, 4).plain for share in (0, 0.5, 1, 2)] == ["────", "━━──", "━━━━", "━━━━"]
