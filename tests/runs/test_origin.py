"""A run composed from folders of its user's own is compared, repeated, confirmed and predicted without them."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from sweeper_digits import command_line
from sweeper_digits.runs import recipe
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.sweep import frozen
from tests import warm
from tests.conftest import ROOT
from tests.runs.composing import everything, job
from tests.tables import unlike

Command = Callable[..., subprocess.CompletedProcess[str]]
Tool = Callable[..., str]
Train = Callable[..., RunFolder]

OWN = {
    "my/model/wide.yaml": "defaults: [small]\nfilters: 5\ndense_units: 16\n",
    "my/data/digits.yaml": "defaults: [npz]\npath: PATH\n",
    "my/mine.yaml": "defaults: [config, override model: wide, override data: digits, _self_]\n"
    "epochs: 1\nfigures: false\nprecision: float32\nbatch_size: 32\n",
    "other/optimizer/fast.yaml": "defaults: [adam]\nlearning_rate: 0.01\n",
}
FLAGS = ["--config-dir", "my", "--config-name", "mine", "hydra.searchpath=[file://other]"]
SWEEP = [*FLAGS, "-m", "study=own", "optimizer=fast,sgd"]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, npz: Path) -> Path:
    """A folder with two folders of configs and a sweep of them; not to be changed."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in OWN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace("PATH", str(npz)))
    printed, status = warm.python([str(ROOT / "train.py"), *SWEEP], folder, os.environ)
    assert status == 0, printed
    (folder / "screen.txt").write_bytes(printed)
    return folder


@pytest.fixture
def here(own: Path, tool: Tool, tmp_path: Path) -> Path:
    """A copy of it as the current folder, with the copy's paths in its files."""
    shutil.rmtree(tmp_path / "multirun")
    shutil.copytree(own, tmp_path, dirs_exist_ok=True)
    for file in [*tmp_path.rglob("*.yaml"), *tmp_path.rglob(".hydra/*.yaml")]:
        file.write_text(file.read_text().replace(str(own), str(tmp_path)))
    return tmp_path


def saved(run: str) -> dict[str, Any]:
    config = yaml.safe_load(Path(run, ".hydra", "config.yaml").read_text())
    return {key: config[key] for key in ("model", "optimizer", "data", "epochs", "batch_size")}


def test_a_sweep_freezes_the_folders_and_its_trials_compose_from_the_copies(here: Path) -> None:
    copied = {str(file.relative_to("multirun/own/conf")) for file in Path("multirun/own/conf").rglob("*.yaml")}
    assert {"mine.yaml", "config.yaml", "model/wide.yaml", "model/small.yaml", "optimizer/fast.yaml"} <= copied
    for number in ("0", "1"):
        hydra = yaml.safe_load(Path("multirun/own", number, ".hydra", "hydra.yaml").read_text())["hydra"]
        files = {source["path"] for source in hydra["runtime"]["config_sources"] if source["schema"] == "file"}
        assert files == {str(here / "multirun" / "own" / "conf")}
    command = re.search(r"^command    python \S+ (.*)$", Path("screen.txt").read_text(), re.MULTILINE)
    assert command and shlex.split(command[1])[:5] == [FLAGS[2], FLAGS[3], FLAGS[0], FLAGS[1], FLAGS[4]]


