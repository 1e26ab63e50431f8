"""Sets of other shapes and other classes, from the training to the prediction."""

import contextlib
import csv
import io
import string
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from sweeper_digits import __main__
from sweeper_digits.data.checks import as_labels, as_pixels
from sweeper_digits.data.dataset import FASHION, Dataset, as_dataset
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import RunFolder
from tests.tables import unlike

Train = Callable[..., RunFolder]
TINY = [
    "model=small", "model.filters=4", "model.stages=1", "model.normalization=false", "model.dense_units=16", "epochs=1",
    "batch_size=32", "precision=float32", "split.test_size=0.2",
]  # fmt: skip


def imitated(names: list[str], shape: tuple[int, ...], of_each: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Images of noise around a pattern for each class, with these labels."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 200, (len(names), *shape))
    images = np.repeat(patterns, of_each, axis=0) + rng.integers(0, 56, (len(names) * of_each, *shape))
    return images.astype(np.uint8), np.repeat(names, of_each)


SMALL = load_digits()
SETS = {
    "8x8, two classes": lambda: (SMALL.images[SMALL.target < 2].astype(np.uint8) * 15, SMALL.target[SMALL.target < 2]),
    "32x32 colour": lambda: imitated(["cat", "dog", "frog"], (32, 32, 3)),
    "a number is skipped": lambda: imitated(["1", "2", "4", "10"], (28, 20)),
    "letters and names": lambda: imitated([*string.ascii_uppercase, *FASHION], (28, 28), of_each=9),
}


@pytest.mark.parametrize("name", SETS)
def test_any_set_is_trained_and_predicted(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    images, labels = SETS[name]()
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    more = (
        ["figures=true", "export=[saved_model]"]
        if name == "32x32 colour"
        else [f"figures={name == 'letters and names'}"]
    )
    run = train("data=npz", f"data.path={tmp_path}/set.npz", "augmentation=elastic", *more, defaults=TINY)
    metrics = run.read_metrics()
    assert metrics is not None
    numbers = str(labels[0]).isdecimal()
    classes = sorted(set(labels.tolist()), key=int if numbers else str)
    assert metrics["classes"] == [str(label) for label in classes]
    assert metrics["image_shape"] == list(images.shape[1:] if images.ndim == 4 else (*images.shape[1:], 1))
    assert set(metrics["class_accuracy"]) == set(metrics["classes"])
    assert keras.saving.load_model(run.model).output_shape == (None, len(classes))
    if name in ("32x32 colour", "letters and names"):
        assert {path.stem for path in run.figures.iterdir()} >= {"confusion_matrix", "mistakes", "augmentation"}

    def tool(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["sweeper_digits", *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            __main__.main()
        return printed.getvalue()

    scores = tool("predict", "run", "--tta", "1")
    assert all(f" {label} " in scores for label in classes)
    tool("compare", "run", "--report", "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f'"{classes[-1]}"' in page and "data:image/png" in page
    # The labels of a file are places in its own list of classes; the model's list counts.
    some = np.isin(labels, classes[1:])
    np.savez(tmp_path / "some.npz", images=images[some], labels=labels[some])
    tool("predict", "run", "--data", "some.npz", "--out", "out.csv")
    with (tmp_path / "out.csv").open() as stream:
        written = [row["Label"] for row in csv.DictReader(stream)]
    model = keras.saving.load_model(run.model)
    expected = model.predict(images[some].reshape(-1, *model.input_shape[1:]), verbose=0).argmax(axis=1)
    assert written == [str(classes[place]) for place in expected]
    np.savez(tmp_path / "other.npz", images=np.zeros((4, 9, 9), np.uint8), labels=labels[[0, 0, -1, -1]])
    _, height, width, channels = model.input_shape
    advice = f"; --data FILE size={height} brings" if (height, channels) == (width, 1) else "$"
    with pytest.raises(SystemExit, match=rf"takes images of .*; these are 9x9x1{advice}"):
        tool("predict", "run", "--data", "other.npz")


def test_names_of_fashion_mnist_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((20, 28, 28), np.uint8)
    labels = np.repeat(np.arange(10), 2).astype(np.uint8)
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", lambda: ((images, labels), None))
    from sweeper_digits.data.dataset import load_keras

    assert load_keras("fashion_mnist").classes == FASHION


def test_a_model_too_large_for_the_image_is_refused(train: Train, tmp_path: Path) -> None:
    images, labels = SETS["8x8, two classes"]()
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    cases = [
        ("model.stages=4", "model.stages=4: each stage halves the image; 8x8 pixels allow 3"),
        ("model.first_kernel_size=9", "model.first_kernel_size=9: larger than the image; 8x8 pixels allow 8"),
    ]
    path = f"data.path={tmp_path}/set.npz"
    assert unlike(cases, lambda override: train("data=npz", path, "figures=false", override, defaults=TINY)) == []


@pytest.mark.parametrize(
    ("images", "expected", "note"),
    [
        (np.full((2, 64), 7, np.int64), (2, 8, 8, 1), None),
        (np.full((2, 3, 10, 12), 7, np.uint8), (2, 10, 12, 3), "the channels came first; they were moved to the end"),
        (np.linspace(0, 1, 200).reshape(2, 10, 10), (2, 10, 10, 1), "pixels from 0 to 1 were scaled to 0 to 255"),
        (np.linspace(-1, 1, 200).reshape(2, 10, 10), (2, 10, 10, 1), "from -1 to 1"),
        (np.eye(10, dtype=bool)[np.newaxis], (1, 10, 10, 1), "were scaled"),
        (np.full((2, 10, 10), 255.0), (2, 10, 10, 1), None),
    ],
)
def test_forms_of_pixels(images: np.ndarray, expected: tuple[int, ...], note: str | None) -> None:
    pixels, notes = as_pixels(images, "x")
    assert pixels.dtype == np.uint8 and pixels.shape == expected
    assert (note in notes[0]) if note else not notes
    if notes and "scaled" in notes[0]:
        assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize(
    ("labels", "classes", "places"),
    [
        (np.array([10, 2, 4, 2]), ("2", "4", "10"), [2, 0, 1, 0]),
        (np.array([10.0, 2.0, 4.0, 2.0]), ("2", "4", "10"), [2, 0, 1, 0]),
        (np.array(["10", "2", "4", "2"]), ("2", "4", "10"), [2, 0, 1, 0]),
        (np.array(["b", " a", "B", "a "]), ("B", "a", "b"), [2, 1, 0, 1]),
        (np.array([[10], [2], [4], [2]]), ("2", "4", "10"), [2, 0, 1, 0]),
        (np.eye(4)[[3, 0, 2, 0]], ("0", "2", "3"), [2, 0, 1, 0]),
        (np.array([True, False, True, True]), ("False", "True"), [1, 0, 1, 1]),
    ],
)
def test_forms_of_labels(labels: np.ndarray, classes: tuple[str, ...], places: list[int]) -> None:
    found, names = as_labels(labels, 4, "x")
    assert names == classes and found.tolist() == places and found.dtype == np.int32


def test_bad_labels_are_refused() -> None:
    cases = [
        (np.array([1, 2]), "3 images but labels of shape"),
        (np.array([1.0, 2.5, 3.0]), "label 2.5 at image 1; whole numbers or names"),
        (np.array([1.0, np.nan, 3.0]), "label nan at image 1"),
        (np.array(["a", "", "b"]), "label '' at image 1"),
        (np.array(["a", "\x1b[2J", "b"]), r"label '\\x1b\[2J' at image 1"),
    ]
    assert unlike(cases, lambda labels: as_labels(labels, 3, "x")) == []


def test_labels_of_a_file_follow_the_models_classes() -> None:
    images, labels = imitated(["b", "c"], (8, 8), of_each=1)
    own = as_dataset(images, labels, "x")
    assert own.with_classes(["a", "b", "c"]).labels.tolist() == [1, 2]
    with pytest.raises(UserError, match="x: label 'c'; the model knows a, b"):
        own.with_classes(["a", "b"])
    assert isinstance(own.part(np.array([1])), Dataset)
