"""What is read from a command line and from another run's folder, and what is refused."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from sweeper_digits import command_line, config
from sweeper_digits.runs import recipe
from tests.tables import unlike


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Start with arguments in an empty folder; return the arguments that Hydra would get."""

    def call(*arguments: str) -> list[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        monkeypatch.setattr("hydra.main", lambda **_: lambda task: lambda: None)
        command_line.main()
        return sys.argv[1:]

    return call


def save(folder: Path, text: str) -> None:
    """Write a config of a run, as Hydra saves it, that has nothing but this text."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(text, encoding="utf-8")


def saved(*overrides: str) -> str:
    """The config that Hydra saves for overrides."""
    composed = recipe.composer(command_line.CONF)([*overrides, "resume=null"])
    return OmegaConf.to_yaml(recipe.without_hydra(composed))


def test_a_run_is_resumed_with_its_own_config_first(started: Callable[..., list[str]], tmp_path: Path) -> None:
    save(tmp_path / "old", saved("data=npz", "data.path='a b,c=d.npz'", "experiment=best", "++model.filters=4"))
    moved = ["resume=old", "device=cpu", "data.path=elsewhere.npz", "hydra.run.dir=new"]
    arguments = started(*moved)
    assert arguments[-4:] == moved and arguments[0] == "~data"
    assert arguments[1].startswith("++data={_target_:sweeper_digits.data.sources.npz,invert:false,")
    assert ",path:'a b,c=d.npz',part:train" in arguments[1]
    composed = recipe.composer(command_line.CONF)(arguments)
    assert composed.data.path == "elsewhere.npz" and composed.model.filters == 4 and composed.epochs == 40


def test_a_path_is_taken_as_it_was_typed(started: Callable[..., list[str]], tmp_path: Path) -> None:
    for name in ("a b.npz", "a (1).npz", "a,b.npz", "a=b.npz", "ä.npz", "it's.npz", "[x].npz", "1e3"):
        assert started(f"data.path={name}") == [f"data.path={name}"]  # no such file: may be a list for a sweep
        (tmp_path / name).touch()
        (quoted,) = started(f"data.path={name}")
        override = OverridesParser.create().parse_override(quoted)
        assert override.value() == name and not override.is_sweep_override()


def test_a_folder_cannot_set_more_than_a_run(started: Callable[..., list[str]], tmp_path: Path) -> None:
    keys = ["hydra", "evil", "defaults", "hydra/launcher", "-m", "model@data", "", 7]
    cases = []
    for number, key in enumerate(keys):
        save(tmp_path / f"old{number}", yaml.safe_dump({"epochs": 3, key: "x"}))
        holds = f"old{number}/.hydra/config.yaml holds .*{re.escape(repr(key))}.*remove it there"
        said = f"^error: resume=old{number}: {holds}"
        cases.append((f"resume=old{number}", said))
    assert unlike(cases, started) == []


def test_a_damaged_config_is_one_line(started: Callable[..., list[str]], tmp_path: Path) -> None:
    texts = ("[unclosed", "\x00", "!!python/object/apply:os.getcwd []", "a: &a [1]\nb: *a")
    for number, text in enumerate(texts):
        save(tmp_path / f"old{number}", text)
    cases = [(f"resume=old{number}", f"^error: old{number}/.hydra/config.yaml: ") for number in range(len(texts))]
    assert unlike(cases, started) == []


def test_flags_that_exclude_each_other_are_one_line_and_a_sweep_resumes_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "old", "epochs: 3")
    monkeypatch.chdir(tmp_path)

    def start(arguments: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        try:
            command_line.main()
        finally:
            GlobalHydra.instance().clear()

    excluded = "^error: --multirun, --run, --cfg and --info exclude each other; "
    cases = [
        ([*flags, "seed=1,2"], excluded)
        for flags in (["-m", "--cfg", "job"], ["--multirun", "--info", "config"], ["-r", "-m"])
    ]
    resumed = "^error: resume=old: it continues one run, .*with from_run=old$"
    cases += [
        ([sweep, "resume=old", *more], resumed)
        for sweep in ("-m", "--multirun", "--multi", "hydra.mode=MULTIRUN")
        for more in ([], ["hydra/sweeper=basic"])
    ]
    assert unlike(cases, start) == []
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_study_is_called_what_was_typed_and_other_arguments_stay(started: Callable[..., list[str]]) -> None:
    for name in ("1e3", "1_000", "true", "null", "nan", "-5", "+1", "0.10"):
        assert started(f"study={name}") == [f"study='{name}'"]
    for argument in ("study=big", "study=007", "study='1e3'", "study=one,two", "study=${now:%H}", "seed=1e3"):
        assert started(argument) == [argument]


def test_names_that_can_be_no_folders_of_studies() -> None:
    config.check_study("a" * 100)
    cases = [
        ("a" * 101, r"study=aaaaaaaaaaaaaaaaaaaa...: a name of 101 bytes; use 100 at most"),
        ("文" * 34, r"a name of 102 bytes"),
        *((name, "it names a folder") for name in ("..", "a/b", "a b", "")),
    ]
    assert unlike(cases, config.check_study) == []
