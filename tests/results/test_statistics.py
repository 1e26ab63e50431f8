"""Repetitions are grouped, and differences are judged by intervals."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.judge import (
    Configuration,
    describe_mean,
    describe_order,
    group_repetitions,
    judge_difference,
    matched_means,
)
from sweeper_digits.runs.record import Record, find_runs

Tool = Callable[..., str]
SWEEP = Path("multirun/first")


def test_seeds_are_grouped_and_noise_is_said(tool: Tool) -> None:
    out = tool("compare", "multirun", "--no-report")
    found = find_runs(["multirun"])
    groups = group_repetitions(found, "val_loss")
    assert [len(group.samples) for group in groups] == [2, 2]
    assert re.search(r"first and second (are apart|cannot be told apart).*paired over 2 seeds", out)
    assert re.search(r"best +val_loss [\d.]+ \(95 %: [\d.-]+ to [\d.-]+; over 2 seeds, on the same 36 images\)", out)


def configuration(*values: float, seeds: range | None = None, split_seed: int = 0) -> Configuration:
    metrics = {"validation_fingerprint": f"images of {split_seed}"}
    runs = [Record(RunFolder("nowhere"), "finished", {"split.seed": split_seed}, metrics=metrics) for _ in values]
    pairs = zip(seeds or range(9), values, strict=False)
    return Configuration(runs, {(seed, split_seed): value for seed, value in pairs})


def test_differences_are_judged_by_intervals() -> None:
    # Paired: a nearly constant gap under much noise counts; unpaired, the same numbers do not.
    noisy, shifted = (0.010, 0.030, 0.020), (0.0110, 0.0311, 0.0211)
    differ, text, *_ = judge_difference(configuration(*noisy), configuration(*shifted), "val_loss")
    assert differ and "paired over 3" in text
    differ, text, *_ = judge_difference(configuration(*noisy), configuration(*shifted, seeds=range(10, 13)), "val_loss")
    assert differ is False and "over 3 and 3 seeds" in text
    assert judge_difference(configuration(0.1), configuration(0.2), "params")[0] is None
    assert judge_difference(configuration(0.1), configuration(0.2, 0.3), "val_loss")[0] is None
    # Made twice with one seed, a configuration is not repeated.
    twice = Configuration(configuration(0.1, 0.1).runs, {(0, 0): 0.1})
    assert "one seed each" in judge_difference(twice, configuration(0.2), "params")[1]
    # The same seeds on other images are no pairs, and their spread does not include that of the images.
    differ, text, *_ = judge_difference(configuration(*noisy), configuration(*shifted, split_seed=1), "val_loss")
    assert differ is None and "validated on different images" in text
    unknown = configuration(*shifted)
    unknown.runs[0].metrics.clear()  # it kept nothing
    differ, text, *_ = judge_difference(configuration(*noisy), unknown, "val_loss")
    assert differ is None and "not known to be validated on the same images" in text
    assert unknown.covers == "over 3 seeds"
    # A second that is better on what both have is not worse, whatever its mean over everything.
    second = configuration(*(value - 0.001 for value in noisy), 0.9)
    assert judge_difference(configuration(*noisy), second, "val_loss")[0] is False
    # Twice one image of 1,000 apart: no spread, no certainty.
    steps = (configuration(0.991, 0.993), configuration(0.990, 0.992))
    assert judge_difference(*steps, "val_accuracy")[0] is judge_difference(*steps, "images_right")[0] is False
    assert judge_difference(steps[1], steps[0], "params")[0]  # nothing draws them at random
    # Student's t for two values: half width = 12.706 * s / sqrt(2).
    assert configuration(1.0, 2.0).interval == pytest.approx(12.706 * 0.70711 / 2**0.5, rel=1e-3)


def test_single_runs_are_compared_image_by_image(tool: Tool) -> None:
    for number in (1, 3):  # of each optimizer one seed stays
        shutil.rmtree(SWEEP / str(number))
    out = tool("compare", "multirun/first", "--no-report")
    assert re.search(
        r"val_loss differs by [\d.]+ \(95 %: -?[\d.]+ to [\d.]+; over \d+ validation images, one run each", out
    )


# Of experiment=best (docs/results.md): the folds' levels, and how far a seed and the rest move a run.
FOLDS = np.array([0.0077, 0.0100, 0.0173, 0.0120, 0.0113])
SEED, REST = 0.0010, 0.0005
REPEATS = 1000


def drawn(
    rng: np.random.Generator, folds: int, seeds: int, shared: float = 0.0, levels: np.ndarray | None = None
) -> Configuration:
    """A configuration whose true mean is 0: levels of the folds, effects of the seeds, and a rest.

    A seed draws the same weights for each fold, but trains on other images there: a share of the variance between seeds
    is the same on all folds, the rest is each fold's own.
    """
    levels = rng.normal(0, FOLDS.std(ddof=1), folds) if levels is None else levels
    luck = shared**0.5 * rng.normal(0, SEED, (seeds, 1)) + (1 - shared) ** 0.5 * rng.normal(0, SEED, (seeds, folds))
    values = levels + luck + rng.normal(0, REST, (seeds, folds))
    samples = {(seed, fold): float(values[seed, fold]) for seed in range(seeds) for fold in range(folds)}
    metrics = {"folds": [{"validation_fingerprint": f"fold {fold}"} for fold in range(folds)]}
    return Configuration([Record(RunFolder("nowhere"), "finished", {"split.folds": folds}, metrics=metrics)], samples)


@pytest.mark.parametrize(
    ("folds", "seeds", "shared"), [(1, 4, 0.0), (5, 1, 0.0), (5, 3, 0.0), (5, 3, 0.5), (5, 3, 1.0), (5, 5, 0.5)]
)
def test_intervals_cover_what_they_say(folds: int, seeds: int, shared: float) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(REPEATS):
        # The seeds of one validation part say nothing of other images: its level is what they estimate.
        one = drawn(rng, folds, seeds, shared, np.zeros(1) if folds == 1 else None)
        covered += abs(one.mean) <= one.interval
    assert covered / REPEATS == pytest.approx(0.95, abs=0.02)


def share_told_apart(folds: int, seeds: int, shared: float, how: str) -> float:
    """How often two configurations with the same true mean are told apart, and that it is said how."""
    rng = np.random.default_rng(1)
    apart = 0
    for _ in range(REPEATS):
        levels = rng.normal(0, FOLDS.std(ddof=1), folds)
        pair = [drawn(rng, folds, seeds, shared, levels) for _ in range(2)]
        if not how.startswith("paired"):
            pair = [drawn(rng, folds, seeds, shared) for _ in range(2)]
            for fold in pair[1].runs[0].metrics["folds"]:
                fold["validation_fingerprint"] += " of another split"
        first, second = sorted(pair, key=lambda group: group.mean)
        differ, text, *_ = judge_difference(first, second, "val_loss")
        apart += bool(differ)
        assert f"; {how})" in text
    return apart / REPEATS


BOTH = "paired over 5 folds or over {} seeds, the wider of both"
ONE_SEED = "paired over 5 folds: another seed may reverse it"


@pytest.mark.parametrize(
    ("folds", "seeds", "shared", "how"),
    [
        (1, 4, 0.0, "paired over 4 seeds"),
        (5, 1, 0.0, ONE_SEED),
        (5, 2, 1.0, BOTH.format(2)),
        (5, 3, 0.0, BOTH.format(3)),
        (5, 3, 0.5, BOTH.format(3)),
        (5, 3, 1.0, BOTH.format(3)),
        (5, 1, 0.0, "over 5 and 5 folds"),
        (5, 3, 1.0, "over 5 and 5 folds or over 3 and 3 seeds, the wider of both"),
    ],
)
def test_what_does_not_differ_is_told_apart_in_one_of_twenty(folds: int, seeds: int, shared: float, how: str) -> None:
    assert share_told_apart(folds, seeds, shared, how) <= 0.05 + 0.02


def test_what_one_seed_on_five_folds_cannot_show() -> None:
    # As docs/results.md says; no test of one seed can do better.
    assert share_told_apart(5, 1, 0.5, ONE_SEED) == pytest.approx(0.25, abs=0.04)


def test_the_mean_of_equal_seeds_counts_not_the_best() -> None:
    def run(value: float, seed: int = 0) -> Record:
        return Record(RunFolder("nowhere"), "finished", {"seed": seed}, metrics={"val_loss": value})

    (group,) = group_repetitions([run(0.030), run(0.020), run(0.025), run(0.035, seed=1)], "val_loss")
    assert list(group.samples.values()) == pytest.approx([0.025, 0.035]) and group.mean == pytest.approx(0.03)


def test_copies_of_a_run_that_differ_are_not_judged_by_the_better_one() -> None:
    """The same seed trained on a CPU and on a GPU: no repetition, and no single run either."""

    def run(value: float, units: int) -> Record:
        metrics = {"val_loss": value, "val_loss_se": 0.001}
        return Record(RunFolder("nowhere"), "finished", {"seed": 0, "model.units": units}, metrics=metrics)

    first, second = group_repetitions([run(0.22, 1), run(0.26, 1), run(0.25, 2)], "val_loss")
    assert first.mean == pytest.approx(0.24) and describe_mean(first, "val_loss") == "0.24"
    assert judge_difference(first, second, "val_loss")[0] is None
    first, second = group_repetitions([run(0.22, 1), run(0.22, 1), run(0.25, 2)], "val_loss")
    assert judge_difference(first, second, "val_loss")[0] and describe_mean(first, "val_loss") == "0.22 ± 0.001"


def on_folds(units: int, *values: float | None) -> list[Record]:
    """Runs of one configuration, one for each fold that has a value."""
    settings = {"seed": 0, "split": "kfold", "model.units": units}
    measured = {
        fold: {"val_loss": value, "validation_fingerprint": str(fold)}
        for fold, value in enumerate(values)
        if value is not None
    }
    return [
        Record(RunFolder(f"{units}/{fold}"), "finished", settings | {"split.fold": fold}, metrics=metrics)
        for fold, metrics in measured.items()
    ]


def test_a_configuration_without_the_hard_fold_is_not_the_best_for_that() -> None:
    complete, lacking = on_folds(1, 0.010, 0.012, 0.040), on_folds(2, 0.014, 0.0161, None)
    first, second = group_repetitions(lacking + complete, "val_loss")
    assert second.mean < first.mean and first.runs == complete
    assert describe_order([first, second]) == [
        "1 of 2 configurations lacks folds; the order leaves out how hard each fold is"
    ]
    text = judge_difference(second, first, "val_loss").text
    assert "are apart, the second is better where both were measured" in text
    assert "val_loss differs by 0.004 (95 %: 0.00341 to 0.00469; " in text
    # Nothing tells how hard folds are that no configuration shares with another one.
    alone = group_repetitions(on_folds(1, 0.010, None) + on_folds(2, None, 0.009), "val_loss")
    assert [group.mean for group in alone] == [0.009, 0.010]
    whole = group_repetitions(on_folds(1, 0.010, 0.012) + on_folds(2, 0.011, 0.010), "val_loss")
    assert describe_order(whole) == [] and [group.mean for group in whole] == sorted(group.mean for group in whole)


def test_equal_values_have_no_interval() -> None:
    equal = configuration(0.99, 0.99)
    assert np.isnan(equal.interval)
    assert describe_mean(equal, "val_accuracy") == "0.99 (over 2 seeds, on the same images; all equal)"


def test_several_comparisons_with_the_best_hold_together() -> None:
    """Otherwise the truly best of ten nearly equal ones is called worse than the luckiest in one case in ten."""
    rng = np.random.default_rng(0)
    alone = together = 0
    for _ in range(300):
        truly_best, *others = (configuration(*rng.normal(0, 1, 5)) for _ in range(10))
        luckiest = min(others, key=lambda group: group.mean)
        if luckiest.mean < truly_best.mean:
            alone += bool(judge_difference(luckiest, truly_best, "val_loss")[0])
            together += bool(judge_difference(luckiest, truly_best, "val_loss", len(others))[0])
    assert together / 300 < 0.05 < 0.1 < alone / 300


def test_an_interval_says_what_it_covers() -> None:
    assert configuration(0.1).covers == ""
    seeds = configuration(0.1, 0.2, 0.3)
    seeds.runs[0].metrics["validation_images"] = 750
    assert seeds.covers == "over 3 seeds, on the same 750 images"
    rng = np.random.default_rng(0)
    assert drawn(rng, 5, 1).covers.startswith("over 5 folds; their training sets overlap, so it is a little narrow")
    assert drawn(rng, 5, 3).covers.startswith("over 5 folds or over 3 seeds, the wider of both; their training sets")
    # Seeds that only some folds have, or a seed of its own for each fold, show nothing of what folds share.
    uneven = drawn(rng, 5, 3)
    uneven.samples = {(seed, fold): value for (seed, fold), value in uneven.samples.items() if seed in (0, fold)}
    assert uneven.by_seed == {} and uneven.covers.startswith("over 5 folds; ")


def test_the_levels_of_folds_are_those_of_least_squares() -> None:
    """Against means by turns, of groups without their folds and of folds without their groups, until they stay."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        table = rng.normal(0, 1, (5, 1)) + rng.normal(0, 3, 4) + rng.normal(0, 0.5, (5, 4))
        table[rng.random((5, 4)) < 0.4] = np.nan
        table[:, 0] = rng.normal(0, 1, 5)  # each group has a fold
        added = np.zeros(4)
        for _ in range(2000):
            means = np.nanmean(table - added, axis=1)
            added = np.nan_to_num([np.mean(one[~np.isnan(one)]) for one in (table - means[:, np.newaxis]).T])
        groups = [
            Configuration(on_folds(number, *values), {(0, f): v for f, v in enumerate(values) if not np.isnan(v)})
            for number, values in enumerate(table.tolist())
        ]
        assert matched_means(groups) == pytest.approx(means.tolist(), abs=1e-9)