def test_a_sweep_goes_on_with_its_copy_and_says_what_changed(
    here: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("my/model/wide.yaml").write_text(OWN["my/model/wide.yaml"].replace("5", "6"))
    train(*SWEEP, defaults=[])
    assert "warning: model/wide.yaml changed since the sweep began" in capsys.readouterr().out
    Path("multirun/own/conf/model/wide.yaml").unlink()
    with pytest.raises(SystemExit, match=r"^error: .*copy my/model/wide\.yaml there$"):
        train(*SWEEP, defaults=[])


@pytest.fixture
def alone(here: Path) -> Path:
    """The sweep without the folders that it was composed from."""
    shutil.rmtree(here / "my")
    shutil.rmtree(here / "other")
    return here


def test_compare_prints_commands_that_compose_the_same(alone: Path, tool: Tool) -> None:
    out = tool("compare", "multirun/own", "--no-report")
    first, second = re.findall(r"^  python -m sweeper_digits train (.*)$", out, re.MULTILINE)
    best = shlex.split(second)[0].removeprefix("from_run=")
    for line in (first, second):
        assert "--config" not in line
        composed = job(*shlex.split(line))
        assert {key: composed[key] for key in saved(best)} == saved(best)


def test_a_run_is_repeated_and_the_users_values_win(here: Path, tmp_path: Path) -> None:
    os.chdir(tmp_path.parent)
    composed = job(f"from_run={tmp_path / 'multirun/own/0'}", "model.filters=7", "optimizer=sgd")
    assert composed["model"]["filters"] == 7 and composed["model"]["dense_units"] == 16
    assert composed["optimizer"]["_target_"].endswith(".sgd") and composed["epochs"] == 1
    os.chdir(tmp_path)
    # The user names the folder.
    assert everything(*FLAGS, "from_run=multirun/own/0").hydra.runtime.choices.model == "wide"


def test_a_run_is_resumed_from_its_saved_config(alone: Path) -> None:
    composed = job("resume=multirun/own/0")
    assert {key: composed[key] for key in saved("multirun/own/0")} == saved("multirun/own/0")


def test_confirm_predict_and_promote_need_no_folder(alone: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "conf", "conf")
    monkeypatch.setattr(command_line, "CONF", alone / "conf")
    out = tool("confirm", "multirun/own", "--top", "1", "--seeds", "1")
    assert "rank  val_loss" in out and saved("multirun/own_confirm/0")["model"]["filters"] == 5
    assert "data       " in tool("predict", "multirun/own", "--data", "digits", "part=all")
    tool("compare", "multirun/own", "--no-report", "--promote", "best_of_mine")
    composed = recipe.composer(alone / "conf")(["experiment=best_of_mine"])
    assert composed.model.filters == 5 and composed.model.dense_units == 16


def test_what_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cases = [
        (["--config-dir", "gone"], "^--config-dir: no folder gone$"),
        (["hydra.searchpath=[file://gone]"], r"^hydra\.searchpath: no folder gone$"),
        (["--config-name", "confg"], r"^--config-name: no config confg \(did you mean 'config'\?\); it can be config"),
        (["-m", "--config-dir=gone", "seed=1,2"], "^--config-dir: no folder gone$"),
    ]
    assert unlike(cases, command_line.as_hydra_takes) == []


def test_what_a_run_folder_names_is_not_composed_from(here: Path, command: Command) -> None:
    for name in ("my/mine.yaml", "other/optimizer/fast.yaml"):
        Path(name).write_text("hydra: {run: {dir: /etc/run}, callbacks: {evil: {_target_: os.system}}}\nepochs: 99\n")
    for argument in ("from_run=multirun/own/0", "resume=multirun/own/0"):
        composed = everything(argument)
        assert composed.epochs == 1 and not re.search("evil|/etc/", OmegaConf.to_yaml(composed))
    done = command("from_run=multirun/own/0", "--cfg", "all")
    assert done.returncode == 0 and not re.search("evil|/etc/", done.stdout), done.stderr
    assert yaml.safe_load(done.stdout)["epochs"] == 1


def test_of_the_current_folder_only_configs_are_copied(tmp_path: Path) -> None:
    names = ["model/wide.yaml", "mine.yaml", "multirun/s/conf/a.yaml", "outputs/1/x.yaml", "venv/b.yaml", ".git/c.yaml"]
    for name in [*names, "outputs/1/.hydra/config.yaml", "venv/pyvenv.cfg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "model" / "loop").symlink_to(tmp_path)
    found = {str(file.relative_to(tmp_path)) for file in frozen._yaml_files(tmp_path, tmp_path / "multirun" / "s")}
    assert found == {"model/wide.yaml", "mine.yaml"}
