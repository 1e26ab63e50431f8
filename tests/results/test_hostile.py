"""Folders that nobody would make, among whole ones: each is named with its reason, and the rest goes on."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from plotly.offline import get_plotlyjs

from sweeper_digits import __main__
from sweeper_digits.predict.ensemble import choose_members
from sweeper_digits.results.confirm import find_finalists
from sweeper_digits.results.report import write_report
from sweeper_digits.results.table import build_table
from sweeper_digits.runs import process
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.judge import describe_noise, group_repetitions, judge_winner
from sweeper_digits.runs.record import best_first, find_runs, read_metrics_alone, read_run

Damage = Callable[[Path], object]


def write(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def metrics(**changed: object) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / "metrics.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return damage


def config(old: str, new: str) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / ".hydra" / "config.yaml"
        text = re.sub(old, new, file.read_text(), count=1, flags=re.MULTILINE)
        assert text != file.read_text()
        file.write_text(text)

    return damage


def replaced(name: str, make: Callable[[Path], object]) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return damage


def cut(name: str, share: float = 0.5) -> Damage:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return damage


def foreign_npz(file: Path) -> None:
    np.savez(file, images=np.zeros((2, 28, 28)), labels=np.zeros(2))


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(12)
)

# What is done to a run, and what its note says.
UNREADABLE: dict[str, tuple[Damage, str]] = {
    "metrics a list": (write("metrics.json", b"[1, 2]"), "metrics.json"),
    "metrics cut": (cut("metrics.json"), "metrics.json"),
    "metrics empty": (write("metrics.json", b""), "metrics.json"),
    "metrics of zeros": (write("metrics.json", bytes(4096)), "metrics.json"),
    "metrics latin-1": (write("metrics.json", '{"state": "fin\xef"}'.encode("latin-1")), "metrics.json"),
    "metrics nested": (write("metrics.json", b"[" * 100_000), "RecursionError"),
    "metrics a folder": (replaced("metrics.json", Path.mkdir), "metrics.json: not a file"),
    "metrics a pipe": (replaced("metrics.json", os.mkfifo), "metrics.json: not a file"),
    "metrics a loop": (replaced("metrics.json", lambda file: file.symlink_to(file)), "metrics.json: not a file"),
    "metrics without a state": (write("metrics.json", b"{}"), "metrics.json: no state"),
    "metrics not a number": (metrics(val_loss=float("nan")), "val_loss=nan; a finished run has a finite number"),
    "metrics less than all": (metrics(val_loss=float("-inf")), "val_loss=-inf; a finished run"),
    "a number in words": (metrics(val_loss="0.1"), "val_loss='0.1'; expected a number"),
    "a truth for a number": (metrics(val_accuracy=True), "val_accuracy=True; expected a number"),
    "a number without end": (metrics(epochs=10**400), "epochs has 401 digits"),
    "a fold in words": (metrics(folds=[{"val_loss": "low"}]), "val_loss='low'"),
    "a fold that is none": (metrics(folds=[1]), "folds=[1]; expected a list of mappings"),
    "an unknown state": (metrics(state="<script>alert(1)</script>"), "expected one of finished, pruned"),
    "a state in a list": (metrics(state=["finished"]), "metrics.json"),
    "an unknown objective": (metrics(objectives=["beauty"]), "no registered objective: beauty"),
    "metrics with classes that are no names": (
        metrics(classes=[1, 2]),
        "classes=[1, 2]; expected a list of names",
    ),
    "metrics with a shape that is none": (metrics(image_shape="28x28"), "expected height, width"),
    "history of zeros": (write("history.csv", bytes(100)), "history.csv"),
    "history of another": (write("history.csv", b"when,who\nnow,me\n"), "history.csv"),
    "history latin-1": (write("history.csv", b"epoch,loss\n1,\xff\n"), "history.csv"),
    "history with a surplus cell": (write("history.csv", b"epoch,loss\n1,2,3\n"), "history.csv"),
    "history with a giant cell": (write("history.csv", b"epoch,loss\n1," + b"9" * 200_000), "history.csv"),
    "looks without a time": (write("tests.csv", b"models\n1\n"), "when"),
    "validation cut": (cut("validation.npz"), "validation.npz: no readable validation predictions"),
    "validation foreign": (replaced("validation.npz", foreign_npz), "not the predictions of a run"),
    "validation one array": (write("validation.npz", b"\x93NUMPY\x01\x00"), "validation.npz: no readable"),
    "validation in text": (write("validation.npz", b"labels"), "validation.npz: no readable"),
    "config cut": (write(".hydra/config.yaml", b"model: {filters: [1"), "config.yaml"),
    "config of zeros": (write(".hydra/config.yaml", bytes(100)), "config.yaml"),
    "config latin-1": (write(".hydra/config.yaml", b"model: \xff"), "config.yaml: not readable"),
    "config an object": (
        write(".hydra/config.yaml", b"!!python/object/apply:os.system [touch bad]"),
        "config.yaml: not",
    ),
    "config that multiplies": (write(".hydra/config.yaml", LAUGHS.encode()), "a YAML alias"),
    "config in itself": (write(".hydra/config.yaml", b"model: &m {a: *m}\noptimizer: 1\nsplit: 1"), "a YAML alias"),
    "a seed in a list": (config(r"^seed: .*", "seed: [1, 2]"), "unhashable"),
    "choices in a list": (write(".hydra/hydra.yaml", b"hydra: {runtime: {choices: [1]}}"), "no mapping"),
    "overrides a number": (write(".hydra/overrides.yaml", b"1"), "Error"),
}


# What stays finished, but is not ranked or not shown as it is written.
def stray_folders(folder: Path) -> None:
    for name in ("old", "\u0663", "1.bak"):
        (folder / f"fold_{name}").mkdir()


def validation(**changed: object) -> Damage:
    """Change a saved array, on which the labels alone throw no light."""

    def damage(folder: Path) -> None:
        with np.load(folder / "validation.npz") as archive:
            arrays = {name: archive[name] * change for name, change in changed.items()}
            arrays = dict(archive) | arrays
        np.savez(folder / "validation.npz", **arrays)

    return damage


ODD: dict[str, Damage] = {
    # Of the predictions, `compare` reads the labels alone for each run; what needs the rest goes on without it.
    "a prediction not a number": validation(log_probabilities=np.float16("nan")),
    "a mistake of no image": validation(worst=10_000),
    "no value": metrics(val_loss=None),
    "a list for a setting": config(r"^  filters: .*", "  filters: [1, 2]"),
    "a date for a setting": config(r"^  filters: .*", "  filters: 2026-01-01"),
    "an endless setting": config(r"^  filters: .*", "  filters: .inf"),
    "a colour in the terminal": config(r"^  filters: .*", '  filters: "\\\\e[31m"'),
    "a script for a setting": config(r"^  filters: .*", "  filters: '<!--<script>'"),
    "stray folders": stray_folders,
    "classes of another run": metrics(classes=["a", "b"]),
}


@pytest.fixture(scope="module")
def runs(swept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every damaged run beside two whole ones, and folders with names that surprise."""
    folder = tmp_path_factory.mktemp("hostile")
    source = swept / "multirun" / "first"
    for name in ("0", "1"):
        shutil.copytree(source / name, folder / name)
    for name, damage in {**{name: damage for name, (damage, _) in UNREADABLE.items()}, **ODD}.items():
        shutil.copytree(source / "0", folder / name)
        damage(folder / name)
    (folder / "in a circle").symlink_to(folder)
    (folder / "its own end").symlink_to(folder / "its own end")
    (folder / "hydra is a loop").mkdir()
    (folder / "hydra is a loop" / ".hydra").symlink_to(folder / "hydra is a loop" / ".hydra")
    for raw in (b"\xff\xfe", "\N{SUPERSCRIPT TWO}".encode(), b"a\nb\x1b[2J"):
        shutil.copytree(source / "0", folder / os.fsdecode(raw))
    return folder


