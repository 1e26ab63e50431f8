"""Repetitions of one configuration, its seeds and folds: their mean, its interval, and which configuration is first."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import stats

from sweeper_digits.runs.noise import interval_text, standard_error
from sweeper_digits.runs.record import Record, best_first, direction_of
from sweeper_digits.screen import counted

CONFIDENCE = 0.95
# A spread below is that of rounding: all values are equal.
NO_SPREAD = 1e-9
# Of the least squares of groups and folds. After the first few, the order no longer changes.
TURNS = 100
OVERLAP = "their training sets overlap, so it is a little narrow (Nadeau and Bengio 2003)"


@dataclass
class Configuration:
    """The finished runs of one configuration: its seeds and folds.

    Attributes:
        runs: At least one.
        samples: The metric of each repetition, by seed and fold; of runs with equal seed and fold, their mean.
    """

    runs: list[Record]
    samples: dict[tuple[Any, Any], float]

    def is_single(self, objective: str) -> bool:
        """Return whether it is one run, or one that was repeated with the same seed and gave the same value."""
        values = [value for record in self.runs if (value := record.value(objective)) is not None]
        return len(self.samples) == 1 and (not values or max(values) - min(values) < NO_SPREAD)

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

    @cached_property
    def data(self) -> str:
        """Return what decides which images train and validate, apart from the fold."""
        return str(sorted(self.runs[0].data.items()))

    @cached_property
    def validated(self) -> dict[Any, str]:
        """Return the fingerprint of the validation images of each fold of which all runs are known to have the same."""
        found: dict[Any, set[str | None]] = {}
        for record in self.runs:
            for fold, images in record.validated().items():
                found.setdefault(fold, set()).add(images)
        return {fold: next(iter(one)) or "" for fold, one in found.items() if len(one) == 1 and one != {None}}

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
        """Return the half width of the 95 % t interval of the mean; NaN of one unit, and of equal ones.

        Where seeds and folds are crossed, the wider of two intervals: over folds, and over seeds. Two accuracies are
        often equal, by chance: they say nothing of their spread.
        """
        ways = [self.units, list(self.by_seed.values())] if self.by_seed else [self.units]
        half = max(interval_of(stats.ttest_1samp, units, 0)[1] for units in ways)
        return half if half > NO_SPREAD else float("nan")

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
            known = self.validated.keys() == self.folds.keys()
            return f"over {len(self.units)} seeds" + (f", on the same {shown}" if known else "")
        seeds = len(self.by_seed)
        crossed = f" or over {seeds} seeds, the wider of both" if seeds else ""
        return f"over {len(self.folds)} folds{crossed}; {OVERLAP}"


def group_repetitions(found: list[Record], objective: str) -> list[Configuration]:
    """Group finished runs that differ in seed and fold only; best mean first.

    Where a group lacks folds that others have, because runs are missing or were pruned, the means are compared without
    what the folds add: a group must not win by not having run on the hard ones.
    """
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
    matched = _matched_means(groups)
    return [groups[place] for place in sorted(range(len(groups)), key=lambda place: sign * matched[place])]


def describe_order(groups: list[Configuration]) -> list[str]:
    """Return the line that says how configurations are ordered of which some lack folds; none where none does."""
    lacking = sum(_lacks_folds(groups))
    if not lacking:
        return []
    lack = "lacks" if lacking == 1 else "lack"
    return [f"{lacking} of {len(groups)} configurations {lack} folds; the order leaves out how hard each fold is"]


def _lacks_folds(groups: list[Configuration]) -> list[bool]:
    """Return of each group whether others with its data have folds that it does not have."""
    every: dict[str, set[Any]] = {}
    for group in groups:
        every.setdefault(group.data, set()).update(group.folds)
    return [len(group.folds) < len(every[group.data]) for group in groups]


def _matched_means(groups: list[Configuration]) -> list[float]:
    """Return the mean of each group without what its folds add to the values of all that have them.

    A value is the sum of what the group and what the fold add: least squares, by turns for groups and for folds, from
    folds that add nothing. Groups that share no fold keep their own means.
    """
    means = [group.mean for group in groups]
    if not any(_lacks_folds(groups)):
        return means
    values = [
        {(group.data, fold): float(np.mean(list(seeds.values()))) for fold, seeds in group.folds.items()}
        for group in groups
    ]
    added: dict[tuple[str, Any], float] = {}
    for _ in range(TURNS):
        means = [float(np.mean([value - added.get(key, 0.0) for key, value in one.items()])) for one in values]
        left: dict[tuple[str, Any], list[float]] = {}
        for mean, one in zip(means, values, strict=True):
            for key, value in one.items():
                left.setdefault(key, []).append(value - mean)
        added = {key: float(np.mean(rest)) for key, rest in left.items()}
    return means


def describe_mean(group: Configuration, objective: str) -> str:
    """Return the mean with its interval and what that covers; of a single run its value and standard error."""
    mean = mean_text(group, objective)
    if not group.covers:
        return mean
    if math.isnan(group.interval):
        return f"{mean} ({group.covers}; all equal)"
    return f"{mean} ({interval_text(group.mean, group.interval)}; {group.covers})"


def mean_text(group: Configuration, objective: str) -> str:
    """Return the mean; of a single run its value with its standard error over the validation images."""
    return format_value(group.runs[0], objective) if group.is_single(objective) else f"{group.mean:.5g}"


def format_value(record: Record, name: str, digits: int = 5) -> str:
    """Return a metric with its standard error over the validation images, for example `0.0170 ± 0.0031`."""
    value = record.value(name)
    return "" if value is None else with_error(value, standard_error(record, name), digits)


def with_error(value: float, error: float | None, digits: int = 5) -> str:
    """Return `value ± error`, or the value alone if there is no error."""
    shown = f"{value:.{digits}g}"
    return shown if error is None or math.isnan(error) else f"{shown} ± {error:.2g}"


def interval_of(test: Callable[..., Any], *samples: Any, comparisons: int = 1) -> tuple[float, float]:
    """Return the middle and half the width of a t test's 95 % interval; NaN of a single value.

    Of several comparisons, the interval is wide enough for all of them together (Bonferroni).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, of one value and of values that are all equal
        interval = test(*samples).confidence_interval(1 - (1 - CONFIDENCE) / comparisons)
    return float(interval.high + interval.low) / 2, float(interval.high - interval.low) / 2
