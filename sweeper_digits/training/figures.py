"""Pictures of one run: arrays in, PNG files out."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from sweeper_digits.runs.folder import replacing
from sweeper_digits.runs.predictions import worst_mistakes

BLUE, ORANGE, GREY = "#2a6fbb", "#d9722e", "#8a8f98"
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
}


def draw_learning_curves(history: list[dict[str, float]], best: int, path: Path) -> None:
    """Draw loss and accuracy by epoch, and mark the best epoch, which is counted from 0."""
    epochs = [row["epoch"] for row in history]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
        for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
            title = name.capitalize()
            axis.plot(epochs, [row[name] for row in history], "o-", ms=3, color=GREY, label="training")
            if f"val_{name}" in history[0]:
                values = [row[f"val_{name}"] for row in history]
                axis.plot(epochs, values, "o-", ms=3, color=BLUE, label="validation")
                axis.plot(epochs[best], values[best], "o", ms=8, mfc="none", color=ORANGE)
                title = f"{name.capitalize()}: {values[best]:.4f} at epoch {epochs[best]:.0f}"
            axis.set(title=title, xlabel="epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
            # The first epochs are far off; show where the differences are.
            if name == "loss":
                axis.set_yscale("log")
            else:
                values_all = [row[key] for row in history for key in ("accuracy", "val_accuracy") if key in row]
                axis.set_ylim(max(0.0, min(1.0, float(np.percentile(values_all, 15))) - 0.02), 1.002)
            axis.legend(frameon=False)
        _save(figure, path)


def draw_confusion_matrix(matrix: np.ndarray, path: Path) -> None:
    """Draw a confusion matrix, int (10, 10), rows = truth; colour shows the mistakes only."""
    mistakes = matrix.astype(float)
    np.fill_diagonal(mistakes, np.nan)
    with plt.rc_context(STYLE | {"axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure, axis = plt.subplots(figsize=(5.6, 5.2), layout="constrained")
        most = max(3.0, float(np.nanmax(mistakes)))
        axis.imshow(mistakes, cmap="Oranges", vmin=0, vmax=most)
        for truth in range(len(matrix)):
            for predicted in range(len(matrix)):
                count, right = matrix[truth, predicted], truth == predicted
                if count or right:
                    dark = not right and count > 0.6 * most
                    colour = "#555" if right else "w" if dark else "k"
                    axis.text(predicted, truth, str(count), ha="center", va="center", color=colour)
        total = matrix.sum()
        axis.set(
            xticks=range(10),
            yticks=range(10),
            xlabel="predicted",
            ylabel="true",
            title=f"{total - np.trace(matrix):,} mistakes in {total:,} images",
        )
        axis.tick_params(length=0)
        _save(figure, path)


def draw_labels(train: np.ndarray, validation: np.ndarray, path: Path) -> None:
    """Draw how many images of each label train and validate; both int (n,)."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
        counts = np.bincount(train, minlength=10)
        axis.bar(range(10), counts, color=BLUE, label=f"training ({len(train):,})")
        if len(validation):
            held = np.bincount(validation, minlength=10)
            axis.bar(range(10), held, bottom=counts, color=ORANGE, label=f"validation ({len(validation):,})")
        axis.set(xticks=range(10), xlabel="label", ylabel="images", title="Labels")
        axis.grid(axis="x", visible=False)
        figure.legend(frameon=False, ncols=2, loc="outside upper right")
        _save(figure, path)


def draw_augmentation(before: np.ndarray, after: np.ndarray, path: Path) -> None:
    """Draw images (top of each pair of rows) above what augmentation made of them; both (n, 28, 28, 1)."""
    columns = min(10, len(before))
    rows = len(before) // columns
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2 * rows, columns, figsize=(8, rows * 1.75), layout="constrained", squeeze=False)
        for index in range(rows * columns):
            row, column = divmod(index, columns)
            for offset, images in enumerate((before, after)):
                axis = axes[2 * row + offset, column]
                axis.imshow(images[index, ..., 0], cmap="gray_r" if offset == 0 else "Blues", vmin=0, vmax=255)
                axis.set_axis_off()
        figure.suptitle("Training images (black) and what augmentation makes of them (blue)", fontsize=10)
        _save(figure, path)


def draw_mistakes(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, path: Path) -> None:
    """Draw the wrongly labelled images whose true label got the least probability, worst first.

    Args:
        images: uint8 (n, 28, 28, 1).
        labels: int (n,).
        probabilities: float (n, 10).
        path: Of the PNG file.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = worst_mistakes(labels, probabilities)
    columns, rows = 8, max(1, -(-len(worst) // 8))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(columns * 1.15, rows * 1.5 + 0.4), layout="constrained", squeeze=False
        )
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, index in zip(axes.flat, worst, strict=False):
            axis.imshow(images[index, ..., 0], cmap="gray_r", vmin=0, vmax=255)
            axis.set_title(
                f"{labels[index]} as {predicted[index]}\n{probabilities[index].max():.0%} sure",
                fontsize=8,
                loc="center",
            )
        title = f"The worst {len(worst)} of {len(wrong)} mistakes: true label as predicted label"
        figure.suptitle(title if len(wrong) else "No mistakes", fontsize=10)
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)
