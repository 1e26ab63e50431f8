"""Repetitions of one configuration: their mean, its interval, and whether two configurations differ."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from sweeper_digits.errors import UserError
from sweeper_digits.runs.record import REPEATED, Record, best_first
from sweeper_digits.schema import OBJECTIVES

CONFIDENCE = 0.95


@dataclass
class Configuration:
    """The finished runs of one configuration: its seeds and folds.

    Attributes:
        runs: At least one.
        samples: The metric of each repetition, by seed and fold.
    """

    runs: list[Record]
    samples: dict[tuple[Any, Any], float]

    @property
    def validated_on(self) -> dict[str, Any]:
        """Return the settings that decide which images validate, apart from the fold."""
        settings = self.runs[0].settings.items()
        return {k: v for k, v in settings if k.split(".")[0] in ("data", "split") and k not in REPEATED}

    @property
    def mean(self) -> float:
        """Return the mean over repetitions."""
        return float(np.mean(list(self.samples.values())))

    @property
    def std(self) -> float:
        """Return the standard deviation over repetitions (n - 1); NaN of one."""
        return float(np.std(list(self.samples.values()), ddof=1)) if len(self.samples) > 1 else float("nan")

    @property
    def interval(self) -> float:
        """Return the half width of the 95 % t interval of the mean; NaN of one."""
        return _interval(stats.ttest_1samp, list(self.samples.values()), 0)[1]


def group_repetitions(found: list[Record], objective: str) -> list[Configuration]:
    """Group finished runs that differ in seed and fold only; best mean first."""
    groups: dict[str, Configuration] = {}
    for record in best_first(found, objective):
        group = groups.setdefault(record.configuration, Configuration([], {}))
        group.runs.append(record)
        for key, value in record.samples(objective).items():
            group.samples.setdefault(key, value)
    sign = -1 if OBJECTIVES.get(objective) == "maximize" else 1
    return sorted(groups.values(), key=lambda group: sign * group.mean)


def judge_difference(first: Configuration, second: Configuration, objective: str) -> tuple[bool | None, str]:
    """Say whether the second is really worse than the first.

    If each has two or more repetitions, the test is Student's paired t over the seeds and folds that both have, where
    both validate on the same images, else Welch's t. If each has one run, the test pairs the cross entropies of the
    same validation images; it then says nothing of other seeds.

    Returns:
        Whether they differ (None: nothing to judge by), and a sentence.
    """
    alike = first.validated_on == second.validated_on
    common = sorted(set(first.samples) & set(second.samples), key=str) if alike else []
    a, b = (list(group.samples.values()) for group in (first, second))
    if len(common) > 1:
        pairs = ([group.samples[key] for key in common] for group in (second, first))
        gap, half = _interval(stats.ttest_rel, *pairs)
        how = f"paired over {len(common)} seeds or folds"
    elif min(len(a), len(b)) > 1:
        gap, half = _interval(stats.ttest_ind, b, a, equal_var=False)
        how = f"over {len(a)} and {len(b)} runs"
    elif max(len(a), len(b)) > 1:
        return None, "only one of the two was repeated; repeat both with `confirm`"
    elif objective == "val_loss" and (losses := _losses_by_image(second.runs[0], first.runs[0])):
        gap, half = _interval(stats.ttest_rel, *losses)
        how = f"over {len(losses[0]):,} validation images, one run each: another seed may reverse it"
    else:
        return None, "one run each: their difference may be luck; repeat them with `confirm`"
    worse = -gap if OBJECTIVES[objective] == "maximize" else gap
    # Accuracies come in steps of one image: a few equal differences say nothing of their spread.
    differ = worse > half and not (objective == "val_accuracy" and half < 1e-9)
    verdict = "are apart" if differ else "cannot be told apart"
    return differ, f"first and second {verdict}: {objective} differs by {abs(gap):.2g} ± {half:.2g} ({how})"


def _interval(test: Callable[..., Any], *samples: Any, **options: Any) -> tuple[float, float]:
    """Return the middle and half the width of a t test's interval; NaN of a single value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, of one value and of values that are all equal
        interval = test(*samples, **options).confidence_interval(CONFIDENCE)
    return float(interval.high + interval.low) / 2, float(interval.high - interval.low) / 2


def _losses_by_image(*records: Record) -> list[np.ndarray] | None:
    """Return each run's cross entropies of the validation images; None unless the images are the same."""
    try:
        saved = [record.run.read_validation() for record in records]
    except UserError:
        return None
    same = len({record.settings.get("data") for record in records}) == 1 and all(
        np.array_equal(one.images, saved[0].images) and np.array_equal(one.labels, saved[0].labels) for one in saved
    )
    return [one.losses for one in saved] if same else None