def test_damage_is_named(runs: Path) -> None:
    wrong = []
    for name, (_, said) in UNREADABLE.items():
        record = read_run(runs / name)
        if record.state != "unreadable" or said not in record.note or "\n" in record.note:
            wrong.append((name, record.state, record.note))
        if name.startswith(("metrics", "a fold", "a number")):
            alone = read_metrics_alone(runs / name)
            wrong += [(name, alone.state, alone.note)] if alone.state != "unreadable" else []
    assert wrong == []


def test_every_verb_goes_on(runs: Path, tmp_path: Path) -> None:
    found = find_runs([runs])
    by_name = {record.run.folder.name: record for record in found}
    assert {name for name, record in by_name.items() if record.state == "unreadable"} == set(UNREADABLE)
    ranked = [record.run.folder.name for record in best_first(found, "val_loss")]
    assert {"0", "1"} <= set(ranked) and "no value" not in ranked
    table = build_table(found)
    assert len(table) == len(found) and table["note"].notna().all()
    winner = judge_winner(group_repetitions(found, "val_loss"), "val_loss")
    write_report(tmp_path / "report.html", found, winner, [], {})
    text = (tmp_path / "report.html").read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert "<!--<script>" not in text and "<script>alert" not in text and "\x1b" not in text
    assert describe_noise(found, "val_loss")
    assert find_finalists(runs, 3) and choose_members([runs], 3)[0]
    assert not Path("bad").exists()


