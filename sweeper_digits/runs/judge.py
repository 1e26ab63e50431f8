"""Judges differences: how sure it is that one run, or one configuration, is better than another.

Two things move a value by chance. The validation images were drawn: other images give another mean. Single runs are
judged over them, image by image where both runs have the same ones. The seed and the fold were chosen: another seed
moves the values further. Repeated configurations are judged over these, by Student's t.

The best of many is the luckiest of them: of 100 equal runs, 39 differ from it by more than a single 95 % interval. So
intervals of several comparisons with the best are wide enough for all of them together (Bonferroni): what is truly the
best lies within noise of it in at least 95 % of cases.
"""

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from sweeper_digits.errors import UserError
from sweeper_digits.runs.predictions import error_of_mean
from sweeper_digits.runs.record import Record, best_first, direction_of
from sweeper_digits.text import counted, with_error

CONFIDENCE = 0.95
# A spread below is that of rounding: all values are equal.
NO_SPREAD = 1e-9
# Objectives that are means over the validation images.
OVER_IMAGES = ("val_loss", "val_accuracy")
# What ± stands for on every screen; an interval is shown by its ends.
ONE_ERROR = "one standard error over a run's validation images"
OVERLAP = "their training sets overlap, so it is a little narrow (Nadeau and Bengio 2003)"

# The validation images of a run, see `ByContent.key`, and a value of each.
ByImage = tuple[bytes | None, np.ndarray]
# Differences of pairs; or the values of two configurations, the second's first.
Samples = tuple[list[float], ...]


def width_of(comparisons: int) -> float:
    """Return half the width, in standard errors, of the interval of one of several comparisons.

    Validation sets are large enough for the normal distribution.
    """
    return NormalDist().inv_cdf(1 - 0.025 / comparisons)


WIDTH = width_of(1)
# An experiment planned for a difference of this many standard errors finds the difference four times in five.
PLANNED = WIDTH + NormalDist().inv_cdf(0.8)


def interval_of(samples: Samples, comparisons: int = 1) -> tuple[float, float]:
    """Return the middle of a t interval and half its width, NaN of a single value.

    One sample has the interval of its mean (Student), two samples that of their difference (Welch).
    """
    from scipy import stats  # a sweep judges over images alone, and needs none of it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, of one value and of values that are all equal
        test = stats.ttest_1samp(*samples, 0) if len(samples) == 1 else stats.ttest_ind(*samples, equal_var=False)
        interval = test.confidence_interval(1 - (1 - CONFIDENCE) / comparisons)
    return float(interval.high + interval.low) / 2, float(interval.high - interval.low) / 2


def interval_text(middle: float, half: float) -> str:
    """Return a 95 % interval by its ends, to two digits of half its width."""
    places = min(12, max(0, 1 - math.floor(math.log10(half)))) if half > 0 and math.isfinite(half) else 5
    return f"95 %: {middle - half:.{places}f} to {middle + half:.{places}f}"


def standard_error(record: Record, name: str) -> float | None:
    """Return the standard error over images of val_loss or val_accuracy; None for another metric or if not known.

    A run of an older version, which did not save it, has it in its validation predictions.
    """
    if name not in OVER_IMAGES or not record.finished:
        return None
    saved = record.metrics.get(f"{name}_se")
    if saved is None and (found := _by_image(record, name)):
        saved = error_of_mean(found[1].astype(bool) if name == "val_accuracy" else found[1])
    return float(saved) if saved is not None and math.isfinite(saved) else None


def format_value(record: Record, name: str, digits: int = 5) -> str:
    """Return a metric with its standard error over the validation images, for example `0.0170 ± 0.0031`."""
    value = record.value(name)
    return "" if value is None else with_error(value, standard_error(record, name), digits)


@dataclass(frozen=True)
class Gap:
    """The difference of two runs over their validation images.

    Attributes:
        mean: The second's value minus the first's.
        error: The standard error of the mean.
        images: How many images both predicted; 0 if they were validated on different images, or it is not known.
    """

    mean: float
    error: float
    images: int

    def is_noise(self, comparisons: int = 1) -> bool:
        """Return whether its interval includes 0, as one of several comparisons."""
        return abs(self.mean) <= width_of(comparisons) * self.error


