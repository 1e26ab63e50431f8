"""`python -m sweeper_digits`: its help is instant and tells no secrets; its exit statuses are those that it names."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper_digits import __main__, bad_input
from sweeper_digits.errors import UserError
from tests.refusals import not_refused

VERBS = [verb[0] for verb in __main__.VERBS]
HEAVY = ("tensorflow", "keras", "optuna", "pandas", "sklearn", "scipy", "plotly")


def test_help_imports_nothing_heavy_and_prints_no_password() -> None:
    """In one process: what the help of any verb imports stays imported."""
    code = (
        "import runpy, sys\n"
        f"for verb in {[[], *([verb] for verb in VERBS)]}:\n"
        "    sys.argv[1:] = [*verb, '--help']\n"
        "    try:\n"
        "        runpy.run_module('sweeper_digits', run_name='__main__')\n"
        "    except SystemExit:\n"
        f"        print(verb, [name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"OPTUNA_STORAGE": "postgresql://me:secret@host/db"},
        capture_output=True,
        text=True,
        check=True,
    )
    shown = re.findall(r"^(\[.*\]) (\[.*\])$", done.stdout, re.MULTILINE)
    assert shown == [(str(verb), "[]") for verb in [[], *([verb] for verb in VERBS)]]
    assert done.stdout.count("usage: python -m sweeper_digits") == len(shown)
    assert "secret" not in done.stdout + done.stderr


def test_bad_arguments_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def call(arguments: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["sweeper_digits", *arguments])
        __main__.main()

    wrong = [
        (["compare", "x", "--top", "0"], "^error: .*--top: 0: a whole number from 1 on is needed"),
        (["comparee"], "^error: .*invalid choice: 'comparee'"),
        ([], "^error: .*arguments are required: VERB"),
    ]
    assert not_refused(call, wrong) == [] and capsys.readouterr() == ("", "")


def test_help_fits_a_screen_says_what_is_printed_and_has_an_example_that_parses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for verb in VERBS:
        monkeypatch.setattr(sys, "argv", ["sweeper_digits", verb, "--help"])
        with pytest.raises(SystemExit, match=r"^0$"):
            __main__.main()
        printed = capsys.readouterr().out
        lines = printed.splitlines()
        assert max(map(len, lines)) <= 80 and len(lines) <= 60 and "It prints " in printed, verb
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


def test_exit_statuses_hold() -> None:
    """Those of searches: tests/sweep/test_sweep.py, test_kills.py; of a run that diverged: test_bad_input.py."""
    for do, status in ((interrupted, 130), (wrong, "error: x: wrong")):
        with pytest.raises(SystemExit) as ended:
            bad_input.exit_in_one_line(do)
        assert ended.value.code == status


def test_exit_statuses_of_a_process(tmp_path: Path) -> None:
    def status(*arguments: str) -> int:
        command = [sys.executable, "-m", "sweeper_digits", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=200).returncode

    assert (status("--help"), status("compare", "nowhere")) == (0, 1)  # of runs: tests/training
