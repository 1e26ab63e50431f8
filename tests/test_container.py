"""docs/Containerfile and the commands beside it: no engine builds it here, so what it names is checked."""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.test_installed import BUILD, PROJECT

SCALE = (ROOT / "docs" / "scale.md").read_text()
TEXT = (ROOT / "docs" / "Containerfile").read_text()
# (instruction, its arguments), in their order.
LINES = [
    (name, rest)
    for name, _, rest in (line.partition(" ") for line in TEXT.replace("\\\n", " ").splitlines() if line)
    if name != "#"
]


def lines(instruction: str) -> list[str]:
    return [rest for name, rest in LINES if name == instruction]


def copied() -> dict[str, str]:
    """Each path of the checkout that is copied, with its place below the work directory."""
    places = {}
    for *sources, place in map(shlex.split, lines("COPY")):
        for source in sources:
            places[source] = os.path.normpath(Path(place, source if place.endswith("/") else ""))
    return places


def test_its_run_lines_name_files_and_extras_that_exist() -> None:
    [install] = [line for line in lines("RUN") if "pip install" in line]
    command = shlex.split(install)[shlex.split(install).index("install") :]
    (constraints,) = [after for option, after in itertools.pairwise(command) if option == "-c"]
    assert command[-1] == ".[$EXTRAS]" and constraints in copied().values() and (ROOT / constraints).exists()
    (extras,) = [line.removeprefix("EXTRAS=") for line in lines("ARG")]
    named = [extras, *re.findall(r"EXTRAS=([\w,-]+)", TEXT + SCALE)]
    assert "gpu" in extras.split(",")
    assert {extra for each in named for extra in each.split(",")} <= set(PROJECT["project"]["optional-dependencies"])
    version = tuple(map(int, re.fullmatch(r"python:(\d+)\.(\d+)-slim", lines("FROM")[0]).groups()))
    assert (3, 11) <= version <= (3, 13)


@pytest.mark.slow
def test_the_package_is_built_from_what_is_copied(tmp_path: Path) -> None:
    for source, place in copied().items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / place)
    (tmp_path / "wheels").mkdir()
    done = subprocess.run([sys.executable, "-c", BUILD, "wheels"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "wheels").glob("sweeper_digits-*.whl"))


@pytest.mark.slow
def test_it_starts_the_program_without_root_where_runs_are_kept() -> None:
    (program,) = json.loads(*lines("ENTRYPOINT"))
    assert program in PROJECT["project"]["scripts"]
    instructions = [name for name, _ in LINES]
    (user,) = lines("USER")
    assert user.isdigit() and any(f"useradd --uid {user} --create-home digits" in line for line in lines("RUN"))
    assert instructions.index("USER") > max(place for place, name in enumerate(instructions) if name == "RUN")
    (job,) = [yaml.safe_load(block) for block in re.findall(r"```\n(.*?)```", SCALE, re.DOTALL) if "kind: Job" in block]
    pod = job["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": int(user), "fsGroup": int(user)}
    (container,) = pod["containers"]
    folder = lines("WORKDIR")[-1]
    assert container["volumeMounts"][0]["mountPath"] == f"{folder}/multirun"
    commands = re.findall(r"^docker .*$", SCALE.replace("\\\n", " "), re.MULTILINE)
    build, *starts = map(shlex.split, commands)
    assert (ROOT / build[build.index("-f") + 1]).exists()
    assert starts and all(f"$PWD:{folder}" in start for start in starts)
    image = build[build.index("-t") + 1]
    words = [start[start.index(image) + 1 :] for start in starts] + [container["args"], json.loads(*lines("CMD"))]
    for arguments in words:
        overrides = [argument for argument in arguments if argument not in ("-m", "--help")]
        command = [sys.executable, "-m", "sweeper_digits", *overrides, "--cfg", "job"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
