"""How far chance reaches: standard errors over validation images, and which runs they tell apart.

A validation loss is a mean over images that were drawn at random; other images would give another. The errors here are
those of the drawing. They do not cover the seed of a training: another seed moves the values further.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from sweeper_digits.data.fingerprint import Content
from sweeper_digits.errors import UserError
from sweeper_digits.runs.predictions import Predictions, error_of_mean
from sweeper_digits.runs.record import Record, best_first
from sweeper_digits.text import with_error


def width_of(comparisons: int) -> float:
    """Return half the width, in standard errors, of a 95 % interval that is one of several comparisons with the best.

    The best of many runs is the luckiest of them: of 100 equal runs, 39 differ from it by more than a single interval.
    With these (Bonferroni), the run that is truly the best lies within noise of it in at least 95 % of cases.
    """
    return NormalDist().inv_cdf(1 - 0.025 / comparisons)


# Half the width of a 95 % interval, in standard errors. Validation parts are large enough for the normal distribution.
WIDTH = width_of(1)
# An experiment planned for a difference of this many standard errors finds the difference four times in five.
PLANNED = WIDTH + NormalDist().inv_cdf(0.8)
# Objectives that are means over the validation images.
OVER_IMAGES = ("val_loss", "val_accuracy")
# What ± stands for on every screen; an interval is shown by its ends.
ONE_ERROR = "one standard error over a run's validation images"


class ByContent(NamedTuple):
    """A run's predictions for its validation images, ordered by what the images are and not by where they were.

    Attributes:
        key: Equal for equal images with equal labels; None: it is not known which images they are.
        order: int (n,), places in the predictions.
        saved: The predictions, as they were saved.
    """

    key: bytes | None
    order: np.ndarray
    saved: Predictions


# The key of `ByContent`, and a value of each image in its order.
ByImage = tuple[bytes | None, np.ndarray]


@dataclass(frozen=True)
class Gap:
    """The difference of two runs.

    Attributes:
        mean: The second's value minus the first's.
        error: The standard error of the mean.
        images: How many images both predicted; 0 if they were validated on different images, or it is not known.
    """

    mean: float
    error: float
    images: int

    def is_noise(self, comparisons: int = 1) -> bool:
        """Return whether a 95 % interval of the difference includes 0, one of several that hold together."""
        return abs(self.mean) <= width_of(comparisons) * self.error


def standard_error(record: Record, name: str) -> float | None:
    """Return the standard error over images of val_loss or val_accuracy; None for another metric or if not known.

    A run of an older version, which did not save it, has it in its validation predictions.
    """
    if name not in OVER_IMAGES or not record.finished:
        return None
    saved = record.metrics.get(f"{name}_se")
    if saved is None and (found := _by_image(record, name)):
        saved = error_of_mean(found[1].astype(bool) if name == "val_accuracy" else found[1])
    return float(saved) if isinstance(saved, int | float) and math.isfinite(saved) else None


def gap_between(first: Record, second: Record, name: str) -> Gap | None:
    """Return the difference of two runs; None if it is not known.

    It is paired over images if both are known to be validated on the same.
    """
    return _gap(first, lambda: _by_image(first, name), second, name) if name in OVER_IMAGES else None


def _gap(first: Record, read_first: Callable[[], ByImage | None], second: Record, name: str) -> Gap | None:
    """Return what `gap_between` does; `read_first` reads the predictions of the first run, or has them."""
    ours, theirs = read_first(), _by_image(second, name)
    if ours and theirs and ours[0] is not None and ours[0] == theirs[0]:
        return paired_gap(ours[1], theirs[1])
    values = first.value(name), second.value(name)
    errors = standard_error(first, name), standard_error(second, name)
    if None in values or None in errors:
        return None
    (a, b), (s, t) = values, errors
    return Gap(b - a, math.hypot(s, t), 0)  # type: ignore[operator, arg-type]


def paired_gap(first: np.ndarray, second: np.ndarray) -> Gap:
    """Return the difference of values of the same images, float (n,) each."""
    difference = second - first
    return Gap(float(difference.mean()), error_of_mean(difference), len(difference))


def interval_text(middle: float, half: float) -> str:
    """Return a 95 % interval by its ends, to two digits of half its width."""
    places = min(12, max(0, 1 - math.floor(math.log10(half)))) if half > 0 and math.isfinite(half) else 5
    return f"95 %: {middle - half:.{places}f} to {middle + half:.{places}f}"


@dataclass(frozen=True)
class Noise:
    """How many runs the best one cannot be told from.

    Attributes:
        within: Runs within noise of the best, all of them together at 95 %.
        unknown: Runs of which it is not known.
        needed: About how many validation images would tell the first two apart; None: they are told apart, or it is
            not known.
        lines: The same in words, and which validation part would do.
    """

    within: int
    unknown: int
    needed: int | None
    lines: list[str]


def describe_noise(found: list[Record], name: str) -> list[str]:
    """Return the lines of `judge_noise`, none where nothing can be judged."""
    noise = judge_noise(found, name)
    return noise.lines if noise else []


def judge_noise(found: list[Record], name: str) -> Noise | None:
    """Say how many runs the best one cannot be told from, and which validation part would do.

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
    gaps = [gap for other in unclear if (gap := _gap(best, read_best, other, name))]
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
    first = _gap(best, read_best, others[0], name)
    needed = _images_needed(first)
    size = _describe_size(best, first, needed, name) if first and needed else []
    return Noise(len(noise), unknown, needed, lines + size)


