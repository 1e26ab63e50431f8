"""Which pruner a sweep of unpruned trials would have needed.

    python -m benchmarks.replay multirun/STUDY [--replays 1000] [--workers 1] [--seed 0] [--json]

The sweep ran with hydra/sweeper/pruner=none. Printed is what each pruner would reach with the same seconds and with the
same epochs, replayed from the learning curves of the sweep, and the overrides of the best one; or that the trials are
too few to tell.
"""

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner

from benchmarks.replay.resampling import BUDGET_PART, COSTS, HALVES, PARTS, Replayed, interval, replays
from benchmarks.replay.workers import Curve
from sweeper_digits import command_line
from sweeper_digits.config import KNOWN_AT_THE_END
from sweeper_digits.errors import UserError
from sweeper_digits.runs import recipe
from sweeper_digits.runs.judge import interval_text
from sweeper_digits.runs.record import Record, direction_of, find_runs, objectives_of
from sweeper_digits.screen import beneath
from sweeper_digits.sweep.choose_pruner import for_trainings, make_pruner
from sweeper_digits.text import as_json, counted

NONE = "none"
# Options of hydra/sweeper/pruner that are replayed, and settings of theirs beside those in conf/.
PRUNERS: dict[str, list[list[str]]] = {
    NONE: [[]],
    "peers": [[], ["percentile=25"], ["percentile=50"], ["first_fraction=0.25"]],
    "median": [[], ["n_startup_trials=1", "n_warmup_steps=1"]],
    "percentile": [[], ["n_startup_trials=1"]],
    "successive_halving": [[], ["reduction_factor=2"]],
    "hyperband": [[]],
    "patient": [[]],
}
# Fewer trials say nothing: a half of them is one budget of two trainings.
FEWEST = 12
FEWEST_EPOCHS = 2
WIDTH = 110


@dataclass(frozen=True)
class Recorded:
    """The trials of a study, as replays take them.

    Attributes:
        curves: Of the trials; smaller values are better.
        objective: What the values are of.
        sign: -1 where the objective is maximized, else 1.
        left_out: Trials that failed or did not end.
    """

    curves: list[Curve]
    objective: str
    sign: float
    left_out: int