def gap_between(
    first: Record, second: Record, name: str, read_first: Callable[[], ByImage | None] | None = None
) -> Gap | None:
    """Return the difference of two runs, paired if both are known to be validated on the same images; None: not known.

    Args:
        first: A run.
        second: Another.
        name: A metric.
        read_first: Gives what `_by_image` reads of the first run.
    """
    if name not in OVER_IMAGES:
        return None
    ours, theirs = read_first() if read_first else _by_image(first, name), _by_image(second, name)
    if ours and theirs and ours[0] is not None and ours[0] == theirs[0]:
        return paired_gap(ours[1], theirs[1])
    a, b, s, t = *(run.value(name) for run in (first, second)), *(standard_error(run, name) for run in (first, second))
    return None if a is None or b is None or s is None or t is None else Gap(b - a, math.hypot(s, t), 0)


def paired_gap(first: np.ndarray, second: np.ndarray) -> Gap:
    """Return the difference of values of the same images, float (n,) each."""
    difference = second - first
    return Gap(float(difference.mean()), error_of_mean(difference), len(difference))


def _by_image(record: Record, name: str) -> ByImage | None:
    """Return which images validated a run, and of each the cross entropy, or 1.0 if it was labelled rightly."""
    try:
        key, order, saved = record.run.read_by_content()
    except UserError:
        return None
    right = saved.log_probabilities.argmax(axis=1) == saved.labels
    return key, (saved.losses if name == "val_loss" else right.astype(float))[order]


@dataclass
class Configuration:
    """The finished runs of one configuration: its seeds and folds.

    Attributes:
        runs: At least one.
        samples: The metric of each repetition, by seed and fold. Runs that share both are averaged.
    """

    runs: list[Record]
    samples: dict[tuple[Any, Any], float]

    def is_single(self, objective: str) -> bool:
        """Return whether it is one run, or one that was repeated with the same seed and gave the same value."""
        values = [value for record in self.runs if (value := record.value(objective)) is not None]
        return len(self.samples) == 1 and (not values or max(values) - min(values) < NO_SPREAD)

    @property
    def folds(self) -> dict[Any, dict[Any, float]]:
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

    @cached_property
    def data(self) -> str:
        """Return a key of the images that train and validate, apart from the fold."""
        return str(sorted(self.runs[0].data.items()))

    @cached_property
    def validated(self) -> dict[Any, str]:
        """Return the fingerprint of the validation images of each fold on which all runs are known to have the same."""
        found: dict[Any, set[str | None]] = {}
        for record in self.runs:
            for fold, images in record.validated().items():
                found.setdefault(fold, set()).add(images)
        return {fold: next(iter(one)) or "" for fold, one in found.items() if len(one) == 1 and one != {None}}

    @property
    def is_known(self) -> bool:
        """Return whether it is known which images validate in each of its folds."""
        return self.validated.keys() == self.folds.keys()

    @property
    def mean(self) -> float:
        return float(np.mean(self.units))

    @property
    def std(self) -> float:
        """Return the standard deviation over the units (n - 1); NaN of one."""
        return float(np.std(self.units, ddof=1)) if len(self.units) > 1 else float("nan")

    @property
    def interval(self) -> float:
        """Return half the width of the 95 % t interval of the mean; NaN of one unit, and of equal ones.

        Where seeds and folds are crossed, the wider of two intervals counts: over folds, and over seeds. Two accuracies
        are often equal, by chance: they say nothing of their spread.
        """
        ways = [self.units, list(self.by_seed.values())] if self.by_seed else [self.units]
        half = max(interval_of((values,))[1] for values in ways)
        return half if half > NO_SPREAD else float("nan")

    @property
    def covers(self) -> str:
        """Return the cover of the interval in words; nothing for one unit.

        Source of the remark on folds: Nadeau and Bengio, Inference for the generalization error, Machine Learning 2003.
        """
        if len(self.units) < 2:
            return ""
        if len(self.folds) == 1:
            images = self.runs[0].metrics.get("validation_images")
            shown = "images" if images is None else counted(images, "image")
            return f"over {len(self.units)} seeds" + (f", on the same {shown}" if self.is_known else "")
        seeds = len(self.by_seed)
        crossed = f" or over {seeds} seeds, the wider of both" if seeds else ""
        return f"over {len(self.folds)} folds{crossed}; {OVERLAP}"


