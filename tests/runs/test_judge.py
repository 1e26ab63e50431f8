"""Standard errors over images, and the runs that they tell apart."""

import math
from pathlib import Path

import numpy as np
import pytest

from sweeper_digits.data.fingerprint import Content
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.judge import describe_noise, gap_between, paired_gap, standard_error
from sweeper_digits.runs.predictions import LEAST, Predictions, error_of_mean
from sweeper_digits.runs.record import Record

IMAGES = 1000


def record(folder: Path, losses: np.ndarray, images: np.ndarray | None = None, saves_error: bool = True) -> Record:
    """A finished run with these cross entropies of its validation images, each of which is known by its number."""
    logs = np.full((len(losses), 10), LEAST)
    logs[:, 0] = -losses
    nothing = np.zeros((0, 28, 28), np.uint8)
    images = np.arange(len(losses)) if images is None else images
    run, labels = RunFolder(folder), np.zeros(len(losses), int)
    run.write_validation(Predictions(np.arange(len(losses)), labels, logs, np.zeros(0, int), nothing))
    run.write_images(Content(images.astype(np.uint64), labels, ("0",), np.zeros(len(losses), np.int8)))
    metrics = {"val_loss": float(losses.mean()), "train_images": 4 * len(losses), "validation_images": len(losses)}
    if saves_error:
        metrics["val_loss_se"] = error_of_mean(losses)
    return Record(run, "finished", {"split": "holdout", "data": "npz"}, metrics=metrics)


def draw(seed: int, mean: float = 0.02) -> np.ndarray:
    return np.random.default_rng(seed).exponential(mean, IMAGES)


def test_an_old_run_has_its_error_in_its_predictions(tmp_path: Path) -> None:
    old, new = (record(tmp_path / str(saves), draw(0), saves_error=saves) for saves in (False, True))
    assert standard_error(old, "val_loss") == pytest.approx(draw(0).std(ddof=1) / math.sqrt(IMAGES), rel=1e-3)
    assert standard_error(old, "val_loss") == pytest.approx(standard_error(new, "val_loss"), rel=1e-3)
    assert 0 < (standard_error(old, "val_accuracy") or 0) < 1.5 / IMAGES and standard_error(old, "seconds") is None
    old.run.validation.write_bytes(b"cut")
    assert standard_error(old, "val_loss") is None


def test_equal_images_are_paired_in_any_order_and_others_are_not(tmp_path: Path) -> None:
    losses = draw(0)
    first = record(tmp_path / "first", losses)
    shuffled = np.random.default_rng(1).permutation(IMAGES)
    second = record(tmp_path / "second", losses[shuffled] + 0.001, images=shuffled)
    gap = gap_between(first, second, "val_loss")
    assert gap.images == IMAGES and gap.mean == pytest.approx(0.001, rel=0.02) and not gap.is_noise()
    other = record(tmp_path / "other", losses + 0.001, images=np.arange(IMAGES) + 1)
    gap = gap_between(first, other, "val_loss")
    assert gap.images == 0 and gap.is_noise() and gap.error == pytest.approx(math.sqrt(2) * error_of_mean(losses))
    labels = np.zeros(IMAGES, int)  # with other names, the labels are others
    second.run.write_images(Content(shuffled.astype(np.uint64), labels, ("one",), np.zeros(IMAGES, np.int8)))
    assert gap_between(first, second, "val_loss").images == 0
    for run in (first, second):  # which did not keep their images: equal places may be other images
        run.run.images.unlink()
    assert gap_between(first, second, "val_loss").images == 0
    assert "not known to be validated on the same images" in describe_noise([first, second], "val_loss")[0]


def test_the_winner_says_how_many_it_cannot_be_told_from_and_what_would_do(tmp_path: Path) -> None:
    losses = draw(0)
    wobble = np.random.default_rng(1).normal(0, 0.01, IMAGES)
    near = record(tmp_path / "near", losses + 0.0004 + wobble - wobble.mean())
    far = [record(tmp_path / f"far{number}", losses + 0.1 + number) for number in range(3)]
    for one in far:
        one.run.validation.unlink()  # not needed: the saved errors show that they are apart
    best = record(tmp_path / "best", losses)
    noise, size = describe_noise([*far, near, best], "val_loss")
    assert noise.startswith(
        "1 of 4 others lie within noise of the best (95 % for all together; paired over the same 1,000 valid"
    )
    # (1.96 + 0.84)^2 * (0.01 / 0.0004)^2 = 4,900 of 5,000 images
    assert "val_loss differs by 0.0004 (95 %: -0.00021 to 0.00101); about 4,800 would do" in size
    assert size.endswith("with `confirm --folds 5`")
    near = record(tmp_path / "near", losses + 0.00055 + wobble - wobble.mean())
    _, size = describe_noise([near, best], "val_loss")
    assert "about 2,5" in size and size.endswith("with `confirm --folds 5`")
    near = record(tmp_path / "near", losses + 0.0006 + wobble - wobble.mean())
    _, size = describe_noise([near, best], "val_loss")
    assert size.endswith("about 2,100 would do: split.validation_size=0.43"), size
    near = record(tmp_path / "near", losses + 0.0001 + wobble - wobble.mean())
    # (1.96 + 0.84)^2 * (0.01 / 0.0001)^2 = 78,000 images
    size = describe_noise([near, best], "val_loss")[1]
    assert size.endswith(",000 would do, more than there are: their difference may not matter"), size
    assert describe_noise([best], "val_loss") == [] and describe_noise([near, best], "params") == []


def test_a_paired_interval_covers_and_errs_as_it_says() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(2000):
        images = rng.exponential(0.02, 750) ** 1.5  # heavy-tailed as cross entropies are
        first, second = (images * rng.lognormal(0, 0.5, 750) for _ in range(2))
        wrong += not paired_gap(first, second).is_noise()
    assert wrong / 2000 == pytest.approx(0.05, abs=0.02)


def test_the_truly_best_of_many_runs_is_within_noise_of_the_luckiest() -> None:
    """In 95 of 100 cases; compared with a single interval, it is cast out in one case in four."""
    rng = np.random.default_rng(0)
    alone = together = 0
    for _ in range(1000):
        truly_best, *others = rng.exponential(0.02, 300) + rng.normal(0, 0.005, (30, 300))
        luckiest = min(others, key=lambda losses: float(losses.mean()))
        if luckiest.mean() < truly_best.mean():
            gap = paired_gap(luckiest, truly_best)
            alone += not gap.is_noise()
            together += not gap.is_noise(len(others))
    assert together / 1000 < 0.05 < 0.2 < alone / 1000


def test_runs_that_cannot_be_judged_are_counted(tmp_path: Path) -> None:
    """Of runs that saved neither errors nor predictions, nothing is claimed in silence."""
    runs = [record(tmp_path / str(number), draw(number)) for number in range(3)]
    for run in runs:
        run.run.validation.unlink()
        del run.metrics["val_loss_se"]
    (line,) = describe_noise(runs, "val_loss")
    assert line.startswith("0 of 2 others lie within noise of the best (95 % for all together; 2 cannot be judged; ")
