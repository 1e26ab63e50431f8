"""A wheel holds the whole program, which then runs from any folder, started in each of its ways."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import sweeper_digits
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# What a console script holds, by the packaging guide.
CONSOLE_SCRIPT = "import sys\nfrom sweeper_digits.__main__ import main\nsys.exit(main())\n"
OWN_SCRIPT = "from sweeper_digits.command_line import main\nif __name__ == '__main__':\n    main()\n"
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("sweeper_digits", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    done = subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, and the console script, as pip lays them out."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder / "site-packages")
    (folder / "bin").mkdir()
    (folder / "bin" / "sweeper-digits").write_text(CONSOLE_SCRIPT)
    return folder


def run(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the installed files as the only copy of the package."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed / "site-packages")},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.slow
def test_a_wheel_holds_code_conf_and_data(wheel: Path) -> None:
    wanted = [path.relative_to(ROOT) for path in (ROOT / "sweeper_digits").rglob("*.py")]
    wanted += [Path("sweeper_digits", path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml")]
    wanted += [path.relative_to(ROOT) for path in (ROOT / "sweeper_digits/results/templates").iterdir()]
    wanted.append(Path("sweeper_digits/data/digit_means.npy"))
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {path.as_posix() for path in wanted}


@pytest.mark.slow
def test_there_is_one_version(wheel: Path) -> None:
    assert wheel.name.split("-")[1] == sweeper_digits.__version__


@pytest.mark.slow
def test_the_console_script_is_declared(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
        assert "sweeper-digits = sweeper_digits.__main__:main" in archive.read(name).decode()


@pytest.mark.slow
def test_help_and_values_come_from_the_wheel_in_any_folder(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "-m", "sweeper_digits", "train", "--help")
    assert done.returncode == 0 and "\n  python -m sweeper_digits train [group=option]" in done.stdout, done.stderr
    done = run(installed, tmp_path, str(installed / "bin" / "sweeper-digits"), "train", "--help")
    assert "\n  sweeper-digits train [group=option]" in done.stdout and "\nsweeper-digits --help" in done.stdout
    done = run(installed, tmp_path, "-m", "sweeper_digits", "train", "--cfg", "job", "model=small")
    assert yaml.safe_load(done.stdout)["model"]["filters"] and done.stderr == ""
    code = "from sweeper_digits import command_line; print(command_line.CONF)"
    assert run(installed, tmp_path, "-c", code).stdout.strip() == str(
        installed / "site-packages" / "sweeper_digits" / "conf"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_installed_command_searches_compares_and_confirms(installed: Path, tmp_path: Path, tiny: list[str]) -> None:
    program = str(installed / "bin" / "sweeper-digits")
    done = run(installed, tmp_path, program, "train", "-m", *tiny, "study=two", "seed=1,2")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "command    sweeper-digits train " in done.stdout
    assert (tmp_path / "multirun" / "two" / "conf" / "config.yaml").exists()
    done = run(installed, tmp_path, program, "compare", "multirun/two", "--no-report")
    (again, _) = re.findall(r"^  (sweeper-digits train .*)$", done.stdout, re.MULTILINE)
    assert "model=small" in again
    done = run(installed, tmp_path, program, "confirm", "multirun/two", "--top", "1", "--seeds", "1")
    assert done.returncode == 0 and "rank  val_loss" in done.stdout, done.stderr
    done = run(installed, tmp_path, program, "compare", "multirun/two", "--no-report", "--promote", "mine")
    assert "written    conf/experiment/mine.yaml: sweeper-digits train --config-dir conf experiment=mine" in done.stdout
    done = run(installed, tmp_path, program, "train", "--config-dir", "conf", "experiment=mine", "--cfg", "job")
    assert yaml.safe_load(done.stdout)["model"]["filters"] == 4
    assert {path.name for path in tmp_path.iterdir()} == {"multirun", "conf"}


@pytest.mark.slow
def test_a_script_of_ones_own_searches_too(installed: Path, tmp_path: Path, tiny: list[str]) -> None:
    (tmp_path / "mine.py").write_text(OWN_SCRIPT)
    done = run(installed, tmp_path, "mine.py", "-m", *tiny, "epochs=1", "seed=1,2", "hydra.sweeper.n_jobs=2")
    assert done.returncode == 0 and "command    python mine.py data=npz" in done.stdout, done.stderr


def test_extras_that_documents_and_messages_name_exist() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    texts = [path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "sweeper_digits").rglob("*.py")]
    named = {name for text in texts for name in re.findall(r"(?:'\.|sweeper_digits)\[([\w-]+)\]", text)}
    assert {"jax-gpu", "export", "dev"} <= named <= set(extras)


def test_a_package_has_one_range_of_versions_whichever_extra_asks_for_it() -> None:
    ranges: dict[str, set[str]] = {}
    lists = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    for requirement in (Requirement(text) for texts in lists for text in texts):
        ranges.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert {name: found for name, found in ranges.items() if len(found) > 1} == {}
