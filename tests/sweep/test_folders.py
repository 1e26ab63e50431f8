"""The folder of a sweep: it belongs to one study, and its trials are where the sweep says. The trials sleep."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from optuna.trial import TrialState

from sweeper_digits.data.dataset import Dataset
from sweeper_digits.sweep.record import StudyRecord
from tests.conftest import ROOT
from tests.sweep.conftest import LEARNING_RATE, STEADY, Sweeps, wait_for

COMPLETE = TrialState.COMPLETE
TWO_SEEDS = ("seed=1,2", "epochs=1")


def read_tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(in_process: Callable[..., Sweeps], *overrides: str) -> str:
    """The one line with which a sweep ends."""
    with pytest.raises(SystemExit) as caught:
        in_process(*overrides)
    text = str(caught.value)
    assert text.startswith("error: ") and "\n" not in text
    return text


@pytest.mark.parametrize("gone", ["database", "study"])
def test_a_study_that_is_gone_keeps_its_folder(in_process: Callable[..., Sweeps], gone: str) -> None:
    sweeps = in_process(*TWO_SEEDS)
    folder = sweeps.folder / "multirun/sweep"
    before = read_tree(folder)
    if gone == "study":
        optuna.delete_study(study_name="sweep", storage=sweeps.url)
    else:
        (folder / "study.db").unlink()
    before.pop(folder / "study.db")
    text = refused(in_process, *TWO_SEEDS)
    assert "multirun/sweep: it has trials of an earlier study sweep, which the database does not have" in text
    now = read_tree(folder)
    assert (now.pop(folder / "study.db", None) is None) == (gone == "database")
    assert now == before
    folder.rename(sweeps.folder / "away")
    assert in_process(*TWO_SEEDS).trial_folder(0).metrics.exists()


def test_two_studies_do_not_share_a_folder(in_process: Callable[..., Sweeps]) -> None:
    sweeps = in_process(*TWO_SEEDS, "hydra.sweep.dir=multirun/sweep", "hydra.sweeper.study_name=one")
    text = refused(in_process, *TWO_SEEDS, "hydra.sweep.dir=multirun/sweep", "study=two")
    assert "multirun/sweep: this folder belongs to the study one, not to two; choose" in text
    assert optuna.get_all_study_names(sweeps.url) == ["one"]


def test_a_folder_that_is_renamed_or_copied_has_its_study_in_it(in_process: Callable[..., Sweeps]) -> None:
    command = (LEARNING_RATE, "epochs=1")
    sweeps = in_process(*command, "hydra.sweeper.n_trials=1")
    multirun = sweeps.folder / "multirun"
    (multirun / "sweep").rename(multirun / "renamed")
    shutil.copytree(multirun / "renamed", multirun / "copied")
    before = read_tree(multirun / "copied")
    in_process(*command, "hydra.sweeper.n_trials=2", "study=renamed")
    study = optuna.load_study(study_name="sweep", storage=sweeps.url_of("renamed"))
    assert [trial.state for trial in study.trials] == [COMPLETE, COMPLETE]
    assert read_tree(multirun / "copied") == before and (multirun / "renamed/1/metrics.json").exists()
    shutil.rmtree(multirun / "renamed")
    assert in_process(*TWO_SEEDS, "study=renamed").trial_folder(1, "renamed").metrics.exists(), "another sweep begins"


def test_a_damaged_owner_is_said(in_process: Callable[..., Sweeps]) -> None:
    sweeps = in_process(*TWO_SEEDS)
    owner = sweeps.folder / "multirun/sweep/.study.json"
    owner.write_text("[1]")
    assert "multirun/sweep/.study.json: not readable" in refused(in_process, *TWO_SEEDS)
    owner.unlink()
    os.mkfifo(owner)  # which would be waited for
    assert "multirun/sweep/.study.json: not readable" in refused(in_process, *TWO_SEEDS)


def test_a_folder_that_cannot_be_one_is_one_line(sweeps: Sweeps, in_process: Callable[..., Sweeps]) -> None:
    folder = sweeps.folder / "multirun"
    folder.touch()
    assert "multirun: a file is where a folder is needed" in refused(in_process, *TWO_SEEDS)
    folder.unlink()
    folder.mkdir()
    (folder / "sweep").touch()
    assert "multirun/sweep: a file is where a folder is needed" in refused(in_process, *TWO_SEEDS)
    (folder / "sweep").unlink()
    (folder / "sweep").symlink_to("sweep")
    assert "multirun/sweep: " in refused(in_process, *TWO_SEEDS)


def test_a_folder_with_the_time_in_its_name_is_one_folder(sweeps: Sweeps) -> None:
    out = sweeps.ok(*TWO_SEEDS, "hydra.sweep.dir='multirun/at=${now:%H-%M-%S-%f}'")
    (folder,) = sweeps.folder.glob("multirun/at=*")
    assert {"0", "1", "trials.csv", "conf"} <= {path.name for path in folder.iterdir()}
    assert f"model      multirun/{folder.name}/" in out


def test_a_trial_is_named_by_its_number(in_process: Callable[..., Sweeps]) -> None:
    text = refused(in_process, *TWO_SEEDS, "hydra.sweep.subdir='run_${hydra.job.num}'")
    assert "hydra.sweep.subdir=run_${hydra.job.num}: the folder of a trial is named by its number" in text


def test_relative_paths_count_from_where_the_user_stands(sweeps: Sweeps) -> None:
    (sweeps.folder / "points.yaml").write_text("[{seed: 1}]")
    sweeps.ok("search.points=points.yaml", "epochs=1", "hydra.job.chdir=true")
    assert sweeps.states() == {COMPLETE: 1}
    saved = yaml.safe_load((sweeps.trial_folder(0).folder / ".hydra/hydra.yaml").read_text())
    assert saved["hydra"]["job"]["chdir"] is False


@pytest.mark.parametrize("database", ["its own", "elsewhere"])
def test_a_folder_that_is_deleted_ends_the_sweep_in_one_line(sweeps_of: Callable[..., Sweeps], database: str) -> None:
    sweeps = sweeps_of(storage="sqlite:///all.db" if database == "elsewhere" else None)
    sweeps.trials_last(100)
    folder = sweeps.folder / "multirun/sweep"
    with sweeps.start(LEARNING_RATE, *STEADY) as process:
        wait_for(sweeps.checkpoints)
        folder.rename(sweeps.folder / "away")
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and error.count("\n") == 1
    where = "multirun/sweep/study.db: this database" if database == "its own" else "multirun/sweep: this folder"
    assert error.startswith(f"error: {where} was deleted")
    sweeps.trials_last(0)
    shutil.rmtree(folder, ignore_errors=True)
    sweeps.ok(LEARNING_RATE, *STEADY, "hydra.sweeper.n_trials=1")
    assert sweeps.trial_folder(0 if database == "its own" else 1).metrics.exists()


def test_other_content_is_other_data_and_the_same_written_again_is_not(
    in_process: Callable[..., Sweeps], tmp_path: Path, digits: Dataset
) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, images=digits.images, labels=digits.labels)
    command = (*TWO_SEEDS, "data=npz", f"data.path={file}")
    sweeps = in_process(*command, "hydra.sweeper.n_trials=1")
    np.savez_compressed(file, images=digits.images, labels=digits.labels)
    in_process(*command, "hydra.sweeper.n_trials=2")
    np.savez(file, images=digits.images, labels=digits.labels[::-1])
    begun = (StudyRecord(sweeps.study()).attributes(shown=False), len(sweeps.trials()))
    text = refused(in_process, *command, "hydra.sweeper.n_trials=20")
    assert "a.npz: its images, their labels or their order changed since study=sweep began (300 images, but not" in text
    assert (StudyRecord(sweeps.study()).attributes(shown=False), len(sweeps.trials())) == begun, (
        "nor is anything changed"
    )
    np.savez(file, images=digits.images[:290], labels=digits.labels[:290])
    assert "(300 images then, 290 now)" in refused(in_process, *command, "hydra.sweeper.n_trials=20")
    file.unlink()  # the trials would say it
    in_process(*command, "hydra.sweeper.n_trials=2")
    assert sweeps.states() == {COMPLETE: 2}


def test_what_does_not_change_a_trial_may_change(in_process: Callable[..., Sweeps]) -> None:
    in_process(*TWO_SEEDS, "hydra.sweeper.n_trials=1")
    sweeps = in_process(*TWO_SEEDS, "export=[onnx]", "search.points=[{seed: 2}]", "hydra.sweeper.n_trials=2")
    assert sweeps.states() == {COMPLETE: 2}


def test_a_damaged_copy_of_conf_is_one_line(in_process: Callable[..., Sweeps], monkeypatch: pytest.MonkeyPatch) -> None:
    command = (*TWO_SEEDS, "model=small")
    sweeps = in_process(*command, "hydra.sweeper.n_trials=1")
    copy = sweeps.folder / "multirun/sweep/conf"
    for damaged, cause in {
        b"filters: [1": "while parsing a flow sequence",
        bytes(50): "unacceptable character",
        b"": "it holds nothing",
        b"\xff": "can't decode byte",
    }.items():
        (copy / "model/small.yaml").write_bytes(damaged)
        line = refused(in_process, *command)
        assert line.startswith("error: multirun/sweep/conf/model/small.yaml: trials compose from") and cause in line
    (copy / "model/small.yaml").unlink()
    line = refused(in_process, *command)
    assert line.startswith("error: multirun/sweep/conf: trials compose from") and "model=small: no such option" in line


@pytest.mark.slow
def test_another_conf_of_another_machine_is_seen(sweeps_of: Callable[..., Sweeps]) -> None:
    sweeps = sweeps_of(storage="sqlite:///all.db")
    sweeps.forks = False  # the other machine has its own checkout
    checkout = sweeps.folder / "checkout"
    for name in ("conf", "sweeper_digits"):
        shutil.copytree(ROOT / name, checkout / name)
    sweeps.ok(*TWO_SEEDS)
    (sweeps.folder / "multirun/sweep").rename(sweeps.folder / "away")  # that machine does not share the folder
    file = checkout / "conf/model/batchnorm.yaml"
    file.write_text(f"{file.read_text()}dropout: 0.123\n")
    sweeps.environment["PYTHONPATH"] = str(checkout)
    done = sweeps.run(*TWO_SEEDS)
    assert done.returncode == 1 and "conf/: was model.dropout=" in done.stderr, done.stdout + done.stderr
