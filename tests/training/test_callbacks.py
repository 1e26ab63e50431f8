"""What is kept of the epochs."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.predictions import Predictions
from sweeper_digits.training.callbacks import BestWeights, Checkpoint, History
from sweeper_digits.training.fit import _speed, clean_epochs
from sweeper_digits.training.validation import Validation

LOSSES = [0.50, 0.30, 0.31, 0.40, 0.29, 0.28]
ACCURACIES = [0.80, 0.90, 0.95, 0.95, 0.94, 0.95]


def best_after(metric: str, patience: int | None, validated: bool = True) -> tuple[BestWeights, int]:
    """Let each epoch's weights be its number; return the callback and how many epochs were trained."""
    kept = SimpleNamespace(get_weights=lambda: [len(trained)])
    trained: list[int] = []
    best = BestWeights(kept, metric, patience, first=0)
    best.set_model(SimpleNamespace(stop_training=False))
    for epoch, (loss, accuracy) in enumerate(zip(LOSSES, ACCURACIES, strict=True)):
        best.on_epoch_end(epoch, {"val_loss": loss, "val_accuracy": accuracy} if validated else {})
        trained.append(epoch)
        if best.model.stop_training:
            break
    return best, len(trained)


def test_the_best_epoch_is_the_objectives_and_the_earlier_one_of_equals() -> None:
    cases = [("val_loss", None, 5, 6), ("val_loss", 2, 1, 4), ("val_accuracy", None, 2, 6), ("val_accuracy", 2, 2, 5)]
    for metric, patience, epoch, trained in cases:
        best, epochs = best_after(metric, patience)
        assert (best.epoch, list(map(int, best.weights)), epochs) == (epoch, [epoch], trained)
        assert best.value == {"val_loss": LOSSES, "val_accuracy": ACCURACIES}[metric][epoch]


def test_without_validation_the_last_epoch_is_the_best() -> None:
    best, epochs = best_after("val_loss", 2, validated=False)
    assert (best.epoch, list(map(int, best.weights)), epochs) == (5, [5], 6)


def test_clean_epochs_are_never_silently_none() -> None:
    # experiment=best, the command in README.md, and fractions that used to give no epoch, or two of 2.5
    cases = [(0.17, 24, 4), (0.2, 20, 4), (0.0, 8, 0), (0.1, 5, 1), (0.001, 1, 1), (0.1, 25, 3), (1.0, 3, 3)]
    assert [clean_epochs(fraction, epochs) for fraction, epochs, _ in cases] == [clean for _, _, clean in cases]


def test_the_time_of_a_run_that_is_resumed_twice_is_that_of_all_its_parts(tmp_path: Path) -> None:
    nothing: Any = SimpleNamespace(variables=[], build=lambda variables: None)
    trainee: Any = SimpleNamespace(optimizer=nothing, variables=[], trainable_variables=[], layers=[])
    best: Any = SimpleNamespace(weights=[], epoch=0, value=0.5)
    for epoch, (seconds, earlier) in enumerate([(100, 0), (10, 100), (0, 110)], 1):
        part = Checkpoint(RunFolder(tmp_path), trainee, best, time.perf_counter() - seconds, "these")
        if epoch > 1:
            part.restore(RunFolder(tmp_path))
        assert part.earlier_seconds == pytest.approx(earlier, abs=5)
        RunFolder(tmp_path).append_history({"epoch": epoch})
        part.on_epoch_begin(epoch)


def test_an_epoch_has_the_seconds_of_all_that_it_does_and_the_speed_of_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    history = History(RunFolder(tmp_path), epochs=1, images=600)
    history.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.1)))
    history.on_train_begin()
    history.on_epoch_begin(0)
    now += 1  # the checkpoint is written
    for batch in range(2):
        history.on_train_batch_begin(batch)
        now += 1
        history.on_train_batch_end(batch)
    now += 4  # validation
    history.on_epoch_end(0, {"loss": 0.5})
    (row,) = RunFolder(tmp_path).read_history()
    assert (row["seconds"], row["images_per_second"]) == (7, 300)


def test_the_speed_of_a_run_is_that_of_its_epochs_which_do_not_compile() -> None:
    long = [400, 1000, 1000, 390, 391, 1000, 1000]
    for rates in ([390], [400, 1000], [400, 391, 1000], [400, 1000, 391, 1000], long):
        assert _speed([{"seconds": 600 / rate, "images_per_second": rate} for rate in rates]) == max(rates)


def test_the_val_loss_is_the_mean_of_the_losses_that_its_standard_error_is_of() -> None:
    logits, labels = np.array([[100, 0], [0, 100], [1, 2], [5, 0]], np.float32), np.array([1, 1, 1, 0])
    predictor = SimpleNamespace(predict=lambda *given, **options: logits)
    validation, logs = Validation(predictor, None, 4, labels, objectives=[]), dict[str, float]()
    validation.on_epoch_end(0, logs)
    probabilities = np.exp(validation.log_probabilities())
    saved = Predictions.of(np.arange(4), labels, probabilities, np.zeros((4, 1, 1, 1), np.uint8))
    assert logs["val_loss"] == pytest.approx(saved.losses.mean(), rel=1e-5)
    assert max(saved.losses) == 30
