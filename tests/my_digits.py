"""What a user would bring: one part of each kind, in the fewest lines."""
# mypy: ignore-errors

import keras
import numpy as np

from sweeper_digits import register
from sweeper_digits.training.context import RunContext


@register("data")
def pairs(path: str, most: int = 300):
    """Digits from a NumPy archive."""
    arrays = np.load(path)
    return arrays["images"][:most], arrays["labels"][:most]


@register("model")
def tiny(inputs, classes: int, width: int = 8):
    """Two layers.

    Args:
        width: Filters of the convolution,
            all of the same size.
    """
    x = keras.layers.Conv2D(width, 3, activation="relu")(inputs)
    return keras.layers.Dense(classes)(keras.layers.Flatten()(x))


@register("augmentation")
def jitter(share: float = 0.05):
    """Keras' own shift."""
    return keras.layers.RandomTranslation(share, share)


@register("optimizer")
def lion(learning_rate: float = 0.003, beta_1: float = 0.9):
    """Keras' Lion."""
    return keras.optimizers.Lion(learning_rate, beta_1)


@register("schedule")
def halves(peak: float, steps: int, drops: int = 1):
    """Halved a few times."""
    at = [steps * (drop + 1) // (drops + 1) for drop in range(drops)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(at, [peak * 0.5**drop for drop in range(drops + 1)])


@register("callback")
class Diary(keras.callbacks.Callback):
    """Write what is known at the end of each epoch."""

    def __init__(self, run: RunContext, word: str = "epoch") -> None:
        super().__init__()
        self.run, self.word = run, word

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        with (self.run.folder / "diary.txt").open("a") as diary:
            width = self.run.settings["model.width"]
            diary.write(f"{self.word} {epoch} {sorted(logs)} trial {self.run.trial} width {width}\n")


@register("objective", direction="minimize")
def worst_class(probabilities, labels):
    """The error rate of the worst class."""
    right = probabilities.argmax(axis=1) == labels
    return max(1 - right[labels == label].mean() for label in np.unique(labels))
