"""What a person sees, and what a program does at its begin and its end."""

import subprocess
import sys

from sweeper_digits.text import counted
from tests.conftest import ROOT

# Prints how often an import was interrupted for a search for garbage, and whether the end of the program is spared one.
PROGRAM = """
import atexit, gc
from sweeper_digits.bad_input import exit_in_one_line

def load():
    before = gc.get_stats()[0]["collections"]
    import pandas
    print(gc.get_stats()[0]["collections"] - before)

atexit.register(lambda: print(gc.get_freeze_count() > len(gc.get_objects())))
exit_in_one_line(load)
"""


def test_one_is_no_plural() -> None:
    assert [counted(number, "epoch") for number in (0, 1, 2000)] == ["0 epochs", "1 epoch", "2,000 epochs"]
    assert counted(2, "body", "bodies") == "2 bodies"


def test_imports_and_the_end_of_a_program_are_not_searched_for_garbage() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    searches, spared = done.stdout.splitlines()
    assert int(searches) < 20 and spared == "True"  # 150 searches where nothing is done against it