def mean_text(group: Configuration, objective: str) -> str:
    """Return the mean; of a single run its value with its standard error over the validation images."""
    return format_value(group.runs[0], objective) if group.is_single(objective) else f"{group.mean:.5g}"


def describe_mean(group: Configuration, objective: str) -> str:
    """Return the mean with its interval and its cover; of a single run its value and standard error."""
    mean = mean_text(group, objective)
    if not group.covers:
        return mean
    if math.isnan(group.interval):
        return f"{mean} ({group.covers}; all equal)"
    return f"{mean} ({interval_text(group.mean, group.interval)}; {group.covers})"


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
    matched = matched_means(groups)
    return [groups[place] for place in sorted(range(len(groups)), key=lambda place: sign * matched[place])]


def matched_means(groups: list[Configuration]) -> list[float]:
    """Return the mean of each group without what its folds add to the values of all that have them.

    A value is the sum of what the group adds and what the fold adds, by least squares. Folds that groups share add 0 on
    average over their values, so groups that share no fold keep their own means.
    """
    if not any(_lacks_folds(groups)):
        return [group.mean for group in groups]
    folds = list(dict.fromkeys((group.data, fold) for group in groups for fold in group.folds))
    values = np.full((len(groups), len(folds)), np.nan)
    for row, group in enumerate(groups):
        for fold, seeds in group.folds.items():
            values[row, folds.index((group.data, fold))] = np.mean(list(seeds.values()))
    present = ~np.isnan(values)
    of_group, of_fold = np.nonzero(present)
    centred = (values - np.nanmean(values, axis=1, keepdims=True))[of_group, of_fold]
    design = np.eye(len(folds))[of_fold] - (present / present.sum(axis=1, keepdims=True))[of_group]
    scale = np.sqrt(present.sum(axis=0))  # the smallest solution is then the one that adds 0 on average
    added = np.linalg.lstsq(design / scale, centred, rcond=None)[0] / scale
    return [float(mean) for mean in np.nanmean(values - added, axis=1)]


def _lacks_folds(groups: list[Configuration]) -> list[bool]:
    """Return for each group whether others with its data have folds that it does not have."""
    every: dict[str, set[Any]] = {}
    for group in groups:
        every.setdefault(group.data, set()).update(group.folds)
    return [len(group.folds) < len(every[group.data]) for group in groups]


def describe_order(groups: list[Configuration]) -> list[str]:
    """Return the line that says how configurations are ordered if some lack folds; nothing if none does."""
    lacking = sum(_lacks_folds(groups))
    if not lacking:
        return []
    lack = "lacks" if lacking == 1 else "lack"
    return [f"{lacking} of {len(groups)} configurations {lack} folds; the order leaves out how hard each fold is"]


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


def judge_difference(first: Configuration, second: Configuration, objective: str, comparisons: int = 1) -> Difference:
    """Say whether the second is really worse than the first, as one of several comparisons with the first.

    The first of these that is possible: Student's paired t over the folds that both have; the same over the seeds that
    both have on one validation set; Welch's t; of one run each, the difference over the validation images, which says
    nothing of other seeds.

    Where both have the same seeds on several folds, the wider of two intervals counts, over folds and over seeds: a
    seed's luck may be the same in all folds, and folds alone do not show it. One seed cannot show it: docs/results.md
    says how often five folds of one seed err.
    """
    repeated = len(first.units) > 1, len(second.units) > 1
    known = first.is_known and second.is_known
    if ways := _pairings(first, second):
        gap, half, how = _widest(ways, comparisons)
        how = f"paired {how}" + (": another seed may reverse it" if "seeds" not in ways else "")
    elif all(repeated):
        by_fold = min(len(first.folds), len(second.folds)) > 1
        if not by_fold and not (first.folds.keys() == second.folds.keys() == _common_folds(first, second)):
            images = "validated on different images" if known else "not known to be validated on the same images"
            return Difference(None, f"they were {images}; repeat both on the same folds with `confirm`")
        ways = {"folds" if by_fold else "seeds": (second.units, first.units)}
        if first.by_seed and second.by_seed:
            ways["seeds"] = list(second.by_seed.values()), list(first.by_seed.values())
        gap, half, how = _widest(ways, comparisons)
    elif any(repeated):
        return Difference(None, "only one of the two was repeated; repeat both with `confirm`")
    elif found := _over_images(first, second, objective):
        gap, half = found.mean, width_of(comparisons) * found.error
        apart = "over different images" if known else "not known to be over the same images"
        images = f"over {counted(found.images, 'validation image')}" if found.images else f"unpaired: {apart}"
        how = f"{images}, one run each: another seed may reverse it"
    else:
        return Difference(None, "one seed each: their difference may be luck; repeat them with `confirm`")
    worse = -gap if direction_of(first.runs, objective) == "maximize" else gap
    # Accuracies and counts come in steps: a few equal differences say nothing of their spread.
    spreads = objective == "params" or half > NO_SPREAD
    differ = spreads and worse > half
    verdict = "are apart" if differ else "cannot be told apart"
    if spreads and -worse > half:  # the first has folds or seeds that the second lacks
        verdict = "are apart, the second is better where both were measured"
    text = f"first and second {verdict}: {objective} differs by {abs(gap):.2g} ({interval_text(abs(gap), half)}; {how})"
    return Difference(bool(differ), text, worse, half)


