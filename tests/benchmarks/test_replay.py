"""`replay`: what it recommends of curves whose right pruner is known, and what it refuses."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.replay import __main__ as replay
from benchmarks.replay.__main__ import PRUNERS, main, pruners_for, read_study
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import RunFolder

pytestmark = pytest.mark.slow

EPOCHS = 8
CONFIG = "seed: {number}\nobjective: [{metric}]\nmodel: {{}}\noptimizer: {{}}\nsplit: {{}}\n"
MEDIAN = "median hydra.sweeper.pruner.n_startup_trials=1 hydra.sweeper.pruner.n_warmup_steps=1"
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def few_pruners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay three settings, not all: composing and replaying each takes a while."""
    settings = {"none": [[]], "peers": [[]], "median": [["n_startup_trials=1", "n_warmup_steps=1"]]}
    monkeypatch.setattr(replay, "PRUNERS", settings)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the runs of a study that have these values of each epoch; return its folder."""

    def call(
        curves: Sequence[Sequence[float]], state: str = "finished", metric: str = "val_loss", **metrics: object
    ) -> Path:
        for number, values in enumerate(curves):
            run = RunFolder(tmp_path / "study" / str(number))
            hydra = run.folder / ".hydra"
            hydra.mkdir(parents=True)
            (hydra / "config.yaml").write_text(
                f"{{seed: {number}, objective: [{metric}], model: {{}}, optimizer: {{}}, split: {{}}}}"
            )
            (hydra / "hydra.yaml").write_text("hydra: {runtime: {choices: {}}}\n")
            (hydra / "overrides.yaml").write_text("[]\n")
            run.write_history([{"epoch": n + 1, metric: value, "seconds": 1.0} for n, value in enumerate(values)])
            run.write_metrics({"state": state, "objectives": [metric], metric: float(np.nanmin(values))} | metrics)
        return tmp_path / "study"

    return call


def parallel(levels: Iterable[float]) -> list[list[float]]:
    """Curves that never cross."""
    return [[level + 1.0 / (epoch + 1) for epoch in range(EPOCHS)] for level in levels]


def document(study: Path, capsys: pytest.CaptureFixture[str], replays: int = 100, workers: int = 1) -> dict[str, Any]:
    """What `replay --json` prints."""
    arguments = [str(study), "--json", "--replays", str(replays), "--workers", str(workers)]
    main(arguments)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def row(found: dict[str, Any], pruner: str, equal: str = "epochs") -> dict[str, Any]:
    """A row of the document."""
    (one,) = [
        one for one in found["replayed"] if one["equal"] == equal and one["pruner"] == f"hydra/sweeper/pruner={pruner}"
    ]
    return dict(one)


def test_where_curves_never_cross_pruning_is_recommended(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "PRUNERS", {"none": [[]], "peers": [[]]})
    levels = np.random.default_rng(0).uniform(0, 1, 60)
    found = document(write(parallel(levels)), capsys, replays=400)
    assert found["recommended"] not in (None, "hydra/sweeper/pruner=none")
    assert found["better_ones_without_pruning"] - found["better_ones"] > found["difference_interval"] > 0
    assert found["gain"] > 0
    assert row(found, "none")["epochs_saved"] == 0
    peers = row(found, "peers")
    assert peers["best_kept"] == 1.0 and peers["epochs_saved"] > 0.5
    assert peers["reached"]["100%"] < row(found, "none")["reached"]["100%"]
    assert sorted(peers["reached"].values(), reverse=True) == list(peers["reached"].values())


def test_where_the_last_epoch_turns_the_order_round_no_pruning_wins(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = np.random.default_rng(0).uniform(0, 1, 40)
    turned = [[*[2 + level] * (EPOCHS - 1), 1 - level] for level in levels]
    found = document(write(turned), capsys, replays=50)
    assert row(found, "peers")["best_kept"] < row(found, "none")["best_kept"] == 1.0
    assert row(found, MEDIAN)["reached"]["100%"] > row(found, "none")["reached"]["100%"]


def test_few_trials_of_noise_are_too_few_to_tell(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(1).uniform(0, 1, (14, EPOCHS)).tolist()
    study = write(noise)
    assert document(study, capsys, replays=50)["recommended"] is None
    main([str(study), "--replays", "25"])
    assert "too few trials to tell" in capsys.readouterr().out


def test_the_table_names_each_pruner_as_it_is_typed(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    study = write(parallel(np.linspace(0, 1, 16)))
    main([str(study), "--replays", "25"])
    printed = capsys.readouterr().out
    assert printed.count("   median n_startup_trials=1 n_warmup_steps=1\n") == 2
    assert max(map(len, printed.splitlines())) <= 125


def test_equal_seeds_give_equal_numbers_and_workers_change_them(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write(parallel(np.random.default_rng(2).uniform(0, 1, 16)))
    one = document(study, capsys, replays=25)
    assert document(study, capsys, replays=25) == one
    assert document(study, capsys, replays=25, workers=4) != one


def test_a_trial_that_runs_when_the_budget_is_used_up_saved_no_epoch(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without pruning nothing is saved, however many workers train; of 20 workers, none has ended a trial."""
    study = write(parallel(np.linspace(0, 1, 24)))
    few, many = (row(document(study, capsys, replays=25, workers=workers), "none") for workers in (4, 20))
    assert (few["epochs_saved"], few["best_kept"]) == (0, 1)
    assert (many["epochs_saved"], many["best_kept"]) == (None, None)
    main([str(study), "--replays", "25", "--workers", "20"])
    assert "?              ?   none\n" in capsys.readouterr().out


def test_a_maximized_objective_is_better_when_larger(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    rising = [[level - 0.5 / (epoch + 1) for epoch in range(EPOCHS)] for level in np.linspace(0.5, 1, 30)]
    found = document(write(rising, metric="val_accuracy"), capsys, replays=50)
    assert row(found, "peers")["reached"]["100%"] > row(found, "none")["reached"]["100%"]
    assert found["gain"] > 0


def test_a_training_that_diverged_ends_there(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    curves = [[0.1, np.nan], *parallel(np.linspace(0.5, 1, 15))]
    study = write(curves)
    (curve, *_) = read_study(study).curves
    assert curve.values[0] == 0.1 and np.isnan(curve.values[1])
    assert row(document(study, capsys, replays=25), "none")["reached"]["100%"] >= 0.1


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (
            12,
            {"state": "pruned"},
            "12 of its 12 trials were pruned, and how their curves end is not known; search once",
        ),
        (5, {}, "5 trials with a whole curve; replay needs 12 at least"),
        (12, {"folds": [{"val_loss": 0.1}]}, "its trials train several folds"),
    ],
)
def test_what_cannot_be_replayed_is_refused(write: Write, count: int, options: dict[str, Any], message: str) -> None:
    study = write(parallel(np.linspace(0, 1, count)), **options)
    with pytest.raises(UserError, match=message):
        read_study(study)


def test_each_setting_makes_its_pruner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    made = {name: make() for name, make in pruners_for(EPOCHS).items()}
    assert len(made) == sum(map(len, PRUNERS.values())) > 10
    assert {type(one).__name__ for one in made.values()} >= {"PeerPruner", "HyperbandPruner", "NopPruner"}


def test_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing: no such folder"):
        read_study(tmp_path / "nothing")
