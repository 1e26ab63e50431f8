"""What is asked for is done, or refused: points that are queued, points of a grid, branches of a space."""

import csv
import re
from typing import Any

import pytest

from tests.conftest import TINY
from tests.guards.conftest import Program, write_npz

Row = dict[str, str]


def prepare(program: Program, digits: Any) -> list[str]:
    """Write 100 digits; return overrides of a training of one epoch on them."""
    return [*write_npz(program.folder / "small.npz", digits.images[::3], digits.labels[::3]), *TINY, "epochs=1"]


def rows_of(program: Program, study: str) -> list[Row]:
    """The rows of a sweep's trials.csv."""
    with (program.folder / "multirun" / study / "trials.csv").open() as stream:
        return list(csv.DictReader(stream))


def points_of(program: Program, study: str, *names: str) -> list[tuple[str, ...]]:
    """The points of the complete trials, in the order of their numbers."""
    rows = sorted(rows_of(program, study), key=lambda row: int(row["number"]))
    return [tuple(row[name] for name in names) for row in rows if row["state"] == "COMPLETE"]


SPACE = [
    "optimizer=adam,sgd,rmsprop",
    "optimizer.momentum=interval(0.5,0.9)",  # adam lacks it
    "optimizer.nesterov=true,false",  # only sgd has it
    "study=cond",
    "hydra/sweeper/pruner=none",
]


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> Program:
    """Two sweeps over options of which one has no parameter; values were queued in both."""
    program = Program(tmp_path_factory.mktemp("conditional"))
    small = prepare(program, digits)
    space = [*small, *SPACE]
    program.sweep(*space, "hydra.sweeper.n_trials=1")
    said = program.verb("enqueue", "cond", "optimizer.nesterov=false", "optimizer.momentum=0.77")
    assert "tries this point first" in said
    said = program.verb("enqueue", "cond", "optimizer.nesterov=true", "optimizer.momentum=0.78")
    assert "tries this point after 1 other point that waits" in said
    for refused, hint in (
        (["optimizer.momentum=0.71"], "optimizer=sgd"),  # two have it: which?
        (["optimizer=adam", "optimizer.momentum=0.72"], "optimizer=adam has no such key"),
        (["optimizer=rmsprop", "optimizer.nesterov=true"], "optimizer=rmsprop has no such key"),
    ):
        done = program.tries_verb("enqueue", "cond", *refused)
        assert done.status == 1 and done.text.count("\n") == 1 and hint in done.text, done.text
    program.sweep(*space, "hydra.sweeper.n_trials=2")
    points = "search.points=[{optimizer.nesterov: false}, {optimizer: rmsprop, optimizer.momentum: 0.66}]"
    random = ["hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=1", "study=random", points]
    program.sweep(*space, *random, "hydra.sweeper.n_trials=8")
    return program


def test_a_queued_value_is_tried_with_the_option_that_has_it(conditional: Program) -> None:
    second = rows_of(conditional, "cond")[1]
    found = second["optimizer"], float(second["optimizer.momentum"]), second["optimizer.nesterov"]
    assert found == ("sgd", 0.77, "False") and second["state"] == "COMPLETE"


def test_a_point_of_the_command_is_tried_with_the_option_that_has_it(conditional: Program) -> None:
    first, second = rows_of(conditional, "random")[:2]
    assert (first["optimizer"], first["optimizer.nesterov"]) == ("sgd", "False")
    assert (second["optimizer"], second["optimizer.momentum"]) == ("rmsprop", "0.66")


def test_a_branch_without_a_free_parameter_is_trained_once(conditional: Program) -> None:
    drawn = [row["optimizer"] for row in rows_of(conditional, "random") if row["state"] == "COMPLETE"]
    assert len(drawn) == 8 and drawn.count("adam") == 1


def test_a_point_that_no_option_can_have_is_refused_at_once(program: Program, digits: Any) -> None:
    small = prepare(program, digits)
    for point, hint in (
        ("{optimizer: adam, optimizer.momentum: 0.6}", "optimizer=adam has no such key"),
        ("{optimizer.momentum: 0.6}", "optimizer=rmsprop"),
        ("{optimizer.momentum: 0.6, optimizer.nesterov: true, optimizer: rmsprop}", "optimizer=rmsprop has no such"),
    ):
        done = program.tries_to_train("-m", *small, *SPACE, f"search.points=[{point}]")
        assert done.status == 1 and done.text.count("\n") == 1, done.text
        assert "search.points" in done.text and hint in done.text
        assert not list(program.folder.glob("multirun/cond/*"))


GRID = ["hydra/sweeper/sampler=grid", "optimizer=adam,sgd", "model.dropout=0,0.1,0.2"]


def test_a_grid_that_is_cut_is_spread_and_goes_on_to_its_end(program: Program, digits: Any) -> None:
    grid, names = [*prepare(program, digits), *GRID, "study=one"], ("optimizer", "model.dropout")
    start, end = program.sweep(*grid, "hydra.sweeper.n_trials=3").split("\ntrials ")
    assert "3 of 6 points, each once" in start, start
    assert "3 of 6 points; the same command with hydra.sweeper.n_trials=6 goes on" in end, end
    begun = points_of(program, "one", *names)
    assert len(set(begun)) == 3 and {optimizer for optimizer, _ in begun} == {"adam", "sgd"}, "one corner"
    for verb in (["enqueue", "one", "optimizer=sgd", "model.dropout=0.1"], ["change", "one", "n_trials=5"]):
        done = program.tries_verb(*verb)
        assert done.status == 1 and "hydra.sweeper.n_trials" in done.text, done.text
    # The order is that of the seed, however many there are.
    program.sweep(*grid, "study=two", "hydra.sweeper.n_trials=4")
    assert points_of(program, "two", *names)[:3] == begun
    assert " of 6 points" not in program.sweep(*grid, "hydra.sweeper.n_trials=6")
    found = points_of(program, "one", *names)
    assert len(found) == len(set(found)) == 6


def test_a_grid_is_whole_unless_a_budget_ends_it_and_then_the_end_says_how_much(program: Program, digits: Any) -> None:
    """24 points, which are more than the 20 trials of a sampled sweep."""
    space = ["seed=range(0,12)", *GRID[:2]]
    text = program.sweep(*prepare(program, digits), *space, "hydra.sweeper.n_epochs=2", "study=whole")
    assert re.search(r"^study +whole: 24 trials, or 2 epochs", text, re.MULTILINE), text
    assert "2 of 24 points; hydra.sweeper.n_epochs is used up; the same command with a larger one goes on" in text


def test_a_finite_space_that_is_not_all_tried_says_so(program: Program, digits: Any) -> None:
    small = prepare(program, digits)
    text = program.sweep(*small, "seed=1,2,3", "hydra.sweeper.n_trials=2")
    assert "2 of 3 points; the same command with hydra.sweeper.n_trials=3 goes on" in text
    # A point of which only a part is named is one of the grid's, not one more.
    text = program.sweep(*small, "seed=1,2", "batch_size=32,64", "search.points=[{seed: 2}]", "study=part")
    found = points_of(program, "part", "seed", "batch_size")
    assert len(found) == len(set(found)) == 4 and found[0][0] == "2"
