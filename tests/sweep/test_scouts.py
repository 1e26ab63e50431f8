"""The first trials of a sweep stop early, and the best of them begins anew."""

from pathlib import Path

import pytest
from optuna.trial import TrialState

from sweeper_digits.errors import UserError
from sweeper_digits.sweep.choose_pruner import make_pruner, pruner_options, scouts_of
from sweeper_digits.sweep.grammar import draw
from sweeper_digits.sweep.pruning import BEST_SCOUT, number_of_scouts
from sweeper_digits.sweep.queue import Queue
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.sweep.study import set_up
from tests.sweep.conftest import LEARNING_RATE, MakeSweep, begun, queue_of


def scouted(make_sweep: MakeSweep, folder: Path, *arguments: str) -> tuple[Sweep, Queue]:
    """A sweep of 15 trials of 8 epochs, three of which are scouts; the sampler draws the others."""
    trials = "hydra.sweeper.n_trials=15", "epochs=8"
    return queue_of(make_sweep, folder, LEARNING_RATE, *trials, "search.prior=0.001", *arguments)


def test_scouts_cost_one_training_and_a_fifth_of_the_trials_at_most() -> None:
    # Epochs, the first at which a trial is judged, trials; of 20 that are wanted.
    expected = {
        (51, 1, None): 20,
        (12, 1, None): 12,
        (12, 3, None): 4,
        (51, 1, 40): 8,
        (8, 1, 5): 0,
        (1, 1, None): 0,
    }
    assert {given: number_of_scouts(20, *given) for given in expected} == expected


def test_a_scout_stops_when_it_is_judged_first_however_good(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep, queue = scouted(
        make_sweep, tmp_path, "hydra.sweeper.pruner.first_fraction=0.25", "hydra.sweeper.n_trials=20"
    )
    pruner = make_pruner(pruner_options(sweep))
    assert scouts_of(sweep) == 4
    trial = queue.ask(sweep)
    assert trial
    sweep.suggest(trial)
    judged = []
    for epoch in range(2):
        trial.report(0.1 - 0.01 * epoch, epoch)
        judged.append(pruner.prune(queue.study, queue.read(trial.number)))
    assert judged == [False, True]


def test_the_best_scout_begins_anew_once(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep, queue = scouted(make_sweep, tmp_path)
    scouts = [begun(sweep, queue, value) for value in (0.3, 0.2, 0.4)]
    assert all("scout" in scout.user_attrs for scout in scouts)
    again = begun(sweep, queue)
    assert again.params == scouts[1].params
    assert again.user_attrs.keys() == {"point_from", "worker"} and again.user_attrs["point_from"] == BEST_SCOUT
    later = begun(sweep, queue)
    assert later.params != again.params and later.user_attrs.keys() == {"worker"}
    # Compared with the scouts, it goes on.
    running = queue.attach(again.number)
    running.report(0.2, 0)
    assert not queue.study.pruner.prune(queue.study, queue.read(again.number))


def test_the_best_scout_waits_for_the_others(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep, queue = scouted(make_sweep, tmp_path)
    slow = queue.ask(sweep)
    assert slow
    queue.record_worker(slow)
    sweep.suggest(slow)
    best, _ = begun(sweep, queue, 0.2), begun(sweep, queue, 0.4)
    meanwhile = begun(sweep, queue)
    assert "point_from" not in meanwhile.user_attrs
    slow.report(0.3, 0)
    queue.study.tell(slow, state=TrialState.PRUNED)
    assert begun(sweep, queue).params == best.params


def test_a_scout_that_is_tried_again_is_still_one(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep, queue = scouted(make_sweep, tmp_path)
    for value in (0.3, 0.2):
        begun(sweep, queue, value)
    queue.fail_and_requeue(begun(sweep, queue), "killed", max_retries=2)
    again = queue.ask(sweep)
    assert again and again.number == 3 and "scout" in queue.read(again.number).user_attrs


def test_points_of_ones_own_are_no_scouts(make_sweep: MakeSweep, tmp_path: Path) -> None:
    point = "search.points=[{optimizer.learning_rate: 0.02}]"
    sweep, queue = scouted(make_sweep, tmp_path, point)
    own, drawn = begun(sweep, queue), begun(sweep, queue)
    assert own.params == {"optimizer.learning_rate": 0.02}
    assert "scout" not in own.user_attrs and "scout" in drawn.user_attrs


def test_other_sweeps_have_none(make_sweep: MakeSweep) -> None:
    for argument in (
        "hydra/sweeper/pruner=median",
        "hydra/sweeper/pruner=none",
        "hydra.sweeper.pruner.scouts=0",
        "objective=[val_loss,params]",
    ):
        assert scouts_of(make_sweep(LEARNING_RATE, "hydra.sweeper.n_trials=50", argument)) == 0, argument


def test_a_number_of_scouts_that_is_none_is_refused(make_sweep: MakeSweep) -> None:
    for value in ("-1", "many", "2.5", "null"):
        with pytest.raises(UserError, match=r"hydra\.sweeper\.pruner\.scouts="):
            scouts_of(make_sweep(LEARNING_RATE, f"hydra.sweeper.pruner.scouts={value}"))


def test_two_processes_do_not_both_begin_with_the_best_scout(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep, queue = scouted(make_sweep, tmp_path)
    other = set_up(sweep)
    for value in (0.3, 0.2, 0.4):
        begun(sweep, queue, value)
    both = [queue.ask(sweep), other.ask(sweep)]
    for trial in both[::-1]:  # whichever draws first
        assert trial
        sweep.suggest(trial)
    assert [trial.user_attrs.get("point_from") for trial in both if trial] == [BEST_SCOUT, None]


def test_the_best_scout_that_is_cut_off_while_it_is_drawn_is_drawn_again(make_sweep: MakeSweep, tmp_path: Path) -> None:
    sweep, queue = scouted(make_sweep, tmp_path, "model.dropout=interval(0,0.5)")
    scouts = [begun(sweep, queue, value) for value in (0.3, 0.2, 0.4)]
    for names in ([], ["optimizer.learning_rate"], list(sweep.distributions)):
        trial = queue.ask(sweep)
        assert trial
        for name in names:
            draw(trial, name, sweep.distributions[name])
        queue.fail_and_requeue(queue.read(trial.number), "killed", max_retries=None)
    again = begun(sweep, queue)
    assert again.params == scouts[1].params and again.user_attrs["point_from"] == BEST_SCOUT
    assert "point_from" not in begun(sweep, queue).user_attrs
