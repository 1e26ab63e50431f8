"""What a study says of its sweep: the trials that run, how they compare, the best, the budget."""

import time
from pathlib import Path
from typing import Literal

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState

from sweeper_digits.sweep.budget import Budget
from sweeper_digits.sweep.job import ProgressWriter
from sweeper_digits.sweep.pruning import PeerPruner
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.show import StudyReader
from sweeper_digits.sweep.steering import Space
from sweeper_digits.sweep.storage import open_storage

Direction = Literal["minimize", "maximize"]
RATE: dict[str, BaseDistribution] = {"rate": FloatDistribution(0, 1)}
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


def queue_in(folder: Path, direction: Direction = "minimize") -> Queue:
    """A study whose pruner lets the better half of three or more go on."""
    storage = open_storage(f"sqlite:///{folder}/studies.db", 60)
    pruner = PeerPruner(50, n_min_trials=3, first_fraction=0.1, epochs=8)
    study = optuna.create_study(study_name="s", storage=storage, direction=direction, pruner=pruner)
    queue = Queue(study, storage)
    queue.shared.begin(Budget(20, None, None), Space({}, is_enumerated=False), n_jobs=1)
    return queue


def ended(*values: float, state: TrialState = TrialState.COMPLETE) -> optuna.trial.FrozenTrial:
    return optuna.create_trial(
        state=state,
        value=values[-1] if state == TrialState.COMPLETE else None,
        params={"rate": values[0]},
        distributions=RATE,
        intermediate_values=dict(enumerate(values)),
    )


@pytest.mark.parametrize(("direction", "rank", "bar"), [("minimize", 2, 0.4), ("maximize", 1, 0.9)])
def test_a_trial_is_ranked_among_those_at_its_epoch_and_beside_the_bar(
    direction: Direction, rank: int, bar: float, tmp_path: Path
) -> None:
    queue = queue_in(tmp_path, direction)
    queue.study.add_trials([ended(0.9, 0.2), ended(0.9, 0.4), ended(0.9, 0.6, state=TrialState.PRUNED), ended(0.1)])
    trial = queue.study.ask(RATE)
    trial.report(0.9, 0)
    trial.report(0.3, 1)
    (seen,) = StudyReader(queue, is_enumerated=False).look().running
    assert (seen.rank, seen.of, seen.epoch) == (rank, 4, 2)
    assert seen.bar == pytest.approx(bar)
    assert queue.study.pruner.prune(queue.study, queue.read(trial.number)) is False


def test_what_a_trial_has_told_is_seen(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    trial = queue.study.ask(RATE)
    spotter = StudyReader(queue, is_enumerated=False)
    assert spotter.look().running[0].epochs is None
    assert not ProgressWriter(queue, trial.number, "node/0").tell({"epoch": 3, "epochs": 8, "val_loss": 0.5})
    (seen,) = spotter.look().running
    assert (seen.worker, seen.epoch, seen.epochs, seen.measured) == ("node/0", 3, 8, {"val_loss": 0.5})
    assert seen.point == trial.params


def test_each_ended_trial_is_told_once_and_the_best_is_kept(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    queue.study.add_trials([ended(0.5), ended(0.3), ended(0.1, state=TrialState.PRUNED)])
    spotter = StudyReader(queue, is_enumerated=False)
    assert len(spotter.look().ended) == 3
    queue.study.add_trial(ended(0.4))
    view = spotter.look()
    assert [trial.number for trial in view.ended] == [3]
    assert view.best and view.best.number == 1
    assert view.names == ["rate"] and view.varied == {"rate"}
    assert view.states[TrialState.COMPLETE] == 3


def test_the_time_left_follows_from_the_pace_of_all_supervisors(tmp_path: Path) -> None:
    queue = queue_in(tmp_path)
    queue.study.add_trials([ended(0.5)] * 5)
    assert StudyReader(queue, is_enumerated=False).look().seconds_left == float("inf")
    now = time.time()
    queue.study.set_user_attr("watched a", [now - 100, now])
    view = StudyReader(queue, is_enumerated=False).look()
    assert view.used == {"n_trials": (5, 20)} and view.seconds_left == pytest.approx(300, rel=0.1)
    queue.study.set_user_attr("watched a", [now - 100, now, True])
    assert StudyReader(queue, is_enumerated=False).look().seconds_left == float("inf"), "nobody goes on"
    assert StudyReader(queue, is_enumerated=True).look().used == {"n_trials": (5, 5)}
