"""What is read from a command line and from another run's folder, and what is refused."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from sweeper_digits import command_line, schema
from sweeper_digits.errors import UserError


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
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(text, encoding="utf-8")


def test_a_run_is_resumed_with_its_own_overrides_first(started: Callable[..., list[str]], tmp_path: Path) -> None:
    own = ["data=npz", "data.path='a b,c=d.npz'", "experiment=best", "++model.filters=4", "data.path=${oc.env:HOME}/x"]
    save(tmp_path / "old", yaml.safe_dump([*own, "resume=older"]))
    moved = ["resume=old", "device=cpu", "data.path=elsewhere.npz", "hydra.run.dir=new"]
    assert started(*moved) == [*own, *moved]


def test_a_resumed_run_keeps_its_settings(started: Callable[..., list[str]], tmp_path: Path) -> None:
    save(tmp_path / "old", "[epochs=3]")
    assert started("resume=old", "epochs=3") == ["epochs=3", "resume=old", "epochs=3"]
    for other in ("epochs=9", "model=small", "+optimizer.momentum=0.5"):
        with pytest.raises(SystemExit, match=r"this run was begun without .*begin another run with from_run=old"):
            started("resume=old", other)


@pytest.mark.parametrize("name", ["a b.npz", "a (1).npz", "a,b.npz", "a=b.npz", "ä.npz", "it's.npz", "[x].npz", "1e3"])
def test_a_path_is_taken_as_it_was_typed(started: Callable[..., list[str]], tmp_path: Path, name: str) -> None:
    assert started(f"data.path={name}") == [f"data.path={name}"]  # no such file: may be a list for a sweep
    (tmp_path / name).touch()
    (quoted,) = started(f"data.path={name}")
    override = OverridesParser.create().parse_override(quoted)
    assert override.value() == name and not override.is_sweep_override()


@pytest.mark.parametrize(
    "entry",
    [
        "hydra.job.env_set={GIT_CONFIG_COUNT: 1}",
        "+hydra.job.env_set.PATH=/tmp",
        "++hydra.run.dir=/etc",
        "hydra/launcher=other",
        "~optimizer",
        "--config-dir=/tmp",
        "-m",
        "--multirun",
        "optimizer@data=sgd",
        "optimizer._target_=os.system",
        "+evil=1",
        "=",
        "",
        7,
        None,
        {"epochs": 3},
    ],
)
def test_a_folder_cannot_set_more_than_a_run(started: Callable[..., list[str]], tmp_path: Path, entry: object) -> None:
    save(tmp_path / "old", yaml.safe_dump(["epochs=3", entry]))
    with pytest.raises(SystemExit) as caught:
        started("resume=old")
    text = str(caught.value)
    assert text.startswith("error: resume=old: ") and repr(entry) in text and "remove it there" in text


@pytest.mark.parametrize("sweep", ["-m", "--multirun", "--multi", "hydra.mode=MULTIRUN"])
@pytest.mark.parametrize("more", [[], ["hydra/sweeper=basic"]])
def test_a_sweep_resumes_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep: str, more: list[str]) -> None:
    save(tmp_path / "old", "[epochs=3]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", sweep, "resume=old", *more])
    try:
        with pytest.raises(SystemExit, match=r"^error: resume=old: it continues one run, .*with from_run=old$"):
            command_line.main()
    finally:
        GlobalHydra.instance().clear()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("options", [["-m", "--cfg", "job"], ["--multirun", "--info", "config"], ["-r", "-m"]])
def test_options_of_hydra_that_exclude_each_other_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *options, "seed=1,2"])
    try:
        with pytest.raises(SystemExit, match=r"^error: --multirun, --run, --cfg and --info exclude each other; .*"):
            command_line.main()
    finally:
        GlobalHydra.instance().clear()


@pytest.mark.parametrize("text", ["a: 1", "7", "[unclosed", "\x00", "!!python/object/apply:os.getcwd []"])
def test_a_damaged_list_of_overrides_is_one_line(started: Callable[..., list[str]], tmp_path: Path, text: str) -> None:
    save(tmp_path / "old", text)
    with pytest.raises(SystemExit, match=r"^error: resume=old: old/.hydra/overrides.yaml is not readable \([^\n]+$"):
        started("resume=old")


@pytest.mark.parametrize("name", ["1e3", "1_000", "true", "null", "nan", "-5", "+1", "0.10"])
def test_a_study_is_called_what_was_typed(started: Callable[..., list[str]], name: str) -> None:
    assert started(f"study={name}") == [f"study='{name}'"]


@pytest.mark.parametrize(
    "argument", ["study=big", "study=007", "study='1e3'", "study=one,two", "study=${now:%H}", "seed=1e3"]
)
def test_other_arguments_stay_as_typed(started: Callable[..., list[str]], argument: str) -> None:
    assert started(argument) == [argument]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 101, r"study=aaaaaaaaaaaaaaaaaaaa...: a name of 101 bytes; use 100 at most"),
        ("文" * 34, r"a name of 102 bytes"),
        ("optuna.db", r"study=optuna.db: the database of the studies has this name"),
        ("optuna.db-journal", r"the database of the studies has this name"),
        ("..", r"it names a folder"),
        ("a/b", r"it names a folder"),
        ("a b", r"it names a folder"),
        ("", r"it names a folder"),
    ],
)
def test_names_that_can_be_no_folders_of_studies(name: str, message: str) -> None:
    schema.check_study("a" * 100)
    with pytest.raises(UserError, match=message):
        schema.check_study(name)
