"""Repetitions of one configuration, its seeds and folds: their mean, its interval, and which configuration is first."""

import functools
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from sweeper_digits.runs.noise import Gap, format_value, gap_between, interval_text, judge_noise, width_of
from sweeper_digits.runs.record import REPEATED, Record, best_first, direction_of
from sweeper_digits.sweep.owner import find_copies
from sweeper_digits.text import counted, printable

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


def interval_of(test: Callable[..., Any], *samples: Any, comparisons: int = 1) -> tuple[float, float]:
    """Return the middle and half the width of a t test's 95 % interval; NaN of a single value.

    Of several comparisons, the interval is wide enough for all of them together (Bonferroni).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, of one value and of values that are all equal
        interval = test(*samples).confidence_interval(1 - (1 - CONFIDENCE) / comparisons)
    return float(interval.high + interval.low) / 2, float(interval.high - interval.low) / 2


# Values of two configurations, the second's first.
Sample = tuple[list[float], list[float]]


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


def judge_difference(first: Configuration, second: Configuration, objective: str, comparisons: int = 1) -> Difference:
    """Say whether the second is really worse than the first, as one of several comparisons with the first.

    In this order, the first that is possible: Student's paired t over the folds that both have; the same over the seeds
    that both have on one validation part; Welch's t; of one run each, the difference over the validation images, which
    says nothing of other seeds.

    Of several comparisons, each interval is wide enough for all of them together (Bonferroni): the best of many is the
    luckiest.

    Where both have the same seeds on several folds, the wider of two intervals counts, over folds and over seeds: a
    seed's luck may be the same in all folds, and folds alone do not show it. With one seed nothing shows it: if its
    folds share half of the variance between seeds, five folds tell equals apart in 25 % of cases, not in 5 %.
    """
    a, b = first.units, second.units
    if ways := _pairings(first, second):
        gap, half, how = _widest(stats.ttest_rel, ways, comparisons)
        how = f"paired {how}" + (": another seed may reverse it" if "seeds" not in ways else "")
    elif min(len(a), len(b)) > 1:
        by_fold = min(len(first.folds), len(second.folds)) > 1
        if not by_fold and not (first.folds.keys() == second.folds.keys() == _common_folds(first, second)):
            known = _are_known(first, second)
            images = "validated on different images" if known else "not known to be validated on the same images"
            return Difference(None, f"they were {images}; repeat both on the same folds with `confirm`")
        ways = {"folds" if by_fold else "seeds": (b, a)}
        if first.by_seed and second.by_seed:
            ways["seeds"] = list(second.by_seed.values()), list(first.by_seed.values())
        gap, half, how = _widest(functools.partial(stats.ttest_ind, equal_var=False), ways, comparisons)
    elif max(len(a), len(b)) > 1:
        return Difference(None, "only one of the two was repeated; repeat both with `confirm`")
    elif found := _over_images(first, second, objective):
        gap, half = found.mean, width_of(comparisons) * found.error
        apart = "over different images" if _are_known(first, second) else "not known to be over the same images"
        images = f"over {counted(found.images, 'validation image')}" if found.images else f"unpaired: {apart}"
        how = f"{images}, one run each: another seed may reverse it"
    else:
        return Difference(None, "one seed each: their difference may be luck; repeat them with `confirm`")
    worse = -gap if direction_of(first.runs, objective) == "maximize" else gap
    # Accuracies and counts come in steps: a few equal differences say nothing of their spread.
    known = objective == "params" or half > NO_SPREAD
    differ = known and worse > half
    verdict = "are apart" if differ else "cannot be told apart"
    if known and -worse > half:  # the first has folds or seeds that the second lacks
        verdict = "are apart, the second is better where both were measured"
    text = f"first and second {verdict}: {objective} differs by {abs(gap):.2g} ({interval_text(abs(gap), half)}; {how})"
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
    others = groups[1:]
    verdicts = [judge_difference(groups[0], group, objective, len(others)).differ for group in others]
    unknown = f"; {verdicts.count(None)} cannot be judged" if None in verdicts else ""
    alike = f"{verdicts.count(False)} of {len(others)} other configurations"
    lines = [f"{alike} lie within noise of the best (95 % for all together{unknown})"] if len(others) > 1 else []
    lines += describe_order(groups)
    return Winner(second, verdicts.count(False), verdicts.count(None), None, [second.text, *lines])


def _over_images(first: Configuration, second: Configuration, objective: str) -> Gap | None:
    """Return the difference over the validation images of two single runs; None if they are not, or it is not known."""
    single = first.is_single(objective) and second.is_single(objective)
    return gap_between(first.runs[0], second.runs[0], objective) if single else None


def _are_known(*groups: Configuration) -> bool:
    """Return whether it is known which images validate in each fold of some configurations."""
    return all(group.validated.keys() == group.folds.keys() for group in groups)


def _common_folds(first: Configuration, second: Configuration) -> set[Any]:
    """Return the folds that both have, and on which both are known to be validated on the same images."""
    both = first.folds.keys() & second.folds.keys() & first.validated.keys()
    return {fold for fold in both if first.validated[fold] == second.validated.get(fold)}


def _pairings(first: Configuration, second: Configuration) -> dict[str, Sample]:
    """Return the second's and the first's values, paired by fold, and by the seeds that both have on each fold.

    Of one common fold, by seed alone. A way with fewer than two pairs is left out.
    """
    folds = sorted(_common_folds(first, second), key=str)
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


def _widest(test: Callable[..., Any], ways: dict[str, Sample], comparisons: int) -> tuple[float, float, str]:
    """Return the difference by the first way, half the width of the widest interval of all ways, and what they are."""
    intervals = [interval_of(test, *samples, comparisons=comparisons) for samples in ways.values()]
    paired = test is stats.ttest_rel
    counts = [
        f"over {len(b)} {what}" if paired else f"over {len(a)} and {len(b)} {what}" for what, (b, a) in ways.items()
    ]
    how = " or ".join(counts) + (", the wider of both" if len(ways) > 1 else "")
    return intervals[0][0], max(half for _, half in intervals), how


# Groups of runs that a line names.
MOST_GROUPS = 4
# Digits of a fingerprint that a person sees.
SHOWN = 8


def describe_mixture(found: list[Record]) -> list[str]:
    """Return lines that say which runs are ranked together though their values do not compare."""
    return _describe_data(found) + _describe_copies(found)


def _describe_data(found: list[Record]) -> list[str]:
    groups: dict[str, list[Record]] = {}
    for record in (record for record in found if record.finished):
        groups.setdefault(str(sorted(record.data.items())), []).append(record)
    if len(groups) < 2:
        return []
    every = [_settings(runs[0]) for runs in groups.values()]
    contents = {runs[0].fingerprint for runs in groups.values()}
    mix = "may mix" if None in contents else "mix"
    left_out = ("data",) if len(contents) == 1 and None not in contents else ()  # of copies, the paths do not matter
    names = sorted({name for settings in every for name in settings if not name.endswith("_target_")})
    names = [name for name in names if name.split(".")[0] not in left_out]
    differing = [name for name in names if len({str(settings.get(name)) for settings in every}) > 1]
    parts = []
    for runs in sorted(groups.values(), key=len, reverse=True)[:MOST_GROUPS]:
        settings = _settings(runs[0])
        values = " ".join(printable(f"{name}={settings[name]}") for name in differing if name in settings)
        parts.append(f"{counted(len(runs), 'run')} with {values or 'another version of the options'}")
    more = f", and {counted(len(groups) - MOST_GROUPS, 'more group')}" if len(groups) > MOST_GROUPS else ""
    return [f"the ranks {mix} values of different images: {', '.join(parts)}{more}; choose one group with --filter"]


def _settings(record: Record) -> dict[str, object]:
    """Return the settings of a run's data and split, apart from the fold, and what tells its data."""
    settings = {k: v for k, v in record.settings.items() if k.split(".")[0] in ("data", "split") and k not in REPEATED}
    return settings | {"content": record.fingerprint[:SHOWN] if record.fingerprint else "unknown"}


def _describe_copies(found: list[Record]) -> list[str]:
    copies = find_copies({record.run.folder.parent for record in found})
    return [
        printable(f"{os.path.relpath(copy)} is a copy of {os.path.relpath(original)}: its runs are listed twice")
        for copy, original in copies.items()
    ]
