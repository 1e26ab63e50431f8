"""What ends a sweep: trials, seconds, epochs, whichever is used up first; over workers and restarts."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from sweeper_digits.sweep import supervisor
from sweeper_digits.sweep.budget import Budget, SupervisorHeartbeat, is_supervised, last_watched, watched_seconds
from tests.conftest import ROOT
from tests.refusals import not_refused
from tests.sweep.conftest import LEARNING_RATE, STEADY, Sweeps

OPEN = "hydra.sweeper.n_trials=null"


def options(**given: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"n_trials": None, "timeout": None, "n_epochs": None} | given)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "n_trials, timeout and n_epochs are all null; a sweep needs one of them"),
    ({"n_trials": 0}, r"hydra\.sweeper\.n_trials=0: must be above 0"),
    ({"timeout": -1.5}, r"hydra\.sweeper\.timeout=-1\.5: must be above 0"),
    ({"timeout": float("nan")}, r"hydra\.sweeper\.timeout=nan: must be above 0"),
    ({"n_trials": 3, "n_epochs": 0}, r"hydra\.sweeper\.n_epochs=0: must be above 0"),
]


def test_no_budget_is_refused() -> None:
    assert not_refused(lambda given: Budget.of(options(**given)), REFUSED) == []


def test_a_budget_is_described() -> None:
    assert Budget.of(options(n_trials=1, timeout=300.0, n_epochs=2000)).describe() == (
        "1 trial, or 5:00 minutes, or 2,000 epochs"
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [({"n_trials": 2}, "2 trials"), ({"timeout": 61.0}, "1:01 minutes"), ({"n_epochs": 1}, "1 epoch")],
)
def test_a_limit_that_is_not_set_is_not_described(given: dict[str, Any], words: str) -> None:
    assert Budget.of(options(**given)).describe() == words


def trial_of(
    state: TrialState, reported: int = 0, progress: dict[str, int] | None = None, epochs: int | None = None
) -> Any:
    """A trial as the study has it: what it reported, told of itself, and counts at its end."""
    return optuna.trial.create_trial(
        state=state,
        value=1.0 if state == TrialState.COMPLETE else None,
        intermediate_values={step: 1.0 for step in range(reported)},
        user_attrs={} if epochs is None else {"epochs": epochs},
        system_attrs={"sweeper_digits:progress": progress} if progress else {},
    )


def test_what_is_used_is_counted_by_trials_and_epochs() -> None:
    trials = [
        trial_of(TrialState.COMPLETE, epochs=8),
        trial_of(TrialState.WAITING),
        trial_of(TrialState.PRUNED, progress={"taken_over": 3}, epochs=5),  # 2 of its own
        trial_of(TrialState.RUNNING, progress={"trained": 4}),
        trial_of(TrialState.FAIL, reported=3),  # it was cut off before it told
        trial_of(TrialState.FAIL, progress={"taken_over": 9}, epochs=7),
    ]
    study = optuna.create_study()
    study.set_user_attr("watched a", [10, 25])
    used = Budget(3, 20.0, 17).used(study, trials)
    assert used == {"n_trials": (2, 3), "timeout": (15, 20.0), "n_epochs": (8 + 2 + 4 + 3 + 0, 17)}
    assert Budget(3, None, None).used(study, trials) == {"n_trials": (2, 3)}


@pytest.mark.parametrize(
    ("budget", "key"),
    [
        (Budget(2, 16.0, 18), None),
        (Budget(1, 16.0, 18), "n_trials"),
        (Budget(2, 15.0, 18), "timeout"),
        (Budget(2, 16.0, 8), "n_epochs"),
    ],
)
def test_a_budget_is_used_up_when_its_limit_is_reached(budget: Budget, key: str | None) -> None:
    study = optuna.create_study()
    study.set_user_attr("watched a", [10, 25])
    assert budget.used_up(study, [trial_of(TrialState.COMPLETE, epochs=8)]) == key


def test_seconds_in_which_several_supervisors_watched_count_once() -> None:
    spans = {"a": [10, 20], "b": [15, 30], "c": [16, 18], "d": [40, 45], "e": [45, 46]}
    study = optuna.create_study()
    assert watched_seconds(study) == 0
    study.set_user_attr("pruner", [0, 99])
    for name, span in spans.items():
        study.set_user_attr(f"watched {name}", span)
    assert watched_seconds(study) == 26


def test_the_sleep_of_a_machine_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    study = optuna.create_study()
    presence = SupervisorHeartbeat(study)
    for step in (4, 4, 8, 3600, 7, 2):  # the first and the last are too soon to be written
        now += step
        presence.tick()
    assert watched_seconds(study) == 8 + 8 + 7
    presence.end()
    assert watched_seconds(study) == 8 + 8 + 9


def test_the_time_of_a_sweep_is_written_as_soon_as_it_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    study = optuna.create_study()
    presence, budget = SupervisorHeartbeat(study), Budget(None, 12, None)
    for second in (6, 11.9):
        now = 1000 + second
        presence.tick(budget.timeout)
    assert budget.used_up(study, []) is None
    now = 1012.1
    presence.tick(budget.timeout)
    assert budget.used_up(study, []) == "timeout"


def test_what_is_left_is_what_the_first_part_leaves() -> None:
    study = optuna.create_study()
    study.set_user_attr("watched a", [0, 60])
    budget = Budget(n_trials=10, timeout=100, n_epochs=None)
    assert budget.seconds_left(study, [], {}) == 40
    assert budget.seconds_left(study, [], {"n_trials": 0.5}) == 20
    assert Budget(None, 50, None).seconds_left(study, [], {}) == 0
    assert Budget(10, None, 10).seconds_left(study, [], {}) == float("inf")


def test_a_supervisor_is_there_until_it_leaves_or_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    study = optuna.create_study()
    assert not is_supervised(study) and last_watched(study) is None
    presence = SupervisorHeartbeat(study)
    now += 6
    presence.tick()
    assert is_supervised(study) and last_watched(study) == 1006
    now += 19
    assert is_supervised(study)
    now += 2
    assert not is_supervised(study), "it was killed"
    presence.tick()
    assert is_supervised(study)
    presence.end()
    assert not is_supervised(study) and watched_seconds(study) == 27


def test_looking_at_a_long_study_takes_two_percent_of_a_core() -> None:
    for look in (0.001, 0.01, 0.02, 0.04):  # seconds of a core; at 10,000 trials, 0.03 of an EPYC's
        assert look / (look + supervisor._pause(look)) <= 0.02


def test_time_ends_a_sweep_over_restarts(sweeps_of: Callable[..., Sweeps]) -> None:
    sweeps = sweeps_of()
    sweeps.trials_last(1)
    command = (LEARNING_RATE, OPEN, "hydra.sweeper.timeout=6", "epochs=3", *STEADY)
    began = time.monotonic()
    out = sweeps.ok(*command)
    took, done = time.monotonic() - began, len(sweeps.trials())
    assert "study      sweep: 0:06 minutes, minimize val_loss" in out
    assert "hydra.sweeper.timeout is used up; the same command with a larger one goes on" in out
    assert done >= 2 and {trial.state for trial in sweeps.trials()} == {TrialState.COMPLETE}
    used = watched_seconds(sweeps.study())
    assert 6 <= used <= 6 + 6 and used <= took
    sweeps.ok(*command)  # nothing is left
    assert len(sweeps.trials()) == done
    sweeps.ok(*command, f"hydra.sweeper.timeout={used + 5:.0f}")
    assert len(sweeps.trials()) > done


def test_epochs_end_a_sweep(in_process: Callable[..., Sweeps]) -> None:
    space = (LEARNING_RATE, OPEN, "epochs=3", "hydra.sweeper.n_epochs=8", *STEADY)
    sweeps = in_process(*space)
    assert [trial.user_attrs["epochs"] for trial in sweeps.trials()] == [3, 3, 3]  # 6 are fewer than 8
    in_process(*space[:3], "hydra.sweeper.n_epochs=12", *STEADY)
    assert len(sweeps.trials()) == 4


def test_points_of_a_finite_space_are_all_tried_unless_another_budget_ends_it(
    in_process: Callable[..., Sweeps],
) -> None:
    space = ("optimizer.learning_rate=0.1,0.2,0.3,0.4", OPEN, "epochs=2", *STEADY)
    sweeps = in_process(*space, "hydra.sweeper.n_epochs=5")
    assert sweeps.states() == {TrialState.COMPLETE: 3, TrialState.WAITING: 1}
    in_process(*space, "hydra.sweeper.n_epochs=500")
    assert sweeps.states() == {TrialState.COMPLETE: 4}


def test_quick_is_five_minutes_on_any_data() -> None:
    sweeper = yaml.safe_load((ROOT / "conf" / "search" / "quick.yaml").read_text())["hydra"]["sweeper"]
    assert (sweeper["n_trials"], sweeper["timeout"]) == (None, 300)
