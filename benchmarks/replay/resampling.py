"""What recorded trials say of a pruner, with the error that comes of their being few."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.pruners import BasePruner
from scipy import stats

from benchmarks.replay.pruning import PrunedSearch
from benchmarks.replay.workers import Curve, of_epochs, of_seconds, replay

# Random halves of the trials, over which replays are shared out.
HALVES = 25
# The budget is this part of the cost of training a half's trials whole, so that a pruner can try three times as many.
BUDGET_PART = 1 / 3
# Parts of the budget after which the value is noted.
PARTS = (0.25, 0.5, 1.0)
COSTS: dict[str, Callable[[Curve, int], float]] = {"seconds": of_seconds, "epochs": of_epochs}
CONFIDENCE = 0.95


@dataclass
class Replayed:
    """What replays under one pruner and one kind of budget gave.

    Attributes:
        reached: float64 (halves, parts), mean value reached after each part of the budget.
        place: float64 (halves,), mean share of the half's trials that are better than what the whole budget reached. It
            does not depend on how far apart the best few happen to be, so it tells pruners apart with fewer trials.
        survived: float64 (halves,), share of the replays in which the best of the trials that ended was not pruned.
        saved: float64 (halves,), share of the epochs of the trials that ended that were not trained. A trial that runs
            when the budget is used up counts in neither.
    """

    reached: np.ndarray
    place: np.ndarray
    survived: np.ndarray
    saved: np.ndarray


def interval(values: np.ndarray, comparisons: int = 1) -> float:
    """Return half the width of a 95 % interval of the mean over random halves of the trials.

    Of several comparisons, of which the best is picked, the interval is wide enough for all (Bonferroni).

    Replays draw from the same trials, so their spread alone is no error. Over halves it is: the delete-d jackknife
    (Shao and Wu 1989, https://doi.org/10.1214/aos/1176347263) has the variance over subsets times (n - d) / d, which is
    1 for halves.
    """
    return float(stats.t.ppf(1 - (1 - CONFIDENCE) / 2 / comparisons, len(values) - 1) * np.std(values, ddof=1))


def replays(
    curves: Sequence[Curve],
    pruners: Mapping[str, Callable[[], BasePruner]],
    count: int,
    workers: int,
    seed: int,
) -> Iterator[tuple[str, str, Replayed]]:
    """Yield the kind of budget, the name of the pruner and what its replays gave, for each of both.

    All pruners see the same halves of the trials in the same orders, so their differences have less noise.

    Args:
        curves: Of all trials; smaller values are better.
        pruners: Name -> makes the pruner anew for each replay.
        count: Replays of each; shared out over the halves, one at least for each.
        workers: Simulated ones.
        seed: Of halves and orders.
    """
    each = max(1, round(count / HALVES))
    for kind in COSTS:
        for name, make in pruners.items():
            found = [_half(curves, make, kind, (seed, half), each, workers) for half in range(HALVES)]
            yield kind, name, Replayed(*(np.array(part) for part in zip(*found, strict=True)))


def _half(
    curves: Sequence[Curve], make: Callable[[], BasePruner], kind: str, seed: tuple[int, int], each: int, workers: int
) -> tuple[np.ndarray, float, float, float]:
    """Return the means of `Replayed` over the replays of one half of the trials."""
    generator = np.random.default_rng(seed)
    half = generator.permutation(len(curves))[: len(curves) // 2]
    cost = COSTS[kind]
    budget = BUDGET_PART * sum(
        cost(curves[place], epoch) for place in half for epoch in range(len(curves[place].values))
    )
    ends = np.sort([_least(curves[place]) for place in half])
    reached: list[list[float]] = []
    survived: list[bool] = []
    saved: list[float] = []
    for _ in range(each):
        drawn = [curves[place] for place in generator.permutation(half)]
        name = hashlib.sha256(repr((seed, len(reached))).encode()).hexdigest()
        search = PrunedSearch(drawn, make(), name)
        trace = replay(search, budget, cost, workers)
        reached.append([trace.at(part * budget) for part in PARTS])
        if search.ended:
            best = min(search.ended, key=lambda place: _least(drawn[place]))
            survived.append(best not in search.pruned)
            trained = sum(search.epochs[place] for place in search.ended)
            saved.append(1 - trained / sum(len(drawn[place].values) for place in search.ended))
    places = np.searchsorted(ends, np.array(reached)[:, -1]) / len(ends)
    shares = (float(np.mean(found)) if found else float("nan") for found in (survived, saved))
    return np.nanmean(reached, axis=0), float(places.mean()), *shares


def _least(curve: Curve) -> float:
    return min((float(value) for value in curve.values if np.isfinite(value)), default=np.inf)
