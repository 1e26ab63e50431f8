"""A folder belongs to one run, whoever starts the second one."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from sweeper_digits.config import parse
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.own_folder import claimed
from tests.conftest import ROOT
from tests.tables import unlike

Train = Callable[..., RunFolder]

LOCK = """
import sys
from sweeper_digits.runs.own_folder import claimed
with claimed(sys.argv[1]):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_leaves_every_byte_of_the_first(train: Train, tmp_path: Path) -> None:
    hints = [
        ("metrics.json", "it holds a finished run; choose another hydra.run.dir, or delete it"),
        ("checkpoint.npz", "it holds an unfinished run; continue it with resume=run1, or choose another hydra.run.dir"),
        ("history.csv", "it holds a run that was cut off; choose another hydra.run.dir, or delete it"),
        ("fold_0/model.keras", "it holds an unfinished run; continue it with resume=run3, or choose another"),
    ]
    for number, (file, _) in enumerate(hints):
        path = tmp_path / f"run{number}" / file
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    before = contents(tmp_path)
    cases = [(f"run{number}", f"^error: run{number}: {hint}") for number, (_, hint) in enumerate(hints)]
    assert unlike(cases, lambda folder: train("seed=1", folder=folder)) == []
    assert contents(tmp_path) == before


def test_a_run_that_failed_before_its_first_epoch_does_not_take_its_folder(train: Train) -> None:
    with pytest.raises(SystemExit, match="no such file"):
        train("data.path=nowhere.npz")
    assert (train("epochs=1").folder / "metrics.json").exists()


def test_another_sweeper_twice_in_one_folder(train: Train, tmp_path: Path) -> None:
    sweep = ("-m", "hydra/sweeper=basic", "epochs=1", "study=both")
    train(*sweep, "seed=1")
    before = contents(tmp_path)
    message = "multirun/both/0: it holds a finished run; choose another study or hydra.sweep.dir, or delete it"
    with pytest.raises(SystemExit, match=message):
        train(*sweep, "seed=3")
    assert contents(tmp_path) == before


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "claimed\n"
        with pytest.raises(UserError, match="another process runs in this folder"), claimed(folder):
            pass
        process.stdin.close()
        process.wait(timeout=20)
    assert list(folder.iterdir()) == []  # no file was left for the lock
    with claimed(folder), claimed(folder):  # by Hydra's callback, then by the run
        pass


def test_a_caller_from_python_is_refused_too(npz: Path, tmp_path: Path) -> None:
    from sweeper_digits.training.run import run

    RunFolder(tmp_path).write_metrics({"state": "finished"})
    with initialize_config_dir(str(ROOT / "conf")):
        config = parse(compose("config", ["data=npz", f"data.path={npz}", "epochs=1"]))
    for in_sweep in (False, True):
        with pytest.raises(UserError, match="it holds a finished run"):
            run(config, tmp_path, in_sweep)


def test_a_trial_that_a_scheduler_starts_again_begins_without_old_files(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.fold(1).write_metrics({"state": "finished"})
    run.append_history({"epoch": 1})
    (tmp_path / "train.log").touch()
    with claimed(tmp_path, in_sweep=True):
        assert [path.name for path in tmp_path.iterdir()] == ["train.log"]


def test_a_run_is_continued_in_its_own_folder(tmp_path: Path) -> None:
    RunFolder(tmp_path).append_history({"epoch": 1})
    with claimed(tmp_path, resumed=tmp_path):
        assert RunFolder(tmp_path).history.exists()
    with pytest.raises(UserError, match="cut off"), claimed(tmp_path, resumed=tmp_path / "other"):
        pass
