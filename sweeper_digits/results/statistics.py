"""Repetitions of one configuration: their mean, its interval, and whether two configurations differ."""

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from sweeper_digits.results.mixture import data_settings
from sweeper_digits.runs.noise import WIDTH, gap_between, judge_noise, standard_error
from sweeper_digits.runs.record import Record, best_first, direction_of
from sweeper_digits.screen import counted

CONFIDENCE = 0.95
# Values of two configurations, the second's first.
Sample = tuple[list[float], list[float]]
OVERLAP = "their training sets overlap, so it is a little narrow (Nadeau and Bengio 2003)"


class Difference(NamedTuple):
    """Whether the second of two configurations is really worse than the first.

    Attributes:
        differ: None: nothing to judge by.
        text: A sentence.
        worse: How much worse the second is; None: nothing to judge by.
        half: Half the width of the 95 % interval of this difference.
    """

    differ: bool | None
    text: str
    worse: float | None = None
    half: float | None = None


class Winner(NamedTuple):
    """How the best configuration compares with the others.

    Attributes:
        second: The second's difference from the best; None: there is no second.
        within: How many others lie within noise of the best; None: not known.
        unknown: How many others cannot be judged; None: as `within`.
        needed: About how many validation images would tell the first two apart; None: not known, or they are apart.
        lines: The same in words.
    """

    second: Difference | None
    within: int | None
    unknown: int | None
    needed: int | None
    lines: list[str]

    @property
    def may_be_luck(self) -> bool | None:
        """Return whether another may be as good as the best; None: nothing tells."""
        if self.second is None:
            return None
        if self.second.differ is False or self.within:
            return True
        return None if self.second.differ is None or self.unknown else False


@dataclass
class Configuration:
    """The finished runs of one configuration: its seeds and folds.

    Attributes:
        runs: At least one.
        samples: The metric of each repetition, by seed and fold; of runs with equal seed and fold, their mean.
    """

    runs: list[Record]
    samples: dict[tuple[Any, Any], float]

    @property
    def folds(self) -> dict[Any, dict[Any, float]]:
        """Return the metric by fold and seed."""
        found: dict[Any, dict[Any, float]] = {}
        for (seed, fold), value in self.samples.items():
            found.setdefault(fold, {})[seed] = value
        return found

    @property
    def units(self) -> list[float]:
        """Return values that vary independently: the mean of each fold's seeds, or of a single fold each seed's value.

        The seeds of one fold share its validation images. Counted one by one, 5 folds with 3 seeds each would give a
        95 % interval that covers 68 %.
        """
        folds = list(self.folds.values())
        return [float(np.mean(list(seeds.values()))) for seeds in folds] if len(folds) > 1 else list(folds[0].values())

    @property
    def by_seed(self) -> dict[Any, float]:
        """Return the mean over folds of each seed that all folds have; nothing of a single fold, or of one such seed.

        A seed draws the same weights for all folds, so a lucky one may be lucky in each of them.
        """
        folds = list(self.folds.values())
        shared = set.intersection(*map(set, folds)) if len(folds) > 1 else set()
        return {s: float(np.mean([fold[s] for fold in folds])) for s in shared} if len(shared) > 1 else {}

    @property
    def mean(self) -> float:
        """Return the mean over the units."""
        return float(np.mean(self.units))

    @property
    def std(self) -> float:
        """Return the standard deviation over the units (n - 1); NaN of one."""
        return float(np.std(self.units, ddof=1)) if len(self.units) > 1 else float("nan")

    @property
    def interval(self) -> float:
        """Return the half width of the 95 % t interval of the mean; NaN of one unit.

        Where seeds and folds are crossed, the wider of two intervals: over folds, and over seeds.
        """
        ways = [self.units, list(self.by_seed.values())] if self.by_seed else [self.units]
        return max(_interval(stats.ttest_1samp, units, 0)[1] for units in ways)

    @property
    def covers(self) -> str:
        """Return what the interval covers, in words; nothing for one unit.

        Source of the remark on folds: Nadeau and Bengio, Inference for the generalization error, Machine Learning 2003.
        """
        if len(self.units) < 2:
            return ""
        if len(self.folds) == 1:
            images = self.runs[0].metrics.get("validation_images")
            shown = counted(images, "image") if isinstance(images, int) else "images"
            return f"over {len(self.units)} seeds, on the same {shown}"
        seeds = len(self.by_seed)
        crossed = f" or over {seeds} seeds, the wider of both" if seeds else ""
        return f"over {len(self.folds)} folds{crossed}; {OVERLAP}"


def group_repetitions(found: list[Record], objective: str) -> list[Configuration]:
    """Group finished runs that differ in seed and fold only; best mean first."""
    runs: dict[str, list[Record]] = {}
    for record in best_first(found, objective):
        runs.setdefault(record.configuration, []).append(record)
    groups = []
    for alike in runs.values():
        values: dict[tuple[Any, Any], list[float]] = {}
        for record in alike:
            for key, value in record.samples(objective).items():
                values.setdefault(key, []).append(value)
        if values:
            groups.append(Configuration(alike, {key: float(np.mean(equal)) for key, equal in values.items()}))
    sign = -1 if direction_of(found, objective) == "maximize" else 1
    return sorted(groups, key=lambda group: sign * group.mean)


