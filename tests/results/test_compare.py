"""A real sweep side by side; folders that are no whole runs among the whole ones."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper_digits.results import compare
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.record import Record
from sweeper_digits.text import with_error
from tests.refusals import not_refused

Tool = Callable[..., str]
SWEEP = Path("multirun/first")


def rows(tool: Tool, *arguments: str) -> list[dict[str, Any]]:
    return json.loads(tool("compare", *arguments, "--json"))


def test_table_ranks_by_the_objective_and_shows_only_what_differs(tool: Tool) -> None:
    found = rows(tool, "multirun")
    assert [row["rank"] for row in found] == [1, 2, 3, 4]
    losses = [row["val_loss"] for row in found]
    assert losses == sorted(losses)
    assert set(found[0]) == {
        *("rank", "val_loss", "val_loss_se", "optimizer", "seed", "val_accuracy", "val_accuracy_se"),
        *("epochs", "seconds", "state", "folder"),
    }
    for row in found:
        assert RunFolder(row["folder"]).read_metrics()["val_loss"] == row["val_loss"]
    assert {(row["optimizer"], row["seed"]) for row in found} == {("adam", 1), ("adam", 2), ("sgd", 1), ("sgd", 2)}


def test_filter_sort_top_group_and_csv(tool: Tool) -> None:
    chosen = rows(
        tool, "multirun", "--filter", "optimizer == 'sgd' and val_loss < 100", "--sort", "seed", "--descending"
    )
    assert [row["seed"] for row in chosen] == [2, 1]
    assert all(row["rank"] and "optimizer" not in row for row in chosen)  # in which these do not differ
    sgd = {row["folder"] for row in rows(tool, "multirun") if row["optimizer"] == "sgd"}
    assert {row["folder"] for row in chosen} == sgd
    assert len(rows(tool, "multirun", "--top", "3")) == 3
    groups = tool("compare", "multirun", "--group-by", "optimizer").splitlines()
    assert groups[0].split() == ["optimizer", "mean", "std", "best", "count", "mean_rank"] and len(groups) == 5
    losses = {row["folder"]: row["val_loss"] for row in rows(tool, "multirun") if row["optimizer"] == "adam"}
    (adam,) = [line.split() for line in groups if line.split()[:1] == ["adam"]]
    assert float(adam[1]) == pytest.approx(np.mean(list(losses.values())), rel=1e-3) and adam[4] == "2"
    assert groups[-1] == "mean, std and best are of val_loss"
    table = tool("compare", "multirun", "--csv").splitlines()
    assert table[0].startswith("rank,val_loss,val_loss_se,optimizer,") and len(table) == 5


def test_a_setting_whose_bad_runs_were_pruned_does_not_rank_first(monkeypatch: pytest.MonkeyPatch, tool: Tool) -> None:
    ended = [("adam", "finished", 0.1), *[("adam", "pruned", 0.5)] * 9, ("adam", "unfinished", None)]
    ended += [("sgd", "finished", 0.110 + 0.002 * n) for n in range(10)]
    ended += [("muon", "diverged", None), ("muon", "failed", None)]
    found = [
        Record(RunFolder(f"sweep/{number}"), state, {"optimizer": name}, metrics={"val_loss": value})
        for number, (name, state, value) in enumerate(ended)
    ] + [Record(RunFolder("sweep/99"), "unreadable")]
    monkeypatch.setattr(compare, "find_runs", lambda _: found)
    groups = {row["optimizer"]: row for row in rows(tool, "multirun", "--group-by", "optimizer")}
    assert list(groups) == ["sgd", "adam", "muon"]
    assert groups["adam"] == {
        **{"optimizer": "adam", "mean": 0.1, "std": None, "best": 0.1, "count": 1, "mean_rank": 15.4},
        **{"pruned": 9, "diverged": 0, "failed": 0, "unfinished": 1},
    }
    assert groups["muon"]["count"] == 0 and groups["muon"]["mean"] is None and groups["sgd"]["mean_rank"] == 6.5
    said = (
        "mean, std and best are of val_loss, over finished runs only; mean_rank is over all, pruned, diverged, failed "
        "last; unfinished runs do not count"
    )
    assert said in tool("compare", "multirun", "--group-by", "optimizer")


def test_values_stand_beside_their_errors(tool: Tool) -> None:
    out = tool("compare", str(SWEEP), "--report", "runs.html")
    page = Path("runs.html").read_text()
    for row in rows(tool, str(SWEEP)):
        for name in ("val_loss", "val_accuracy"):
            shown = with_error(row[name], row[f"{name}_se"])
            assert " ± " in shown and shown in out and shown in page
    assert "_se" not in out


def test_a_reader_that_has_seen_enough_gets_no_complaint(tool: Tool) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "sweeper_digits", "compare", "multirun", "--no-report"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == ""


def test_a_filter_decides_what_is_best(tool: Tool) -> None:
    found = rows(tool, "multirun")
    loser = found[-1]
    chosen = f"optimizer == '{loser['optimizer']}' and seed == {loser['seed']}"
    out = tool("compare", "multirun", "--filter", chosen, "--no-report")
    assert f"from_run={loser['folder']} seed=1" in out
    assert f"optimizer={loser['optimizer']}" in out or loser["optimizer"] == "adamw"


def test_broken_folders_are_shown_as_what_they_are(tool: Tool) -> None:
    for number, name in enumerate(("unfinished", "cut", "foreign", "empty")):
        shutil.copytree(SWEEP / "0", SWEEP / str(10 + number))
        folder = SWEEP / str(10 + number)
        if name == "unfinished":
            (folder / "metrics.json").unlink()
        if name == "cut":
            (folder / "metrics.json").write_text('{"state": "fin')
        if name == "foreign":
            (folder / ".hydra" / "config.yaml").write_text("db: mysql\n")
        if name == "empty":
            (folder / ".hydra" / "config.yaml").write_text("")
    (SWEEP / "14").mkdir()
    found = {Path(str(row["folder"])).name: row for row in rows(tool, "multirun/first")}
    states = {name: row["state"] for name, row in found.items()}
    assert states == {str(n): "finished" for n in range(4)} | {
        **{"10": "unfinished", "11": "unreadable", "12": "foreign", "13": "foreign"}
    }
    assert "metrics.json: not readable" in str(found["11"]["note"])
    assert "finished" in tool("compare", "multirun/first")


REFUSED = [
    (["compare", "nowhere"], "nowhere: no such folder"),
    (["compare", "multirun/first/0/.hydra"], "no run in it"),
    (["compare", "multirun", "--sort", "val_los"], r"no such column \(did you mean 'val_loss'"),
    (["compare", "multirun", "--filter", "nothing < 1"], "--filter 'nothing < 1': name 'nothing' is not defined"),
    (["compare", "multirun", "--filter", "seed > 5", "--no-report"], "no run is left"),
    (["compare", "multirun", "--filter", "1"], "--filter '1': not true or false of each run; for example"),
    (["compare", "multirun", "--filter", "rank"], "--filter 'rank': not true or false of each run"),
    (
        ["compare", "multirun", "--report", "multirun"],
        "multirun: a folder; name a file, for example --report runs.html",
    ),
    (["compare", "multirun", "--group-by", "optimiser"], r"no run has this setting \(did you mean 'optimizer'"),
    (["doctor", "second"], "second: no such study"),
    (["doctor", "--storage", "sqlite:///none.db"], "no such file; start a sweep"),
    (["doctor", "--storage", "postgresql://me:secret@127.0.0.1:1/x"], "^(?!.*secret).*the database cannot be read"),
    (["doctor", "--storage", "nonsense"], "--storage=nonsense: not the URL of a database"),
    (["compare", "multirun", "--csv", "--promote", "mine"], "leave --promote and --report out"),
]


def test_bad_input_is_one_line(tool: Tool) -> None:
    assert not_refused(lambda arguments: tool(*arguments), REFUSED) == []
