"""The TAB key in bash, where both commands are typed: what a shell would list."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="no bash on this machine")
# The commands of the README; each defines a function, which bash calls for what stands before the cursor.
INSTALL = re.findall(r'^eval "\$\(.*\)"', (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
TRAIN, TOOL = zip(INSTALL, ("hydra_bash_completion", "_shtab_sweeper_digits"), strict=True)


def completed(how: tuple[str, str], folder: Path, *lines: str) -> list[list[str]]:
    """What TAB lists after each of some command lines, in a folder with this program's train.py."""
    if not (folder / "train.py").exists():
        (folder / "train.py").symlink_to(ROOT / "train.py")
    install, function = how
    # As the installed command does, of whichever environment holds the package.
    script = f'shtab() {{ {shlex.quote(sys.executable)} -m shtab "$@"; }}\n{install}'
    for line in lines:
        words = [*shlex.split(line), *([""] if line.endswith(" ") else [])]
        script += f"""
COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1} COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}
{function}
printf '%s\\n' "${{COMPREPLY[@]}}" =====
"""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    arguments = [str(BASH), "--noprofile", "--norc", "-c", script]
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [listed.split() for listed in done.stdout.split("=====")[:-1]]


def test_verbs_flags_choices_and_files_are_completed(tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    (tmp_path / "multirun").mkdir()
    cases = [
        ("sweeper-digits com", ["compare"]),
        ("sweeper-digits predict x --weights ", ["equal", "loss", "greedy"]),
        ("sweeper-digits confirm multi", ["multirun"]),
        ("sweeper-digits compare x --repor", ["--report"]),
        ("sweeper-digits compare x --report multi", ["multirun"]),
    ]
    lines = [line for line, _ in cases]
    assert completed(TOOL, tmp_path, *lines) == [listed for _, listed in cases]


def test_groups_options_and_keys_of_train_are_completed(tmp_path: Path) -> None:
    lines = ("-m search=q", "model=", "model=small model.fil")
    search, models, keys = completed(TRAIN, tmp_path, *(f"python train.py {line}" for line in lines))
    assert search == ["search=quick"] and keys == ["model.filters="] and {"model=small", "model=batchnorm"} < {*models}
