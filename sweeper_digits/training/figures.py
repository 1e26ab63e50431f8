"""Pictures of one run: arrays in, PNG files out.

Without pyplot, whose backend is one for the whole process: a notebook has its own.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure

from sweeper_digits.runs.folder import replacing
from sweeper_digits.runs.predictions import worst_mistakes

LONGEST_NAME = 14  # characters of a class
MOST_WRITTEN = 40  # classes whose counts are written into the matrix
MOST_TICKS = 60
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
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        axes = figure.subplots(1, 2)
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


def draw_confusion_matrix(matrix: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix, int (classes, classes), rows = truth; colour shows the mistakes only."""
    mistakes = matrix.astype(float)
    np.fill_diagonal(mistakes, np.nan)
    with matplotlib.rc_context(STYLE | {"axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}):
        side = float(np.clip(0.42 * len(matrix), 3.6, 16))
        figure = Figure(figsize=(side + 1.4, side + 1), layout="constrained")
        axis = figure.subplots()
        most = max(3.0, float(np.nanmax(mistakes)))
        axis.imshow(mistakes, cmap="Oranges", vmin=0, vmax=most)
        written = len(matrix) if len(matrix) <= MOST_WRITTEN else 0
        for truth in range(written):
            for predicted in range(written):
                count, right = matrix[truth, predicted], truth == predicted
                if count or right:
                    dark = not right and count > 0.6 * most
                    colour = "#555" if right else "w" if dark else "k"
                    axis.text(predicted, truth, str(count), ha="center", va="center", color=colour)
        total = matrix.sum()
        axis.set(
            xlabel="predicted",
            ylabel="true",
            title=f"{total - np.trace(matrix):,} mistakes in {total:,} images",
        )
        axis.tick_params(length=0)
        _name_ticks(axis.xaxis, classes)
        _name_ticks(axis.yaxis, classes)
        _save(figure, path)


def draw_labels(train: np.ndarray, validation: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Draw how many images of each class train and validate; both labels, int (n,)."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(float(np.clip(0.3 * len(classes) + 3, 5, 16)), 3.4), layout="constrained")
        axis = figure.subplots()
        places = range(len(classes))
        counts = np.bincount(train, minlength=len(classes))
        axis.bar(places, counts, color=BLUE, label=f"training ({len(train):,})")
        if len(validation):
            held = np.bincount(validation, minlength=len(classes))
            axis.bar(places, held, bottom=counts, color=ORANGE, label=f"validation ({len(validation):,})")
        axis.set(xlabel="label", ylabel="images", title="Labels")
        _name_ticks(axis.xaxis, classes)
        axis.locator_params(axis="y", integer=True)
        axis.grid(axis="x", visible=False)
        figure.legend(frameon=False, ncols=2, loc="outside upper right")
        _save(figure, path)


def draw_augmentation(before: np.ndarray, after: np.ndarray, path: Path) -> None:
    """Draw images above what augmentation made of them; both (n, height, width, channels)."""
    columns = min(10, len(before))
    rows = len(before) // columns
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, rows * 1.75), layout="constrained")
        axes = figure.subplots(2 * rows, columns, squeeze=False)
        for index in range(rows * columns):
            row, column = divmod(index, columns)
            for offset, images in enumerate((before, after)):
                axis = axes[2 * row + offset, column]
                _show_image(axis, images[index], "gray_r" if offset == 0 else "Blues")
                axis.set_axis_off()
        title = "Training images (upper rows) and what augmentation makes of them (lower rows)"
        figure.suptitle(title, fontsize=10)
        _save(figure, path)


def draw_mistakes(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], path: Path
) -> None:
    """Draw the wrongly labelled images whose true label got the least probability, worst first.

    Args:
        images: uint8 (n, height, width, channels).
        labels: int (n,).
        probabilities: float (n, classes).
        classes: Their names.
        path: The path of the PNG file.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = worst_mistakes(labels, probabilities)
    columns, rows = 8, max(1, -(-len(worst) // 8))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(columns * 1.15, rows * 1.5 + 0.4), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, index in zip(axes.flat, worst, strict=False):
            _show_image(axis, images[index], "gray_r")
            names = f"{_short(classes[labels[index]])} as {_short(classes[predicted[index]])}"
            text = f"{names}\n{probabilities[index].max():.0%} sure"
            axis.set_title(text, fontsize=8, loc="center", parse_math=False)
        title = f"The worst {len(worst)} of {len(wrong)} mistakes: true label as predicted label"
        figure.suptitle(title if len(wrong) else "No mistakes", fontsize=10)
        _save(figure, path)


def _show_image(axis: Axes, image: np.ndarray, colours: str) -> None:
    """Show an image, (height, width, channels), 0-255: grey in a colour map, others in their own colours."""
    if image.shape[-1] == 1:
        axis.imshow(image[..., 0], cmap=colours, vmin=0, vmax=255)
    else:
        axis.imshow(np.clip(image, 0, 255).astype(np.uint8))


def _name_ticks(axis: XAxis | YAxis, classes: Sequence[str]) -> None:
    """Name the ticks of an axis of classes; of very many classes only every so many."""
    places = range(0, len(classes), -(-len(classes) // MOST_TICKS))
    names = [_short(classes[place]) for place in places]
    turned = isinstance(axis, XAxis) and len(names) * max(map(len, names)) > 60
    axis.set_ticks(list(places), names, rotation=90 if turned else 0, parse_math=False)


def _short(name: str) -> str:
    """Return a name that is not longer than a label of a picture may be."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