def main(given: Sequence[str] | None = None) -> None:
    """Replay, and print a table for each kind of budget and a recommendation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a sweep with hydra/sweeper/pruner=none")
    parser.add_argument("--replays", type=int, default=1000, help="of each pruner")
    parser.add_argument("--workers", type=int, default=1, help="simulated ones")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--json", action="store_true", help="print one JSON document, nothing else")
    arguments = parser.parse_args(given)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recorded = read_study(arguments.study)
    epochs = max(len(curve.values) for curve in recorded.curves)
    pruners = pruners_for(epochs)
    found: dict[str, dict[str, Replayed]] = {kind: {} for kind in COSTS}
    for kind, name, replayed in replays(recorded.curves, pruners, arguments.replays, arguments.workers, arguments.seed):
        found[kind][name] = replayed
        if sys.stderr.isatty():
            done = sum(map(len, found.values()))
            beneath(sys.stderr).write(f"\r{done} of {len(COSTS) * len(pruners)} replayed\x1b[K")
    if sys.stderr.isatty():
        beneath(sys.stderr).write("\r\x1b[K")
    if arguments.json:
        print(as_json(document_of(recorded, found)), end="")
    else:
        print("\n".join(lines_of(arguments, recorded, epochs, found)))


def read_study(path: Path) -> Recorded:
    """Return the learning curves of a study that pruned nothing.

    Raises:
        UserError: Trials that were pruned, too few of them, or curves of another kind.
    """
    records = find_runs([path])
    objective = objectives_of(records)[0]
    if objective in KNOWN_AT_THE_END:
        raise UserError(f"{path}: its objective is {objective}; replay needs one that each epoch measures")
    if any(record.metrics.get("folds") for record in records):
        raise UserError(f"{path}: its trials train several folds; replay takes trials of one training")
    if pruned := sum(record.state == "pruned" for record in records):
        raise UserError(
            f"{path}: {pruned} of its {counted(len(records), 'trial')} were pruned, and how their curves end is not "
            "known; search once more with hydra/sweeper/pruner=none study=NAME"
        )
    whole = [record for record in records if record.state in ("finished", "diverged") and record.history]
    if len(whole) < FEWEST:
        raise UserError(f"{path}: {counted(len(whole), 'trial')} with a whole curve; replay needs {FEWEST} at least")
    if max(len(record.history) for record in whole) < FEWEST_EPOCHS:
        raise UserError(f"{path}: its trials have one epoch, so there is nothing to prune")
    sign = -1.0 if direction_of(records, objective) == "maximize" else 1.0
    return Recorded([_curve(record, objective, sign) for record in whole], objective, sign, len(records) - len(whole))


def _curve(record: Record, objective: str, sign: float) -> Curve:
    values = np.array([row.get(objective, np.nan) for row in record.history], float)
    return Curve(sign * values, np.array([row["seconds"] for row in record.history], float), sign * values)


def pruners_for(epochs: int) -> dict[str, Callable[[], BasePruner]]:
    """Return what makes each pruner that is replayed, by the overrides that a person types for it."""
    compose = recipe.composer(command_line.CONF)
    found: dict[str, Callable[[], BasePruner]] = {}
    for name, settings in PRUNERS.items():
        for keys in settings:
            overrides = [f"hydra/sweeper/pruner={name}", *(f"hydra.sweeper.pruner.{key}" for key in keys)]
            options = for_trainings(compose(overrides).hydra.sweeper.pruner, epochs)
            found[" ".join(overrides)] = partial(make_pruner, options)
    return found


@dataclass(frozen=True)
class Advice:
    """What the replays recommend.

    Attributes:
        best: The setting that reaches the best place among the trials, with a budget in seconds.
        gain: How much better than without pruning, in the objective's unit.
        place, plain: Share of the trials that are better than what is reached, with it and without pruning.
        half: Half the width of the 95 % interval of the difference of the two.
        equals: The other settings that are not told apart from it.
    """

    best: str
    gain: float
    place: float
    plain: float
    half: float
    equals: list[str]

    @property
    def fewer(self) -> str:
        """Return the 95 % interval of the difference of the two shares, in words."""
        gap = self.plain - self.place
        return f"the difference is {interval_text(100 * gap, 100 * self.half)} percentage points"

    @property
    def tells(self) -> bool:
        """Return whether the difference to no pruning is more than chance."""
        return self.plain - self.place > self.half


def advise(found: dict[str, Replayed]) -> Advice:
    """Compare settings by the place that they reach at the end of a budget, over the same halves of the trials."""
    best = min(found, key=lambda name: (float(found[name].place.mean()), float(found[name].reached[:, -1].mean())))
    plain = next(name for name in found if name.endswith(f"={NONE}"))
    gain = float(np.mean(found[plain].reached[:, -1] - found[best].reached[:, -1]))
    behind = {name: one.place - found[best].place for name, one in found.items() if name != best}
    equals = [name for name, more in behind.items() if more.mean() <= interval(more, comparisons=len(behind))]
    half = interval(found[plain].place - found[best].place, comparisons=len(found) - 1)
    return Advice(best, gain, float(found[best].place.mean()), float(found[plain].place.mean()), half, equals)


def lines_of(
    arguments: argparse.Namespace, recorded: Recorded, epochs: int, found: dict[str, dict[str, Replayed]]
) -> list[str]:
    """Return the tables and the recommendation."""
    trials, workers = counted(len(recorded.curves), "trial"), counted(arguments.workers, "worker")
    lines = [
        f"{trials} of {counted(epochs, 'epoch')} at most, {recorded.objective}; {workers}; "
        f"{arguments.replays} replays of each pruner",
        "A replay draws from a half of the trials until a third of their seconds, or epochs, is used up. Better ones",
        f"are the share of the half that beats what was reached; 95 % is its interval over {HALVES} halves.",
    ]
    if recorded.left_out:
        lines.append(f"Left out: {counted(recorded.left_out, 'trial')} that failed or did not end.")
    for kind, table in found.items():
        lines += ["", *_table(kind, table, recorded)]
    return [*lines, "", *_recommendation(advise(found["seconds"]), recorded)]


def _table(kind: str, table: dict[str, Replayed], recorded: Recorded) -> list[str]:
    heads = "".join(f"{f'{part:.0%}':>8s}" for part in PARTS)
    lines = [f"{recorded.objective} reached at equal {kind}, after a part of the budget:"]
    lines.append(f"{heads}{'95 %':>18s}{'better ones':>12s}{'best kept':>11s}{'epochs saved':>15s}   pruner")
    for name, one in sorted(table.items(), key=lambda item: float(item[1].place.mean())):
        values = "".join(f"{recorded.sign * value:8.4f}" for value in one.reached.mean(axis=0))
        end, half = recorded.sign * float(one.reached[:, -1].mean()), interval(one.reached[:, -1])
        shares = f"{one.place.mean():12.1%}{_shown(one.survived):>11s}{_shown(one.saved):>15s}"
        lines.append(f"{values}  {end - half:.4f} to {end + half:.4f}{shares}   {_short(name)}")
    return lines


def _mean(shares: np.ndarray) -> float:
    """Return the mean over the halves; NaN where no trial ended in any: each worker had its first one still."""
    known = shares[np.isfinite(shares)]
    return float(known.mean()) if len(known) else float("nan")


def _shown(shares: np.ndarray) -> str:
    return "?" if np.isnan(mean := _mean(shares)) else f"{mean:.0%}"


def _short(overrides: str) -> str:
    return overrides.replace("hydra/sweeper/pruner=", "").replace("hydra.sweeper.pruner.", "")


def _recommendation(advice: Advice, recorded: Recorded) -> list[str]:
    places = f"{advice.place:.1%} of the trials are better than what it reaches, {advice.plain:.1%} without pruning"
    if not advice.tells:
        return [
            f"too few trials to tell, or too few replays; the best here is {_short(advice.best)}:",
            f"{places};",
            advice.fewer,
        ]
    lines = [
        f"recommended  {advice.best}",
        f"             {places}; {advice.fewer}; {recorded.objective} is better by {advice.gain:.4f}",
    ]
    if advice.equals:
        lines.append(f"             not told apart from it: {'; '.join(map(_short, advice.equals))}")
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent=" " * 13)]


def document_of(recorded: Recorded, found: dict[str, dict[str, Replayed]]) -> dict[str, Any]:
    """Return what `--json` prints."""
    advice = advise(found["seconds"])
    return {
        "objective": recorded.objective,
        "trials": len(recorded.curves),
        "left_out": recorded.left_out,
        "budget": BUDGET_PART,
        "recommended": advice.best if advice.tells else None,
        "best": advice.best,
        "gain": advice.gain,
        "better_ones": advice.place,
        "better_ones_without_pruning": advice.plain,
        "difference_interval": advice.half,
        "not_told_apart": advice.equals,
        "replayed": [
            {
                "equal": kind,
                "pruner": name,
                "reached": dict(
                    zip((f"{part:.0%}" for part in PARTS), recorded.sign * one.reached.mean(axis=0), strict=True)
                ),
                "reached_interval": interval(one.reached[:, -1]),
                "better_ones": one.place.mean(),
                "best_kept": _mean(one.survived),
                "epochs_saved": _mean(one.saved),
            }
            for kind, table in found.items()
            for name, one in table.items()
        ],
    }


if __name__ == "__main__":
    main()
