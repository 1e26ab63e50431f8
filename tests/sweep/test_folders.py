"""The folder of a sweep: it belongs to one study, and its trials are where the sweep says. The trials sleep."""

from collections.abc import Callable

import optuna
import pytest
from optuna.trial import TrialState

from tests.sweep.conftest import Sweeps

COMPLETE = TrialState.COMPLETE
TWO_SEEDS = ("seed=1,2", "epochs=1")


def refused(in_process: Callable[..., Sweeps], *overrides: str) -> str:
    """The one line with which a sweep ends."""
    with pytest.raises(SystemExit) as caught:
        in_process(*overrides, worker=False)
    text = str(caught.value)
    assert text.startswith("error: ") and "\n" not in text
    return text


@pytest.mark.parametrize("gone", ["database", "study", "by an earlier version"])
def test_a_study_that_is_gone_keeps_its_folder(in_process: Callable[..., Sweeps], gone: str) -> None:
    sweeps = in_process(*TWO_SEEDS)
    folder = sweeps.folder / "multirun/sweep"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    if gone == "study":
        optuna.delete_study(study_name="sweep", storage=sweeps.storage)
    else:
        (sweeps.folder / "multirun/optuna.db").unlink()
    if gone == "by an earlier version":
        (folder / ".study.json").unlink()
        del before[folder / ".study.json"]
    text = refused(in_process, *TWO_SEEDS)
    assert "multirun/sweep: this folder belongs to an earlier study sweep, which the database does not have" in text
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert "sweep" not in optuna.get_all_study_names(f"sqlite:///{sweeps.folder}/multirun/optuna.db")
    folder.rename(sweeps.folder / "away")
    assert in_process(*TWO_SEEDS).trial_folder(0).metrics.exists()


def test_two_studies_do_not_share_a_folder(in_process: Callable[..., Sweeps]) -> None:
    sweeps = in_process(*TWO_SEEDS, "hydra.sweeper.study_name=one")
    text = refused(in_process, *TWO_SEEDS, "hydra.sweeper.study_name=two")
    assert "multirun/sweep: this folder belongs to the study one, not to two; choose" in text
    assert optuna.get_all_study_names(sweeps.storage) == ["one"]


def test_a_study_of_an_earlier_version_goes_on_in_its_folder(in_process: Callable[..., Sweeps]) -> None:
    sweeps = in_process("seed=1,2,3", "hydra.sweeper.n_trials=1")
    (sweeps.folder / "multirun/sweep/.study.json").unlink()
    study = sweeps.study()
    identity = study.user_attrs["identity"]
    with sweeps.storage.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM study_user_attributes WHERE key = 'identity'")
    in_process("seed=1,2,3", "hydra.sweeper.n_trials=3")
    assert sweeps.states() == {COMPLETE: 3} and identity


def test_a_damaged_owner_is_said(in_process: Callable[..., Sweeps]) -> None:
    sweeps = in_process(*TWO_SEEDS)
    (sweeps.folder / "multirun/sweep/.study.json").write_text("[1]")
    assert "multirun/sweep/.study.json: not readable" in refused(in_process, *TWO_SEEDS)


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
