"""Labels that held-out models contradict are listed in the report, and no others."""

import os
from pathlib import Path

import numpy as np

from sweeper_digits.data.fingerprint import Content
from sweeper_digits.results.suspects import find_suspects
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.predictions import Predictions
from sweeper_digits.runs.record import Record

CLASSES = ("a", "b", "c")


def record(folder: Path, val_loss: float, **settings: object) -> Record:
    """A finished run with nothing but its settings."""
    return Record(
        RunFolder(folder), "finished", {"data": "npz", "split": "kfold"} | settings,
        metrics={"val_loss": val_loss, "classes": list(CLASSES)},
    )  # fmt: skip


def predicted(run: Record, images: list[int], labels: list[int], seen: list[int], sure: list[float]) -> None:
    """Leave a run's predictions: for each image the class it sees, and how sure it is."""
    probabilities = np.repeat((1 - np.array(sure))[:, None] / 2, 3, axis=1)
    probabilities[np.arange(len(seen)), seen] = sure
    pictures = np.stack([np.full((2, 2, 1), image, np.uint8) for image in images])
    run.run.folder.mkdir()
    run.run.write_validation(Predictions.of(np.array(images), np.array(labels), probabilities, pictures))
    every = np.zeros(50, int)  # as the run read them: each image of the data is known by its number
    every[images] = labels
    content = np.arange(50, dtype=np.uint64) + (1000 if "other" in str(run.settings.get("data.path")) else 0)
    run.run.write_images(Content(content, every, CLASSES, np.zeros(50, np.int8)))


def test_labels_that_models_contradict_as_surely_as_they_are_sure_of_right_ones(tmp_path: Path) -> None:
    """Image 37 is contradicted by both runs, 38 by one and confirmed by the other, 39 by one that is not sure."""
    first, second = record(tmp_path / "0", 0.1), record(tmp_path / "1", 0.2)
    right = [i % 3 for i in range(30)]
    images, sure = list(range(30)), [0.9] * 30
    predicted(first, [*images, 37, 38, 39], [*right, 0, 1, 2], [*right, 1, 2, 0], [*sure, 0.99, 0.99, 0.6])
    predicted(second, [*images, 37, 38], [*right, 0, 1], [*right, 1, 1], [*sure, 0.95, 0.9])
    (found,) = find_suspects([first, second], first)
    assert (found.image, CLASSES[found.label], CLASSES[found.found], found.models) == (37, "a", "b", 2)
    assert abs(found.probability - 0.97) < 0.001 and (found.picture == 37).all()


def test_runs_of_other_images_are_not_asked(tmp_path: Path) -> None:
    best, other = record(tmp_path / "0", 0.1), record(tmp_path / "1", 0.2, **{"data.path": "other.npz"})
    predicted(best, [0, 1, 2, 3], [0, 1, 2, 0], [0, 1, 2, 0], [0.9] * 4)
    predicted(other, [0, 1, 2, 3], [0, 1, 2, 0], [0, 1, 2, 1], [0.9, 0.9, 0.9, 0.99])
    assert find_suspects([best, other], best) == []
    assert [one.image for one in find_suspects([other], other)] == [3]


def test_a_label_that_was_corrected_between_the_runs_is_no_suspect(tmp_path: Path) -> None:
    """Whichever run is the better one: the one before the correction or the one after it."""
    before, after = record(tmp_path / "0", 0.1), record(tmp_path / "1", 0.2)
    predicted(before, [0, 1, 2, 3], [0, 1, 2, 0], [0, 1, 2, 1], [0.9, 0.9, 0.9, 0.99])
    predicted(after, [0, 1, 2, 3], [0, 1, 2, 1], [0, 1, 2, 1], [0.9, 0.9, 0.9, 0.99])
    for best, other in [(before, after), (after, record(before.run.folder, 0.3))]:
        assert find_suspects([best, other], best) == []
    (found,) = find_suspects([before], before)
    assert found.image == 3


def test_runs_without_readable_predictions_have_no_suspects(tmp_path: Path) -> None:
    nothing, damaged = record(tmp_path / "0", 0.1), record(tmp_path / "1", 0.2)
    damaged.run.folder.mkdir()
    damaged.run.validation.write_bytes(os.urandom(100))
    assert find_suspects([nothing, damaged], nothing) == []
