"""Repetitions are grouped, and differences are judged by intervals."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper_digits.results.statistics import Configuration, group_repetitions, judge_difference
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.record import Record, find_runs

Tool = Callable[..., str]
SWEEP = Path("multirun/first")


def test_seeds_are_grouped_and_noise_is_said(tool: Tool) -> None:
    out = tool("compare", "multirun", "--no-report")
    found = find_runs(["multirun"])
    groups = group_repetitions(found, "val_loss")
    assert [len(group.samples) for group in groups] == [2, 2]
    assert re.search(r"first and second (are apart|cannot be told apart).*paired over 2 seeds or folds", out)
    assert re.search(r"best +val_loss [\d.]+ ± [\d.e+-]+ over 2 seeds or folds", out)


def configuration(*values: float, seeds: range | None = None, split_seed: int = 0) -> Configuration:
    runs = [Record(RunFolder("nowhere"), "finished", {"split.seed": split_seed}) for _ in values]
    return Configuration(runs, {(seed, 0): value for seed, value in zip(seeds or range(9), values, strict=False)})


def test_differences_are_judged_by_intervals() -> None:
    # Paired: a constant gap under much noise counts; unpaired, the same numbers do not.
    noisy = (0.010, 0.030, 0.020)
    shifted = tuple(value + 0.001 for value in noisy)
    differ, text = judge_difference(configuration(*noisy), configuration(*shifted), "val_loss")
    assert differ and "paired over 3" in text
    differ, text = judge_difference(configuration(*noisy), configuration(*shifted, seeds=range(10, 13)), "val_loss")
    assert differ is False and "over 3 and 3 runs" in text
    assert judge_difference(configuration(0.1), configuration(0.2), "params")[0] is None
    assert judge_difference(configuration(0.1), configuration(0.2, 0.3), "val_loss")[0] is None
    # Made twice with one seed, a configuration is not repeated.
    twice = Configuration(configuration(0.1, 0.1).runs, {(0, 0): 0.1})
    assert "one run each" in judge_difference(twice, configuration(0.2), "params")[1]
    # The same seeds on other images are no pairs.
    _, text = judge_difference(configuration(*noisy), configuration(*shifted, split_seed=1), "val_loss")
    assert "over 3 and 3 runs" in text
    # A second that is better on what both have is not worse, whatever its mean over everything.
    second = configuration(*(value - 0.001 for value in noisy), 0.9)
    assert judge_difference(configuration(*noisy), second, "val_loss")[0] is False
    # Twice one image of 1,000 apart: no spread, no certainty.
    accuracies = (configuration(0.991, 0.993), configuration(0.990, 0.992))
    assert judge_difference(*accuracies, "val_accuracy")[0] is False
    # Student's t for two values: half width = 12.706 * s / sqrt(2).
    assert configuration(1.0, 2.0).interval == pytest.approx(12.706 * 0.70711 / 2**0.5, rel=1e-3)


def test_single_runs_are_compared_image_by_image(tool: Tool) -> None:
    for number in (1, 3):  # of each optimizer one seed stays
        shutil.rmtree(SWEEP / str(number))
    out = tool("compare", "multirun/first", "--no-report")
    assert re.search(r"val_loss differs by .* \(over \d+ validation images, one run each", out)