def test_compare_prints_what_a_terminal_can_show(
    runs: Path,
    tool: Callable[..., str],
) -> None:
    out = tool("compare", str(runs), "--no-report")
    assert out.count("unreadable") == len(UNREADABLE) and "\x1b" not in out
    out.encode()
    assert json.loads(tool("compare", str(runs), "--json"))
    assert tool("compare", str(runs), "--sort", "model.filters", "--csv")


def test_a_run_with_a_damaged_model_is_one_line(tool: Callable[..., str]) -> None:
    for folder in Path("multirun/first").glob("[0-9]"):
        ODD["a prediction not a number"](folder)
    with pytest.raises(SystemExit, match=r"error: .*validation\.npz: no readable validation predictions"):
        tool("predict", "multirun/first", "--top", "2", "--weights", "greedy", "--part", "validation")
    best = RunFolder("multirun/first/0")
    best.model.write_bytes(b"PK")
    with pytest.raises(SystemExit, match=r"error: .*model\.keras: no readable model"):
        tool("predict", "multirun/first/0")


def test_doctor_survives_every_damage(tool: Callable[..., str]) -> None:
    multirun = Path("multirun")
    study = optuna.load_study(study_name="first", storage="sqlite:///multirun/first/study.db")
    gone = process.identity().replace(f":{os.getpid()}:", ":999999:")
    damages = {name: damage for name, (damage, _) in UNREADABLE.items()} | ODD
    for damage in damages.values():
        trial = study.ask()
        trial.set_user_attr("worker", gone)
        shutil.copytree(multirun / "first" / "0", multirun / "first" / str(trial.number))
        damage(multirun / "first" / str(trial.number))
    (multirun / "first" / "0" / "metrics.json").write_text("[1]")  # of a trial that is complete
    (multirun / "first" / "777").write_text("")
    (multirun / "first" / f".metrics-{process.machine()}-99999999999999.json").write_text("")
    (multirun / "first" / "loop").symlink_to(multirun / "first" / "loop")
    out = tool("doctor")
    assert out.count("its worker is gone") == len(damages) and out.isascii()
    assert "#0: not readable (" in out and "the study keeps its value" in out and "777" not in out
    assert "nothing to repair" in out


def test_doctor_survives_names_of_studies(tool: Callable[..., str]) -> None:
    names = ["../..", "/", "a\0b", "a/b", "\x1b[2J", "é" * 300]
    for name in names:
        study = optuna.create_study(study_name=name, storage="sqlite:///multirun/all.db")
        study.ask().set_user_attr("worker", [{}])
    out = tool("doctor", "--storage", "sqlite:///multirun/all.db")
    assert "\x1b" not in out
    assert out.count(": not a study of this program (study=") == len(names)


def test_doctor_survives_values_of_another_program(tool: Callable[..., str]) -> None:
    Path("multirun/other").mkdir()
    study = optuna.create_study(study_name="other", storage="sqlite:///multirun/other/study.db")
    values: list[object] = [3, "::::", "a:" + "9" * 100 + f":{process.machine()}:1", [{}]]
    for value in values:
        study.ask().set_user_attr("worker", value)
    out = tool("doctor")
    assert "other: 4 running" in out and "first: 4 complete" in out


def test_doctor_names_folders_that_no_database_knows(
    tool: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    multirun = Path("multirun")
    shutil.copytree(multirun / "first", multirun / "copied")
    shutil.copytree(multirun / "first" / "0", multirun / "older" / "0")
    (multirun / "2026-01-01" / "12-00-00").mkdir(parents=True)
    shutil.copytree(multirun / "older", multirun / "damaged")
    (multirun / "damaged" / ".study.json").write_text("{")
    assert (lines := tool("doctor").splitlines())[1].startswith("first: 4 complete")
    assert len(lines) == 7 and lines[2].startswith("multirun/copied: a copy of ") and "move it away" in lines[2]
    assert lines[3].startswith("multirun/damaged/.study.json: not readable")
    assert lines[4].startswith("multirun/older: no study has these trials; ") and "study=" in lines[4]
    assert tool("doctor", "first").count("\n") == 3
    assert tool("doctor", "older").startswith("multirun/older: no study has these trials")
    shutil.rmtree(multirun / "copied")
    optuna.delete_study(study_name="first", storage="sqlite:///multirun/first/study.db")
    assert "multirun/first: no study has these trials" in tool("doctor")
    (multirun / "first" / "study.db").write_bytes(b"no database")
    assert "--storage: the database cannot be read: " in tool("doctor")
    (multirun / "first" / "study.db").unlink()
    assert tool("doctor", "first").startswith("multirun/first: no study has these trials")
    monkeypatch.setattr(sys, "argv", ["sweeper_digits", "doctor", "--storage", "sqlite:///multirun/all.db"])
    with pytest.raises(SystemExit, match="no such file; start a sweep"):
        __main__.main()
    assert "multirun/first: no study has these trials; " in capsys.readouterr().out
