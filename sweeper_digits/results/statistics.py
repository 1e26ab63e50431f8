"""Repetitions of one configuration: their mean, its interval, and whether two configurations differ."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from sweeper_digits.runs.noise import WIDTH, describe_noise, gap_between, standard_error
from sweeper_digits.runs.record import REPEATED, Record, best_first
from sweeper_digits.schema import OBJECTIVES

CONFIDENCE = 0.95
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

    @property
    def validated_on(self) -> dict[str, Any]:
        """Return the settings that decide which images validate, apart from the fold."""
        settings = self.runs[0].settings.items()
        return {k: v for k, v in settings if k.split(".")[0] in ("data", "split") and k not in REPEATED}

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
    def mean(self) -> float:
        """Return the mean over the units."""
        return float(np.mean(self.units))

    @property
    def std(self) -> float:
        """Return the standard deviation over the units (n - 1); NaN of one."""
        return float(np.std(self.units, ddof=1)) if len(self.units) > 1 else float("nan")

    @property
    def interval(self) -> float:
        """Return the half width of the 95 % t interval of the mean; NaN of one unit."""
        return _interval(stats.ttest_1samp, self.units, 0)[1]

    @property
    def covers(self) -> str:
        """Return what the interval covers, in words; nothing for one unit.

        Source of the remark on folds: Nadeau and Bengio, Inference for the generalization error, Machine Learning 2003.
        """
        if len(self.units) < 2:
            return ""
        if len(self.folds) == 1:
            images = self.runs[0].metrics.get("validation_images")
            counted = f"{images:,} images" if isinstance(images, int) else "images"
            return f"over {len(self.units)} seeds, on the same {counted}"
        seeds = max(map(len, self.folds.values()))
        crossed = len(self.samples) == seeds * len(self.folds) > len(self.folds)
        each = f", each the mean of {seeds} seeds" if crossed else ""
        return f"over {len(self.folds)} folds{each}; {OVERLAP}"


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
    sign = -1 if OBJECTIVES.get(objective) == "maximize" else 1
    return sorted(groups, key=lambda group: sign * group.mean)


def judge_difference(first: Configuration, second: Configuration, objective: str) -> tuple[bool | None, str]:
    """Say whether the second is really worse than the first.

    In this order, the first that is possible: Student's paired t over the folds that both have; the same over the seeds
    that both have on one validation part; Welch's t; of one run each, the difference over the validation images, which
    says nothing of other seeds.

    Returns:
        Whether they differ (None: nothing to judge by), and a sentence.
    """
    alike = first.validated_on == second.validated_on
    what, pairs = _pair(first, second) if alike else ("", [])
    a, b = first.units, second.units
    if len(pairs) > 1:
        gap, half = _interval(stats.ttest_rel, *zip(*pairs, strict=True))
        how = f"paired over {len(pairs)} {what}"
    elif min(len(a), len(b)) > 1:
        by_fold = min(len(first.folds), len(second.folds)) > 1
        if not by_fold and not (alike and first.folds.keys() == second.folds.keys()):
            return None, "they were validated on different images; repeat both on the same folds with `confirm`"
        gap, half = _interval(stats.ttest_ind, b, a, equal_var=False)
        how = f"over {len(a)} and {len(b)} {'folds' if by_fold else 'seeds'}"
    elif max(len(a), len(b)) > 1:
        return None, "only one of the two was repeated; repeat both with `confirm`"
    elif found := gap_between(first.runs[0], second.runs[0], objective):
        gap, half = found.mean, WIDTH * found.error
        images = f"over {found.images:,} validation images" if found.images else "unpaired: over different images"
        how = f"{images}, one run each: another seed may reverse it"
    else:
        return None, "one run each: their difference may be luck; repeat them with `confirm`"
    worse = -gap if OBJECTIVES[objective] == "maximize" else gap
    # Accuracies come in steps of one image: a few equal differences say nothing of their spread.
    differ = worse > half and not (objective == "val_accuracy" and half < 1e-9)
    verdict = "are apart" if differ else "cannot be told apart"
    return differ, f"first and second {verdict}: {objective} differs by {abs(gap):.2g} ± {half:.2g} ({how})"


def describe_winner(groups: list[Configuration], objective: str) -> list[str]:
    """Return lines that compare the best configuration with the second and count those that it cannot be told from."""
    if len(groups) < 2:
        return []
    lines = [judge_difference(groups[0], groups[1], objective)[1]]
    if all(len(group.samples) == len(group.runs) == 1 for group in groups):
        return lines + describe_noise([group.runs[0] for group in groups], objective)
    if len(groups) == 2:
        return lines
    verdicts = [judge_difference(groups[0], group, objective)[0] for group in groups[1:]]
    unknown = f"; {verdicts.count(None)} cannot be judged" if None in verdicts else ""
    counted = f"{verdicts.count(False)} of {len(verdicts)} other configurations"
    return [*lines, f"{counted} lie within noise of the best (95 %{unknown})"]


def format_value(record: Record, name: str, digits: int = 5) -> str:
    """Return a metric with its standard error over the validation images, for example `0.0170 ± 0.0031`."""
    value = record.value(name)
    return "" if value is None else with_error(value, standard_error(record, name), digits)


def with_error(value: float, error: float | None, digits: int = 5) -> str:
    """Return `value ± error`, or the value alone if there is no error."""
    shown = f"{value:.{digits}g}"
    return shown if error is None or math.isnan(error) else f"{shown} ± {error:.2g}"


def _pair(first: Configuration, second: Configuration) -> tuple[str, list[tuple[float, float]]]:
    """Return what is paired, and the pairs: second and first by fold, or of one common fold by seed."""
    folds = sorted(first.folds.keys() & second.folds.keys(), key=str)
    pairs = []
    for fold in folds:
        ours, theirs = first.folds[fold], second.folds[fold]
        seeds = sorted(ours.keys() & theirs.keys(), key=str)
        if len(folds) == 1:
            return "seeds", [(theirs[seed], ours[seed]) for seed in seeds]
        a, b = ([found[s] for s in seeds] if seeds else list(found.values()) for found in (ours, theirs))
        pairs.append((float(np.mean(b)), float(np.mean(a))))
    return "folds", pairs


def _interval(test: Callable[..., Any], *samples: Any, **options: Any) -> tuple[float, float]:
    """Return the middle and half the width of a t test's interval; NaN of a single value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, of one value and of values that are all equal
        interval = test(*samples, **options).confidence_interval(CONFIDENCE)
    return float(interval.high + interval.low) / 2, float(interval.high - interval.low) / 2
