"""Commands are printed as the user types them: train.py, an own script, `python -m`, the installed command."""

import sys
from pathlib import Path

import pytest

from sweeper_digits import program
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("started", "trains", "compares"),
    [
        ("train.py", "python train.py", "python -m sweeper_digits compare"),
        ("../a b/train.py", "python '../a b/train.py'", "python -m sweeper_digits compare"),
        ("mine.py", "python mine.py", "python -m sweeper_digits compare"),
        ("/venv/bin/sweeper-digits", "sweeper-digits train", "sweeper-digits compare"),
        ("/x/sweeper_digits/__main__.py", "python -m sweeper_digits train", "python -m sweeper_digits compare"),
    ],
)
def test_commands_begin_as_the_user_began(
    started: str, trains: str, compares: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [started])
    assert program.command("train", "data.path='a'", "seed=1") == f"""{trains} 'data.path='"'"'a'"'"'' seed=1"""
    assert program.command("compare", "a b") == f"{compares} 'a b'"
    Path("train.py").touch()  # another program's
    assert program.command("train") == trains
    monkeypatch.chdir(ROOT)
    if not started.endswith(("mine.py", "b/train.py")):
        assert program.command("train") == "python train.py"


def test_the_same_command_is_what_was_typed() -> None:
    cases: list[tuple[list[str], str]] = [
        (["train.py", "-m", "seed=1,2"], "python train.py -m seed=1,2"),
        (["-m", "sweeper_digits", "train", "seed=1"], "python -m sweeper_digits train seed=1"),
        (["/venv/bin/sweeper-digits", "train", "a='b c'"], """sweeper-digits train 'a='"'"'b c'"'"''"""),
        ([], "python"),
    ]
    assert [program.same_command(given) for given, _ in cases] == [typed for _, typed in cases]