def _is_clear(best: Record, other: Record, name: str, width: float) -> bool:
    """Return whether the saved errors show that no pairing could make the difference noise; no file is read.

    The standard error of a difference is at most the sum of both errors; noise is a width of it.
    """
    values = [record.value(name) for record in (best, other)]
    errors = [record.metrics.get(f"{name}_se") for record in (best, other)]
    known = [number for number in values + errors if isinstance(number, int | float) and math.isfinite(number)]
    return len(known) == 4 and abs(known[0] - known[1]) > width * (known[2] + known[3])


def _images_needed(gap: Gap | None) -> int | None:
    """Return how many validation images would tell two runs apart; None: these do, or nothing is paired."""
    if gap is None or not gap.images or not gap.is_noise() or not gap.mean:
        return None
    return math.ceil(gap.images * (PLANNED * gap.error / gap.mean) ** 2)


def _describe_size(best: Record, gap: Gap, needed: int, name: str) -> list[str]:
    """Say how many validation images would tell the first two apart."""
    text = (
        f"{gap.images:,} validation images are too few to tell the first two apart: {name} differs by "
        f"{abs(gap.mean):.2g} ({interval_text(abs(gap.mean), WIDTH * gap.error)}); "
        f"about {float(f'{needed:.2g}'):,.0f} would do"
    )
    counts = [best.metrics.get(f"{part}_images") for part in ("train", "validation")]
    every = sum(count for count in counts if isinstance(count, int | float))
    if needed > every:
        return [f"{text}, more than there are: their difference may not matter"]
    size = math.ceil(100 * needed / every) / 100
    if best.settings.get("split") == "holdout" and size <= 0.5:
        return [f"{text}: split.validation_size={size:g}"]
    return [f"{text}: validate on every image, with `confirm --folds 5`"]


def read_by_content(record: Record) -> ByContent:
    """Read a run's validation predictions.

    Folds come in another order than one validation part of the same images, and so do the rows of another file.

    Raises:
        UserError: There are none, or a file is damaged.
    """
    saved, content = record.run.read_validation(), record.run.read_images()
    if content is None or not fits(saved, content):
        return ByContent(None, np.argsort(saved.images, kind="stable"), saved)
    hashes = content.hashes[saved.images]
    order = np.lexsort((saved.labels, hashes))
    labels = saved.labels[order].astype(np.int64)
    return ByContent(hashes[order].tobytes() + labels.tobytes() + repr(content.classes).encode(), order, saved)


def fits(saved: Predictions, content: Content) -> bool:
    """Return whether predictions can be of these images: one of both files may be of another run."""
    places = saved.images
    inside = len(places) and places.min() >= 0 and places.max() < len(content.hashes)
    return bool(inside) and np.array_equal(content.labels[places], saved.labels)


def _by_image(record: Record, name: str) -> ByImage | None:
    """Return what identifies the validation images, and each one's cross entropy or 1.0 if it was labelled rightly."""
    try:
        key, order, saved = read_by_content(record)
    except UserError:
        return None
    right = saved.log_probabilities.argmax(axis=1) == saved.labels
    return key, (saved.losses if name == "val_loss" else right.astype(float))[order]


def format_value(record: Record, name: str, digits: int = 5) -> str:
    """Return a metric with its standard error over the validation images, for example `0.0170 ± 0.0031`."""
    value = record.value(name)
    return "" if value is None else with_error(value, standard_error(record, name), digits)


def run_row(record: Record, objective: str) -> dict[str, Any]:
    """Return a run's folder and its value, with the standard error of the value over the validation images."""
    value, error = record.value(objective), standard_error(record, objective)
    return {"folder": record.run.folder, "value": value, "value_se": error}
