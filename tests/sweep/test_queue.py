"""The queue of a study: one budget over many processes, one process for each trial, retries."""

import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from sweeper_digits.training.reporting import RunningTrial
from tests.conftest import ROOT

COMPLETE, WAITING = TrialState.COMPLETE, TrialState.WAITING


class WorstOfAll:
    """A trial that its pruner always wants to stop."""

    def report(self, value: float, step: int) -> None:
        pass

    def should_prune(self) -> bool:
        return True


@pytest.mark.parametrize("splits", [1, 3])
def test_a_trial_that_has_all_its_epochs_behind_it_is_not_pruned(splits: int) -> None:
    for by_fold in (False, True):
        running = RunningTrial(WorstOfAll(), by_fold=by_fold, prunes=True)
        running.splits = splits
        running.folds = [0.1] * (splits - 1)
        assert running.epoch(0.5, 0, 2, last=False) is not by_fold
        assert not running.epoch(0.5, 1, 2, last=True)
        assert not running.fold(0.5)
    running = RunningTrial(WorstOfAll(), by_fold=False, prunes=True)
    running.splits = 2
    assert running.epoch(0.5, 1, 2, last=True)  # another fold is to come


RACE = """
import sys, time
sys.path.insert(0, {root!r})
from types import SimpleNamespace
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
import optuna
from sweeper_digits.sweep import study as studies
optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = studies.open_storage("sqlite:///race.db", 60, lambda study, trial: None)
study = optuna.create_study(study_name="race", storage=storage, load_if_exists=True)
sampler = {{"_target_": "optuna.samplers.RandomSampler", "seed": 0}}
sweep = SimpleNamespace(options=SimpleNamespace(n_trials=25, sampler=sampler), size=lambda: float("inf"))
studies.is_enumerated = lambda sweep: False
while not studies.is_finished(study, sweep):
    trial = studies.ask(study, sweep)
    if trial is None:
        time.sleep(0.01)
        continue
    trial.suggest_float("x", 0, 1)
    study.tell(trial, 1.0)
"""


def test_six_processes_never_overshoot_one_budget(tmp_path: Path) -> None:
    optuna.create_study(study_name="race", storage=f"sqlite:///{tmp_path}/race.db")
    code = RACE.format(root=str(ROOT))
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) for _ in range(6)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 6
    trials = optuna.load_study(study_name="race", storage=f"sqlite:///{tmp_path}/race.db").trials
    assert sum(t.state == COMPLETE for t in trials) == 25
    assert {t.state for t in trials} <= {COMPLETE, WAITING}
    assert len({t.params["x"] for t in trials if t.state == COMPLETE}) == 25  # though all have one seed


POP = """
import sys, time
sys.path.insert(0, {root!r})
import optuna
from sweeper_digits.sweep import study as studies
optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = studies.open_storage("sqlite:///queue.db", 60, lambda study, trial: None)
study = optuna.load_study(study_name="queue", storage=storage)
time.sleep(max(0, {start} - time.time()))
while trial := studies._pop(study):
    print(trial.number, flush=True)
"""


def test_a_queued_trial_is_begun_by_one_process_only(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="queue", storage=f"sqlite:///{tmp_path}/queue.db")
    for number in range(40):
        study.enqueue_trial({"x": number})
    code = POP.format(root=str(ROOT), start=time.time() + 8)
    begun = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    numbers = [int(line) for process in begun for line in process.communicate(timeout=120)[0].split()]
    assert sorted(numbers) == list(range(40))


def test_a_worker_may_die_max_retries_times_and_be_stopped_as_often_as_one_likes() -> None:
    from sweeper_digits.sweep import study as studies

    study = optuna.create_study()
    study.enqueue_trial({"x": 1})
    fates = [None, 2, None, None, 2, None, 2]  # the last is one death too many
    for fate in fates:
        trial = study._storage.get_trial(study.ask()._trial_id)
        assert studies.fail(study, trial, "its worker died")
        studies.requeue(study, trial, fate)
    assert len(study.trials) == len(fates) and study.trials[-1].system_attrs["retry_history"] == list(
        range(len(fates) - 1)
    )
    assert [studies.is_own_failure(trial, 2) for trial in study.trials] == [False] * 5 + [True] * 2