def _over_images(first: Configuration, second: Configuration, objective: str) -> Gap | None:
    """Return the difference over the validation images of two single runs; None if they are not, or it is not known."""
    single = first.is_single(objective) and second.is_single(objective)
    return gap_between(first.runs[0], second.runs[0], objective) if single else None


def _common_folds(first: Configuration, second: Configuration) -> set[Any]:
    """Return the folds that both have, and on which both are known to be validated on the same images."""
    both = first.folds.keys() & second.folds.keys() & first.validated.keys()
    return {fold for fold in both if first.validated[fold] == second.validated.get(fold)}


def _pairings(first: Configuration, second: Configuration) -> dict[str, Samples]:
    """Return the second's values minus the first's, paired by fold, and by the seeds that both have on each fold.

    A way with fewer than two pairs is left out, so one common fold is paired by seed alone.
    """
    folds = sorted(_common_folds(first, second), key=str)
    shared = {fold: first.folds[fold].keys() & second.folds[fold].keys() for fold in folds}
    seeds = sorted(set.intersection(*map(set, shared.values())), key=str) if shared else []

    def on(group: Configuration, fold: Any) -> float:
        """Return the mean over the seeds that both have on a fold, or over all seeds if they share none."""
        values = group.folds[fold]
        return float(np.mean([values[seed] for seed in shared[fold]] or list(values.values())))

    def of(group: Configuration, seed: Any) -> float:
        return float(np.mean([group.folds[fold][seed] for fold in folds]))

    ways = {
        "folds": [on(second, fold) - on(first, fold) for fold in folds],
        "seeds": [of(second, seed) - of(first, seed) for seed in seeds],
    }
    return {way: (differences,) for way, differences in ways.items() if len(differences) > 1}


def _widest(ways: dict[str, Samples], comparisons: int) -> tuple[float, float, str]:
    """Return the difference by the first way, half the width of the widest interval of all ways, and their names."""
    intervals = [interval_of(samples, comparisons) for samples in ways.values()]
    counts = [f"over {' and '.join(str(len(one)) for one in samples[::-1])} {way}" for way, samples in ways.items()]
    how = " or ".join(counts) + (", the wider of both" if len(ways) > 1 else "")
    return intervals[0][0], max(half for _, half in intervals), how


