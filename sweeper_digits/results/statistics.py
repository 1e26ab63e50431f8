"""Whether two configurations differ, and how many the best one cannot be told from."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from sweeper_digits.results.repetitions import NO_SPREAD, Configuration, describe_order, interval_of
from sweeper_digits.runs.noise import Gap, gap_between, interval_text, judge_noise, width_of
from sweeper_digits.runs.record import direction_of
from sweeper_digits.screen import counted

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
