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