class Winner(NamedTuple):
    """How the best configuration compares with the others.

    Attributes:
        second: The second's difference from the best; None: there is no second.
        within: How many others lie within noise of the best, all of them together; None: not known.
        unknown: How many others cannot be judged; None: as `within`.
        needed: About how many validation images would tell the first two apart; None: not known, or they are apart.
        lines: The same in words, and the size of a validation set that would do.
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


def judge_winner(groups: list[Configuration], objective: str) -> Winner:
    """Compare the best configuration with the second, and count those that it cannot be told from."""
    if len(groups) < 2:
        return Winner(None, 0, 0, None, [])
    second = judge_difference(groups[0], groups[1], objective)
    if all(len(group.samples) == len(group.runs) == 1 for group in groups):
        noise = judge_runs([group.runs[0] for group in groups], objective)
        if noise is None:
            return Winner(second, None, None, None, [second.text])
        return noise._replace(second=second, lines=[second.text, *noise.lines])
    others = groups[1:]
    verdicts = [judge_difference(groups[0], group, objective, len(others)).differ for group in others]
    unknown = f"; {verdicts.count(None)} cannot be judged" if None in verdicts else ""
    alike = f"{verdicts.count(False)} of {len(others)} other configurations"
    lines = [f"{alike} lie within noise of the best (95 % for all together{unknown})"] if len(others) > 1 else []
    lines += describe_order(groups)
    return Winner(second, verdicts.count(False), verdicts.count(None), None, [second.text, *lines])


def describe_noise(found: list[Record], name: str) -> list[str]:
    """Return the lines of `judge_runs`, none where nothing can be judged."""
    noise = judge_runs(found, name)
    return noise.lines if noise else []


def judge_runs(found: list[Record], name: str) -> Winner | None:
    """Count over their validation images the single runs that the best cannot be told from; None: nothing is known.

    Args:
        found: The runs; only finished ones with this metric count.
        name: val_loss or val_accuracy; of other objectives nothing is known.
    """
    if name not in OVER_IMAGES:
        return None
    ranked = best_first(found, name)
    if len(ranked) < 2:
        return None
    best, *others = ranked
    read_best = functools.cache(lambda: _by_image(best, name))  # once for all others, and only if one is near
    unclear = [other for other in others if not _is_clear(best, other, name, width_of(len(others)))]
    gaps = [gap for other in unclear if (gap := gap_between(best, other, name, read_best))]
    noise = [gap for gap in gaps if gap.is_noise(len(others))]
    images = max((gap.images for gap in gaps), default=0)
    how = [f"paired over the same {images:,} validation images"] if images else []
    unpaired = sum(not gap.images for gap in noise)
    images_known = all(record.fingerprint for record in ranked)
    cause = "validated on other images" if images_known else "not known to be validated on the same images"
    how += [f"{unpaired} of them unpaired, {cause}"] if unpaired else []
    unknown = len(unclear) - len(gaps)
    how += [f"{unknown} cannot be judged"] if unknown else []
    ways = "; ".join([*how, "another seed may add to it"])
    lie, together = ("other lies", "") if len(others) == 1 else ("others lie", " for all together")
    lines = [f"{len(noise)} of {len(others):,} {lie} within noise of the best (95 %{together}; {ways})"]
    first = gap_between(best, others[0], name, read_best)
    needed = _images_needed(first)
    size = [_describe_size(best, first, needed, name)] if first and needed else []
    return Winner(None, len(noise), unknown, needed, lines + size)


def _is_clear(best: Record, other: Record, name: str, width: float) -> bool:
    """Return whether the saved errors show that no pairing could make the difference noise; no file is read.

    The standard error of a difference is at most the sum of both errors; noise is a width of it.
    """
    values = [record.value(name) for record in (best, other)]
    errors = [record.metrics.get(f"{name}_se") for record in (best, other)]
    known = [number for number in values + errors if number is not None and math.isfinite(number)]
    return len(known) == 4 and abs(known[0] - known[1]) > width * (known[2] + known[3])


def _images_needed(gap: Gap | None) -> int | None:
    """Return how many validation images would tell two runs apart; None: these do, or nothing is paired."""
    if gap is None or not gap.images or not gap.is_noise() or not gap.mean:
        return None
    return math.ceil(gap.images * (PLANNED * gap.error / gap.mean) ** 2)


def _describe_size(best: Record, gap: Gap, needed: int, name: str) -> str:
    text = (
        f"{gap.images:,} validation images are too few to tell the first two apart: {name} differs by "
        f"{abs(gap.mean):.2g} ({interval_text(abs(gap.mean), WIDTH * gap.error)}); "
        f"about {float(f'{needed:.2g}'):,.0f} would do"
    )
    every = sum(best.metrics.get(f"{subset}_images") or 0 for subset in ("train", "validation"))
    if needed > every:
        return f"{text}, more than there are: their difference may not matter"
    size = math.ceil(100 * needed / every) / 100
    if best.settings.get("split") == "holdout" and size <= 0.5:
        return f"{text}: split.validation_size={size:g}"
    return f"{text}: validate on every image, with `confirm --folds 5`"