def judge_difference(first: Configuration, second: Configuration, objective: str) -> Difference:
    """Say whether the second is really worse than the first.

    In this order, the first that is possible: Student's paired t over the folds that both have; the same over the seeds
    that both have on one validation part; Welch's t; of one run each, the difference over the validation images, which
    says nothing of other seeds.

    Where both have the same seeds on several folds, the wider of two intervals counts, over folds and over seeds: a
    seed's luck may be the same in all folds, and folds alone do not show it. With one seed nothing shows it: if its
    folds share half of the variance between seeds, five folds tell equals apart in 25 % of cases, not in 5 %.
    """
    alike = data_settings(first.runs[0]) == data_settings(second.runs[0])
    a, b = first.units, second.units
    if alike and (ways := _pairings(first, second)):
        gap, half, how = _widest(stats.ttest_rel, ways)
        how = f"paired {how}" + (": another seed may reverse it" if "seeds" not in ways else "")
    elif min(len(a), len(b)) > 1:
        by_fold = min(len(first.folds), len(second.folds)) > 1
        if not by_fold and not (alike and first.folds.keys() == second.folds.keys()):
            return Difference(
                None, "they were validated on different images; repeat both on the same folds with `confirm`"
            )
        ways = {"folds" if by_fold else "seeds": (b, a)}
        if first.by_seed and second.by_seed:
            ways["seeds"] = list(second.by_seed.values()), list(first.by_seed.values())
        gap, half, how = _widest(functools.partial(stats.ttest_ind, equal_var=False), ways)
    elif max(len(a), len(b)) > 1:
        return Difference(None, "only one of the two was repeated; repeat both with `confirm`")
    elif found := gap_between(first.runs[0], second.runs[0], objective):
        gap, half = found.mean, WIDTH * found.error
        images = (
            f"over {counted(found.images, 'validation image')}" if found.images else "unpaired: over different images"
        )
        how = f"{images}, one run each: another seed may reverse it"
    else:
        return Difference(None, "one run each: their difference may be luck; repeat them with `confirm`")
    worse = -gap if direction_of(first.runs, objective) == "maximize" else gap
    # Accuracies come in steps of one image: a few equal differences say nothing of their spread.
    differ = worse > half and not (objective == "val_accuracy" and half < 1e-9)
    verdict = "are apart" if differ else "cannot be told apart"
    text = f"first and second {verdict}: {objective} differs by {abs(gap):.2g} ± {half:.2g} ({how})"
    return Difference(bool(differ), text, worse, half)


def judge_winner(groups: list[Configuration], objective: str) -> Winner:
    """Compare the best configuration with the second, and count those that it cannot be told from."""
    if len(groups) < 2:
        return Winner(None, 0, 0, None, [])
    second = judge_difference(groups[0], groups[1], objective)
    if all(len(group.samples) == len(group.runs) == 1 for group in groups):
        noise = judge_noise([group.runs[0] for group in groups], objective)
        if noise is None:
            return Winner(second, None, None, None, [second.text])
        return Winner(second, noise.within, noise.unknown, noise.needed, [second.text, *noise.lines])
    verdicts = [second.differ, *(judge_difference(groups[0], group, objective).differ for group in groups[2:])]
    unknown = f"; {verdicts.count(None)} cannot be judged" if None in verdicts else ""
    alike = f"{verdicts.count(False)} of {len(verdicts)} other configurations"
    lines = [f"{alike} lie within noise of the best (95 %{unknown})"] if len(verdicts) > 1 else []
    return Winner(second, verdicts.count(False), verdicts.count(None), None, [second.text, *lines])


def format_value(record: Record, name: str, digits: int = 5) -> str:
    """Return a metric with its standard error over the validation images, for example `0.0170 ± 0.0031`."""
    value = record.value(name)
    return "" if value is None else with_error(value, standard_error(record, name), digits)


def with_error(value: float, error: float | None, digits: int = 5) -> str:
    """Return `value ± error`, or the value alone if there is no error."""
    shown = f"{value:.{digits}g}"
    return shown if error is None or math.isnan(error) else f"{shown} ± {error:.2g}"


def _pairings(first: Configuration, second: Configuration) -> dict[str, Sample]:
    """Return the second's and the first's values, paired by fold, and by the seeds that both have on each fold.

    Of one common fold, by seed alone. A way with fewer than two pairs is left out.
    """
    folds = sorted(first.folds.keys() & second.folds.keys(), key=str)
    shared = [first.folds[fold].keys() & second.folds[fold].keys() for fold in folds]
    seeds = sorted(set.intersection(*map(set, shared)), key=str) if shared else []

    def over(group: Configuration) -> dict[str, list[float]]:
        values = [
            [group.folds[f][s] for s in some] or list(group.folds[f].values())
            for f, some in zip(folds, shared, strict=True)
        ]
        by_seed = [[group.folds[fold][seed] for fold in folds] for seed in seeds]
        return {"folds": [float(np.mean(one)) for one in values], "seeds": [float(np.mean(one)) for one in by_seed]}

    ours, theirs = over(first), over(second)
    return {what: (theirs[what], ours[what]) for what in ours if len(ours[what]) > 1}


def _widest(test: Callable[..., Any], ways: dict[str, Sample]) -> tuple[float, float, str]:
    """Return the difference by the first way, half the width of the widest interval of all ways, and what they are."""
    intervals = [_interval(test, *samples) for samples in ways.values()]
    paired = test is stats.ttest_rel
    counts = [
        f"over {len(b)} {what}" if paired else f"over {len(a)} and {len(b)} {what}" for what, (b, a) in ways.items()
    ]
    how = " or ".join(counts) + (", the wider of both" if len(ways) > 1 else "")
    return intervals[0][0], max(half for _, half in intervals), how


def _interval(test: Callable[..., Any], *samples: Any) -> tuple[float, float]:
    """Return the middle and half the width of a t test's interval; NaN of a single value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, of one value and of values that are all equal
        interval = test(*samples).confidence_interval(CONFIDENCE)
    return float(interval.high + interval.low) / 2, float(interval.high - interval.low) / 2
