"""A sweep on the screen: what its lines say, at every width."""

import io
import math
import re
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from sweeper_digits.sweep.show import Running, View, row, short_names, summary, table
from sweeper_digits.sweep.storage import open_storage
from tests.conftest import ESCAPE, ROOT, on_a_terminal
from tests.sweep.conftest import LEARNING_RATE, SLEEPER, STEADY

NAMES = ["optimizer", "optimizer.learning_rate", "model.dropout"]
POINT = {"optimizer": "adamw", "optimizer.learning_rate": 0.0123456, "model.dropout": 0.25}


def trial_of(state: TrialState, value: float | None = None, **attributes: Any) -> FrozenTrial:
    """A trial that took 75 s."""
    trial = optuna.create_trial(
        state=state,
        value=value,
        params=POINT,
        distributions={
            "optimizer": CategoricalDistribution(["adamw", "sgd"]),
            "optimizer.learning_rate": FloatDistribution(0, 1),
            "model.dropout": FloatDistribution(0, 1),
        },
        user_attrs={"epochs": 8, **attributes},
    )
    trial.number, trial.datetime_start = 7, datetime(2026, 1, 1)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=75)
    return trial


def running(number: int, **changes: Any) -> Running:
    values: dict[str, Any] = {"number": number, "worker": f"node/{number}", "epoch": 3, "epochs": 8}
    values |= {"measured": {"loss": 0.1, "val_loss": 0.2, "images_per_second": 1234.5}}
    return Running(**values | {"rank": 2, "of": 9, "bar": 0.15, "point": POINT} | changes)


def view_of(trials: list[Running], **changes: Any) -> View:
    values: dict[str, Any] = {"objectives": ["val_loss"], "running": trials, "ended": [], "names": NAMES}
    values |= {
        "cut_off": 0,
        "foreign": 0,
        "front": [],
        "states": Counter({TrialState.COMPLETE: 5, TrialState.PRUNED: 3, TrialState.RUNNING: len(trials)}),
    }
    values |= {"best": trial_of(TrialState.COMPLETE, 0.0170, standard_error=0.0031), "varied": {"model.dropout"}}
    values |= {"used": {"n_trials": (8, 40), "timeout": (90.0, 300.0), "n_epochs": (44, 500)}, "seconds_left": 210.0}
    return View(**values | changes)


def drawn(view: View, width: int, height: int = 40) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None).print(table(view, width, height))
    return stream.getvalue().splitlines()


def test_a_row_has_the_value_with_its_error_and_the_parameters_last() -> None:
    complete = row(trial_of(TrialState.COMPLETE, 0.0170, standard_error=0.0031), ["val_loss"], NAMES, is_best=True)
    pruned = row(trial_of(TrialState.PRUNED), ["val_loss"], NAMES, is_best=False)
    point = "optimizer=adamw learning_rate=0.01235 dropout=0.25"
    assert complete.split() == f"#7 val_loss 0.017 ± 0.0031 8 epochs 75 s best {point}".split()
    assert pruned.split() == f"#7 pruned 8 epochs 75 s {point}".split()
    assert complete.index("optimizer=") == pruned.index("optimizer="), "the rows are aligned"


def test_a_row_of_a_failed_trial_has_the_cause_and_nothing_that_controls_a_terminal() -> None:
    cut_off = trial_of(TrialState.FAIL, error="its worker died", cut_off="died")
    assert row(cut_off, ["val_loss"], NAMES, is_best=False) == "#7    cut off its worker died"
    failed = trial_of(TrialState.FAIL, error="no\x1b[2J room")
    assert row(failed, ["val_loss"], NAMES, is_best=False) == "#7    failed  no\N{REPLACEMENT CHARACTER}[2J room"


def test_a_name_is_short_where_that_is_unambiguous() -> None:
    names = ["optimizer.learning_rate", "model.dropout", "model.first.width", "model.second.width", "seed"]
    assert list(short_names(names).values()) == ["learning_rate", "dropout", *names[2:4], "seed"]


