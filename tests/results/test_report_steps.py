"""What the report says is to be done next: commands that a shell takes as they are."""

import html
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper_digits.results.steps import next_steps
from sweeper_digits.runs.judge import Configuration, Difference, Winner, judge_winner
from sweeper_digits.runs.record import find_runs
from tests.conftest import ROOT

Tool = Callable[..., str]


def commands(report: Path) -> list[str]:
    return [html.unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", report.read_text(encoding="utf-8"), re.S)]


def in_shell(command: str, python: str) -> str:
    """What a shell prints for a command, with a function in the place of python."""
    script = f"set -e; python() {{ {python}; }}; {command}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def words(command: str) -> list[str]:
    """The arguments that a shell makes of a command of one line."""
    return in_shell(command, r'printf "%s\0" "$@"').split("\0")[:-1]


def test_commands_of_a_sweep_whose_points_were_all_tried(tool: Tool) -> None:
    sweep = Path("multirun/first").rename('multirun/it\'s $HOME; `id` "<b>"')
    tool("compare", str(sweep))
    confirm, predict, again = commands(sweep / "report.html")
    assert words(confirm)[2:] == ["confirm", str(sweep), "--top", "2", "--seeds", "3"]
    assert words(predict) == ["-m", "sweeper_digits", "predict", str(sweep), "--top", "3"]  # keep_models=3
    assert [line.split()[:4] for line in again.splitlines()] == [["python", "-m", "sweeper_digits", "train"]] * 2
    assert "accuracy" in tool(*words(predict)[2:])


def test_a_filter_chooses_what_the_commands_are_about(tool: Tool) -> None:
    tool("compare", "multirun/first", "--filter", "rank == 1")
    (predict, _) = commands(Path("multirun/first/report.html"))
    assert re.fullmatch("predict multirun/first/[0-3] --top 1", " ".join(words(predict)[2:]))


def test_the_best_is_confirmed_until_it_is_told_apart(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(swept)
    runs = find_runs(["multirun/first"])
    for gaps, wanted in (([0.01], True), ([0.01, 0.03], True), ([0.01, 0.0101], False)):
        groups = [
            Configuration([runs[0]], {(seed, 0): 0.1 for seed in range(len(gaps))}),
            Configuration([runs[2]], {(seed, 0): 0.1 + gap for seed, gap in enumerate(gaps)}),
        ]
        winner = judge_winner(groups, "val_loss")
        steps = next_steps(["multirun/first"], False, runs, groups, winner, "sqlite:///none.db")
        assert any(" confirm " in step.command for step in steps) == wanted, gaps


def test_a_run_of_another_conf_can_be_predicted_with_but_not_trained_again(tool: Tool) -> None:
    for number in range(4):
        config = Path(f"multirun/first/{number}/.hydra/config.yaml")
        config.write_text(config.read_text() + "forgotten: 1\n")
    tool("compare", "multirun/first")
    assert [words(one)[2] for one in commands(Path("multirun/first/report.html"))] == ["predict"]


@pytest.mark.slow
def test_a_search_goes_on_as_it_began(tool: Tool, tiny: list[str]) -> None:
    space = ["optimizer.learning_rate=tag(log,interval(1e-3,1e-2))", "model.dropout=0.1,0.2"]
    budget = ["hydra.sweeper.n_trials=1", "hydra.sweeper.timeout=3000"]
    own = ["hydra/sweeper/pruner=none", *budget, "hydra.sweep.dir=my sweeps/one"]
    begin = [sys.executable, "-m", "sweeper_digits", "train", "-m", *tiny, "epochs=1", "study=one", *space, *own]
    subprocess.run(begin, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, timeout=200)
    tool("compare", "my sweeps/one")
    (search,) = [one for one in commands(Path("my sweeps/one/report.html")) if "n_trials" in one]
    more = {"hydra.sweeper.n_trials=2", "hydra.sweeper.timeout=6000"}
    assert {"hydra/sweeper/pruner=none", *more} < set(words(search))
    in_shell(search, f'{sys.executable} "$@"')
    assert {path.name for path in Path("my sweeps/one").iterdir() if path.name.isdecimal()} == {"0", "1"}


def test_whether_a_lead_may_be_luck() -> None:
    # Whether the best differs from the second, how many others are within noise, how many are not judged.
    expected = {
        (True, 0, 0): False,
        (True, 3, 0): True,
        (True, 0, 1): None,
        (False, 1, 0): True,
        (None, None, None): None,
    }
    for (differ, within, unknown), luck in expected.items():
        assert Winner(Difference(differ, ""), within, unknown, None, []).may_be_luck is luck
    assert Winner(None, 0, 0, None, []).may_be_luck is None
