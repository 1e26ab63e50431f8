"""`python -m sweeper_digits`: its help is instant and tells no secrets; its exit statuses are those that it names."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper_digits import __main__, bad_input
from sweeper_digits.errors import UserError

VERBS = [verb[0] for verb in __main__.VERBS]
HEAVY = ("tensorflow", "keras", "optuna", "pandas", "sklearn", "scipy", "plotly")


@pytest.mark.parametrize("verb", [[], *([verb] for verb in VERBS)])
def test_help_imports_nothing_heavy_and_prints_no_password(verb: list[str]) -> None:
    code = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_module('sweeper_digits', run_name='__main__')\n"
        "finally:\n"
        f"    print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *verb, "--help"],
        env=os.environ | {"OPTUNA_STORAGE": "postgresql://me:secret@host/db"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "usage: python -m sweeper_digits" in done.stdout and done.stdout.endswith("[]\n")
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "x", "--top", "0"], "--top: 0: a whole number from 1 on is needed"),
        (["comparee"], "invalid choice: 'comparee'"),
        ([], "arguments are required: VERB"),
    ],
)
def test_bad_arguments_are_one_line(arguments: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "sweeper_digits", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ") and message in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_a_screen_says_what_is_printed_and_has_an_example_that_parses(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["sweeper_digits", verb, "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        __main__.main()
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= 60 and "It prints " in printed
    example = printed.rpartition("example:\n  python -m sweeper_digits ")[2]
    assert __main__.parser().parse_args(shlex.split(example)).verb == verb


def test_help_of_the_program_is_80_wide_and_has_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        __main__.parser().parse_args(["--help"])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert re.findall(r"^  (\d+) ", printed.partition("exit status:")[2], re.MULTILINE) == ["0", "1", "130"]


def interrupted() -> None:
    raise KeyboardInterrupt


def wrong() -> None:
    raise UserError("x: wrong")


@pytest.mark.parametrize(("do", "status"), [(interrupted, 130), (wrong, "error: x: wrong")])
def test_exit_statuses_hold(do: Callable[[], None], status: object) -> None:
    """Those of searches: tests/sweep/test_sweep.py, test_kills.py; of a run that diverged: test_bad_input.py."""
    with pytest.raises(SystemExit) as ended:
        bad_input.exit_in_one_line(do)
    assert ended.value.code == status


def test_exit_statuses_of_a_process(tmp_path: Path, tiny: list[str]) -> None:
    def status(*arguments: str) -> int:
        command = [sys.executable, "-m", "sweeper_digits", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=200).returncode

    folder = ["hydra.run.dir=run", "epochs=1"]
    assert status("train", *tiny, *folder) == 0 and status("compare", "run") == 0
    assert status("train", *tiny, *folder) == 1  # the folder belongs to the first run
    assert status("train", *tiny, "hydra.run.dir=bad", "epochs=0") == 1 and status("compare", "nowhere") == 1
