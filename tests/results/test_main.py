"""`python -m sweeper_digits`: its help is instant and tells no secrets."""

import os
import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "keras", "optuna", "pandas", "sklearn", "scipy", "plotly")


@pytest.mark.parametrize("verb", [[], ["compare"], ["confirm"], ["predict"], ["doctor"]])
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
        ([], "arguments are required: train|compare|confirm|predict|doctor"),
    ],
)
def test_bad_arguments_are_one_line(arguments: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "sweeper_digits", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ") and message in done.stderr
