"""The bottom lines of a terminal: real ones, of a pseudo-terminal, and none where there is none."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper_digits import live
from tests.conftest import ESCAPE, ROOT, on_a_terminal

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


def test_rows_are_cut_and_messages_are_not_while_the_bottom_line_is_there() -> None:
    written = on_a_terminal(["-c", PROGRAM])
    lines = re.split(r"[\r\n]+", ESCAPE.sub("", written).strip())
    for number in range(2):
        assert f"row {number} {'x' * 53}…" in lines
        assert f"command {number} {'y' * 100}" in lines
    assert "━━━━━─────" in ESCAPE.sub("", written)
    assert lines[-1] == "after" and "\x1b[36m" in written
    assert written.rfind("\x1b[?25l") < written.rfind("\x1b[?25h"), "the cursor is shown"


def test_no_color_leaves_the_lines() -> None:
    written = on_a_terminal(["-c", PROGRAM], NO_COLOR="1")
    assert "━━━━━─────" in written and "\x1b[36m" not in written


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(term: str) -> None:
    written = on_a_terminal(["-c", PROGRAM], TERM=term)
    assert "\x1b" not in written
    assert written.splitlines() == [
        f"{word} {number} {letter * 100}" for number in range(2) for word, letter in (("row", "x"), ("command", "y"))
    ] + ["after"]


def test_a_pipe_gets_plain_lines() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.count("\n") == 5 and "\x1b" not in done.stdout + done.stderr
    assert done.stderr == ""


def test_a_run_shows_how_far_an_epoch_is(tmp_path: Path, tiny: list[str]) -> None:
    # Validation and saving aside, an epoch of 30 steps of 4 images lasts longer than a look.
    given = [*tiny, "epochs=2", "batch_size=4", f"hydra.run.dir={tmp_path}/run"]
    written = on_a_terminal([str(ROOT / "train.py"), *given], seconds=120, COLUMNS="100")
    line = r"[━─]{20} epoch [12]/2 +\d+%  loss [\d.]+  [\d,]+ images/s  \d+:\d\d left in this epoch"
    shown = re.findall(line, ESCAPE.sub("", written))
    assert shown and "left in this epoch" not in (tmp_path / "run" / "train.log").read_text()
    assert "epoch   2/2" in written


def test_a_bar_is_readable_without_colours() -> None:
    assert [live.bar(share, 4).plain for share in (0, 0.5, 1, 2)] == ["────", "━━──", "━━━━", "━━━━"]
