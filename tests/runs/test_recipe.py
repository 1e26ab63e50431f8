"""Past runs are repeated by their printed commands, `from_run=` and experiment files."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from sweeper_digits import command_line
from sweeper_digits.overrides import override_text
from sweeper_digits.runs import recipe
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.record import read_run
from tests.conftest import ROOT
from tests.runs.composing import job

Tool = Callable[..., str]


def rows(tool: Tool, *arguments: str) -> list[dict[str, Any]]:
    return json.loads(tool("compare", *arguments, "--json"))


def test_the_printed_command_repeats_the_best_exactly(tool: Tool, train: Callable[..., RunFolder]) -> None:
    out = tool("compare", "multirun/first", "--no-report")
    command, again = re.findall(r"^  (python -m sweeper_digits train .*)$", out, re.MULTILINE)
    best = rows(tool, "multirun/first")[0]
    again_run = train(*shlex.split(command)[4:], "figures=false", folder="again", defaults=[])
    assert again_run.read_metrics()["val_loss"] == best["val_loss"]
    assert f"from_run={best['folder']} seed=1" in again


def test_from_run_takes_the_recipe_and_lets_the_user_override(tool: Tool, train: Callable[..., RunFolder]) -> None:
    (sgd,) = [row["folder"] for row in rows(tool, "multirun/first") if (row["optimizer"], row["seed"]) == ("sgd", 2)]
    run = train(f"from_run={sgd}", "epochs=1", "optimizer=adam", "figures=false", folder="again", defaults=[])
    then, now = (yaml.safe_load((Path(folder) / ".hydra/config.yaml").read_text()) for folder in (sgd, run.folder))
    assert now["optimizer"]["_target_"].endswith(".adam") and now["epochs"] == 1 and now["seed"] == 2
    assert now["model"] == then["model"] and now["data"] == then["data"] and now["split"] == then["split"]
    with pytest.raises(SystemExit, match="from_run=nothing: no run folder there"):
        train("from_run=nothing", folder="other", defaults=[])


def test_recipes_survive_hydras_command_line() -> None:
    texts = ["~/digits.zip", "Jos\u00e9's \\\\ files\\\\", "a,b", "null", "", "[x", "1e-3"]
    for value in (*texts, None, True, 0.1, ["a b"]):
        (parsed,) = OverridesParser.create().parse_overrides([f"key={override_text(value)}"])
        found = parsed.value()
        found = [str(item) for item in found] if isinstance(found, list) else found
        assert (found.text if hasattr(found, "text") else found) == value


def test_promote_writes_an_experiment_that_composes_the_same(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "conf", "conf")
    monkeypatch.setattr(command_line, "CONF", tmp_path / "conf")
    tool("compare", "multirun/first", "--no-report", "--promote", "mine")
    best = read_run(Path(str(rows(tool, "multirun/first")[0]["folder"])))
    composed = recipe.composer(tmp_path / "conf")(["experiment=mine", "data=npz", "data.path=x", "split.test_size=0.2"])
    for group in ("model", "optimizer", "schedule", "augmentation"):
        ours = {f"{group}.{key}": value for key, value in composed[group].items()}
        assert ours == {key: value for key, value in best.settings.items() if key.startswith(f"{group}.")}
    assert composed.epochs == best.settings["epochs"] and composed.seed == 0
    with pytest.raises(SystemExit, match=r"mine\.yaml exists; choose another name"):
        tool("compare", "multirun/first", "--no-report", "--promote", "mine")
    for name in ("../../evil", "a b,c"):
        with pytest.raises(SystemExit, match="it names an option"):
            tool("compare", "multirun/first", "--no-report", f"--promote={name}")


def test_a_run_below_a_path_of_signs_is_repeated_by_its_printed_command(tool: Tool) -> None:
    odd = Path("a=b, c#d{e $f")
    odd.mkdir()
    shutil.copytree("multirun/first/0", odd / "0")
    for path in (odd, odd.resolve()):
        out = tool("compare", str(path), "--no-report")
        (again,) = re.findall(r"^  python -m sweeper_digits train (.*from_run=.*) seed=1$", out, re.MULTILINE)
        assert job(*shlex.split(again))["model"]["filters"] == 4


def test_an_option_that_left_conf_is_named_by_another_of_its_function(tool: Tool) -> None:
    for config in Path("multirun/first").glob("*/.hydra/hydra.yaml"):
        config.write_text(config.read_text().replace("augmentation: medium", "augmentation: gone"))
    out = tool("compare", "multirun/first", "--no-report")
    (command, _) = re.findall(r"^  python -m sweeper_digits train (.*)$", out, re.MULTILINE)
    composed = recipe.composer(command_line.CONF)(shlex.split(command))
    best = read_run(Path(str(rows(tool, "multirun/first")[0]["folder"])))
    assert composed.augmentation == {
        key.partition(".")[2]: value for key, value in best.settings.items() if key.startswith("augmentation.")
    }


def test_a_function_that_is_gone_costs_the_command_only(tool: Tool) -> None:
    for config in Path("multirun/first").glob("*/.hydra/config.yaml"):
        config.write_text(config.read_text().replace("registered.warp", "registered.gone"))
    out = tool("compare", "multirun/first", "--no-report")
    assert "not with today's conf/: " in out and "gone" in out and "best       val_loss" in out
