"""Finalists once more, on seeds or folds that the search did not see: was the winner luck?"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from omegaconf import OmegaConf

from sweeper_digits.command_line import CONF
from sweeper_digits.errors import UserError
from sweeper_digits.results import compare
from sweeper_digits.results.compare import Configuration
from sweeper_digits.runs import record as records
from sweeper_digits.runs.folder import replacing
from sweeper_digits.runs.recipe import text


def finalists(sweep: Path, top: int) -> list[Configuration]:
    """Return the best configurations of a sweep, best first.

    Raises:
        UserError: Nothing finished there.
    """
    found = records.find([sweep])
    best = compare.configurations(found, records.objectives_of(found)[0])[:top]
    if not best:
        raise UserError(f"{sweep}: no finished run in it")
    return best


def points(best: list[Configuration], seeds: int | None, folds: int | None) -> list[dict[str, object]]:
    """Return the runs to be made: each finalist on new seeds, or once on all folds.

    The seed of the search itself is left out: its value was chosen for being good.
    """
    made: list[dict[str, object]] = []
    for group in best:
        run = os.path.relpath(group.runs[0].run.folder)
        if folds:
            made.append({"from_run": run, "split": "kfold", "split.folds": folds})
            continue
        used = {record.settings.get("seed") for record in group.runs}
        fresh = (seed for seed in range(1, 10_000) if seed not in used)
        made += [{"from_run": run, "seed": next(fresh)} for _ in range(seeds or 0)]
    return made


def train(sweep: Path, made: list[dict[str, object]], n_jobs: int) -> tuple[Path, int]:
    """Make the runs that are missing, as a sweep of its own beside the first; return its folder and exit status."""
    name = f"{sweep.resolve().name}_confirm"
    folder = sweep.parent / name
    file = folder / "points.yaml"
    with replacing(file) as temporary:
        OmegaConf.save(OmegaConf.create(made), temporary)
    objectives = records.objectives_of(records.find([sweep]))
    command = [
        *(sys.executable, str(CONF.parent / "train.py"), "--multirun"),
        *(f"study={text(name)}", f"hydra.sweep.dir={text(str(folder))}", f"search.points={text(str(file))}"),
        f"objective={text(objectives)}",
        *(f"hydra.sweeper.n_jobs={n_jobs}", f"hydra.sweeper.keep_models={len(made)}", "hydra/sweeper/pruner=none"),
    ]
    return folder, _passing_signals_on(command)


def _passing_signals_on(command: list[str]) -> int:
    """Run a command to its end and return its exit status; Ctrl-C and SIGTERM end it, and it then has its time.

    It has a process group of its own, so that a terminal does not interrupt it a second time.
    """
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]  # set by nohup
    with subprocess.Popen(command, process_group=0) as process:
        before = {number: signal.signal(number, lambda n, _: process.send_signal(n)) for number in numbers}
        try:
            return process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def ranking(folder: Path, best: list[Configuration], made: list[dict[str, object]], objective: str) -> list[str]:
    """Return the lines of the result: mean and interval of each finalist, and which differences are noise.

    Only the runs at the points `made` count: those of an earlier call with folds are not mixed with seeds.
    """
    by_run = {os.path.relpath(group.runs[0].run.folder): group for group in best}
    found = [
        record
        for record in records.find([folder])
        if any(all(record.settings.get(name) == value for name, value in point.items()) for point in made)
    ]
    groups = compare.configurations(found, objective)
    lines = [f"rank  {objective + ', mean':20s} 95 % interval   n   in the search   run"]
    for rank, group in enumerate(groups, 1):
        origin = by_run[str(group.runs[0].settings["from_run"])]
        first = "" if rank == 1 else _verdict(groups[0], group, objective)
        interval = f"± {group.interval:.2g}" if len(group.samples) > 1 else ""
        lines.append(
            f"{rank:4d}  {group.mean:<20.5g} {interval:15s} {len(group.samples):<3d} "
            f"{origin.runs[0].value(objective):<15.5g} {origin.runs[0].run.folder}  {first}"
        )
    return lines


def _verdict(first: Configuration, other: Configuration, objective: str) -> str:
    differ, _ = compare.difference(first, other, objective)
    return {True: "worse", False: "not told apart from the first", None: ""}[differ]