def test_the_table_keeps_to_the_width_and_to_one_line_for_each_trial() -> None:
    for width in (40, 50, 60, 75, 80, 90, 100, 120, 160, 200):
        check_width(width)


def check_width(width: int) -> None:
    lines = drawn(view_of([running(1), running(12), running(103, epochs=None, measured={}, rank=None)]), width)
    assert max(map(len, lines)) <= width
    assert len(lines) == 1 + 3 + 2
    assert "3/8" in lines[1] and "0.2" in lines[1] and "#103" in lines[3] and "starts" in lines[3]
    assert lines[4].startswith("8/40 done, 3 pruned")
    assert ("learning_rate" in lines[1]) is False and ("dropout=0.25" in lines[1]) is (width >= 60), "what varies"
    if width >= 100:
        assert lines[1].split()[:9] == ["#1", "1", "━━━━──────", "3/8", "0.1", "0.2", "2/9", "bar", "0.15"]


def test_trials_without_room_are_counted() -> None:
    lines = drawn(view_of([running(number) for number in range(30)]), 120, height=20)
    assert len(lines) <= 19 and "and 17 more" in lines[-3]


def test_workers_of_several_machines_are_named_by_their_machine_too() -> None:
    assert "node/1" not in "\n".join(drawn(view_of([running(1), running(2)]), 120))
    assert "node/1" in "\n".join(drawn(view_of([running(1), running(2, worker="other/0")]), 120))


def test_the_summary_says_what_is_left_and_the_best_with_its_error() -> None:
    totals, best = summary(view_of([running(1)]))
    assert totals == "8/40 done, 3 pruned, 1 running, 1:30 of 5:00 minutes, 44 of 500 epochs, 3:30 left"
    assert best.startswith("best #7: val_loss 0.017 ± 0.0031  optimizer=adamw")
    several = view_of([], best=None, used={}, front=[3, 7], cut_off=1, states=Counter({TrialState.FAIL: 3}))
    assert summary(several)[:2] == ["0 done, 2 failed, 1 cut off, 3:30 left", "Pareto front of 2 trials: #3, #7"]
    assert summary(view_of([], best=None, used={}, seconds_left=math.inf)) == ["8 done, 3 pruned"]


def test_a_sweep_on_a_terminal_shows_rows_above_its_table(tmp_path: Path) -> None:
    command = [str(SLEEPER), "-m", LEARNING_RATE, "model.dropout=interval(0,0.5)", "hydra.sweeper.n_trials=3"]
    written = on_a_terminal([*command, "epochs=4", *STEADY], folder=tmp_path, SLEEPER_SECONDS="3", COLUMNS="102")
    lines = [line for line in re.split(r"[\r\n]+", ESCAPE.sub("", written)) if line]
    assert [line[:2] for line in lines if re.match(r"#\d +val_loss", line)] == ["#0", "#1", "#2"]
    assert any(re.match(r"#0 +0 +[━─]{10} [1-4]/4 +[\d.]+ +[\d.]+ +1/1 ", line) for line in lines)
    assert any(re.match(r"[01]/3 done, 1 running", line) for line in lines)
    assert max(len(line) for line in lines if line.startswith("#")) <= 100
    end = lines.index(next(line for line in lines if line.startswith("trials ")))
    assert not any("running" in line for line in lines[end:]), "the table is gone"
    assert "compare    python -m sweeper_digits compare multirun/sweep" in lines


def test_the_picture_of_the_terminal_is_drawn(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    storage = open_storage(url, 60)
    study = optuna.create_study(study_name="s", storage=storage)
    study.add_trial(trial_of(TrialState.COMPLETE, 0.0170, standard_error=0.0031))
    script, picture = ROOT / "docs" / "terminal.py", tmp_path / "terminal.svg"
    subprocess.run([sys.executable, str(script), "s", "--storage", url, "--to", str(picture)], check=True)
    text = picture.read_text(encoding="utf-8")
    assert "<svg" in text and "0.017" in text and "https://" not in text.replace("https://www.textualize.io", "")
