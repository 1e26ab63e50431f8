"""The augmentations, optimizers, schedules and objectives that a config can name."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, Interval

from sweeper_digits.components import register

if TYPE_CHECKING:
    import keras
    import numpy as np

    from sweeper_digits.training.optimizers import WarmupDecay  # imports Keras


@register("augmentation")
def warp(
    seed: int,
    rotation_degrees: Annotated[float, Interval(ge=0, le=180)] = 10.0,
    shear_degrees: Annotated[float, Interval(ge=0, le=60)] = 0.0,
    zoom_fraction: Annotated[float, Interval(ge=0, le=0.9)] = 0.1,
    shift_fraction: Annotated[float, Interval(ge=0, le=1)] = 0.1,
    elastic_pixels: Annotated[float, Interval(ge=0, le=10)] = 0.0,
    erase_fraction: Annotated[float, Interval(ge=0, le=0.5)] = 0.0,
) -> "keras.layers.Layer":
    """Rotate, shear, zoom, shift, bend and erase each image by random amounts, with one interpolation.

    Args:
        seed: The seed of the layer's own random generator.
        rotation_degrees: Angle drawn from [-x, x], counterclockwise.
        shear_degrees: Horizontal shear angle drawn from [-x, x].
        zoom_fraction: Height and width are scaled independently by factors from [1 - x, 1 + x],
            as Keras' ImageDataGenerator does with zoom_range=x.
        shift_fraction: Vertical and horizontal shift drawn from [-x, x] of the side.
        elastic_pixels: Standard deviation by which points are displaced. Neighbours move alike: the displacements
            are white noise under a Gaussian of 4 pixels. Source: Simard et al. 2003, "Best practices for
            convolutional neural networks applied to visual document analysis"; their strength is 1.4.
        erase_fraction: Area of a square that is set to background, at a random place, in half of the images; a
            share of the image's area. Source: Zhong et al. 2017, https://arxiv.org/abs/1708.04896, here with one
            size and aspect ratio.
    """
    values = locals()
    from sweeper_digits.training.augmentation import RandomWarp  # imports Keras

    return RandomWarp(**values)


Rate = Annotated[float, Interval(gt=0, lt=math.inf)]
Decay = Annotated[float, Interval(ge=0, le=1)]
Norm = Annotated[float | None, Gt(0)]
Share = Annotated[float, Interval(ge=0, lt=1)]
Small = Annotated[float, Interval(gt=0, le=1)]


def of_keras(keys: type) -> "Callable[..., keras.optimizers.Optimizer]":
    """Register Keras' optimizer of the name of a dataclass, whose fields are the keys and their defaults."""

    def build(**values: Any) -> "keras.optimizers.Optimizer":
        import keras

        return getattr(keras.optimizers, keys.__name__)(**values)

    build.__name__ = build.__qualname__ = keys.__name__.lower()
    build.__doc__ = keys.__doc__
    build.__signature__ = inspect.signature(keys)  # type: ignore[attr-defined]
    return register("optimizer")(build)


@dataclass
class Optimizer:
    learning_rate: Rate = 0.001
    weight_decay: Decay = 0.0
    global_clipnorm: Norm = None
    use_ema: bool = False
    ema_momentum: Share = 0.99


@of_keras
@dataclass
class RMSprop(Optimizer):
    """Keras' RMSprop, with the notebook's values."""

    rho: Share = 0.9
    momentum: Share = 0.0
    epsilon: Small = 1e-8


@of_keras
@dataclass
class SGD(Optimizer):
    """Keras' stochastic gradient descent, with Nesterov momentum."""

    learning_rate: Rate = 0.05
    momentum: Share = 0.9
    nesterov: bool = True


@dataclass
class Moments(Optimizer):
    beta_1: Share = 0.9
    beta_2: Share = 0.999
    epsilon: Small = 1e-7


@of_keras
@dataclass
class Adam(Moments):
    """Keras' Adam."""


@of_keras
@dataclass
class AdamW(Moments):
    """Keras' AdamW: Adam with decoupled weight decay."""

    learning_rate: Rate = 0.005
    weight_decay: Decay = 0.01


@of_keras
@dataclass
class Nadam(Moments):
    """Keras' Nadam: Adam with Nesterov momentum."""


@register("optimizer")
def muon(
    output_layer: str,
    learning_rate: Rate = 0.002,
    weight_decay: Decay = 0.01,
    global_clipnorm: Norm = None,
    use_ema: bool = False,
    ema_momentum: Share = 0.99,
    momentum: Share = 0.95,
) -> "keras.optimizers.Optimizer":
    """Muon for the hidden dense layers; AdamW, with the same decay, for the output and the rest.

    Source: https://kellerjordan.github.io/posts/muon/
    """
    values = locals()
    excluded = [values.pop("output_layer")]
    import keras

    return keras.optimizers.Muon(**values, exclude_layers=excluded, adam_weight_decay=weight_decay)


Epochs = Annotated[float, Interval(ge=0, lt=math.inf)]


@register("schedule")
def constant(peak: float, steps: int, steps_per_epoch: int, warmup_epochs: Epochs = 0.0) -> "WarmupDecay":
    """No decay.

    Args:
        peak: The optimizer's learning rate.
        steps: The steps of the whole training.
        steps_per_epoch: The steps per epoch of one epoch.
        warmup_epochs: Epochs in which the rate rises to the peak.
    """
    return _decay("constant", peak, steps, steps_per_epoch, warmup_epochs, 1.0)


@register("schedule")
def cosine(
    peak: float,
    steps: int,
    steps_per_epoch: int,
    warmup_epochs: Epochs = 1.0,
    final_fraction: Annotated[float, Interval(ge=0, le=1)] = 0.0,
) -> "WarmupDecay":
    """Half a cosine.

    Args:
        peak: The optimizer's learning rate.
        steps: The steps of the whole training.
        steps_per_epoch: The steps per epoch of one epoch.
        warmup_epochs: Epochs in which the rate rises to the peak.
        final_fraction: Share of the peak that is left at the end.
    """
    return _decay("cosine", peak, steps, steps_per_epoch, warmup_epochs, final_fraction)


@register("schedule")
def exponential(
    peak: float,
    steps: int,
    steps_per_epoch: int,
    warmup_epochs: Epochs = 0.0,
    final_fraction: Annotated[float, Interval(gt=0, le=1)] = 0.05,
) -> "WarmupDecay":
    """Exponential decay.

    Args:
        peak: The optimizer's learning rate.
        steps: The steps of the whole training.
        steps_per_epoch: The steps per epoch of one epoch.
        warmup_epochs: Epochs in which the rate rises to the peak.
        final_fraction: Share of the peak that is left at the end.
    """
    return _decay("exponential", peak, steps, steps_per_epoch, warmup_epochs, final_fraction)


def _decay(shape: str, peak: float, steps: int, per_epoch: int, warmup: float, final_fraction: float) -> "WarmupDecay":
    from sweeper_digits.training.optimizers import WarmupDecay  # imports Keras

    return WarmupDecay(peak, steps, round(warmup * per_epoch), shape, final_fraction)


BINS = 15


@register("objective", direction="maximize")
def macro_f1(probabilities: "np.ndarray", labels: "np.ndarray") -> float:
    """Mean over the classes of the harmonic mean of precision and recall; of a class that is not there, 0.

    Args:
        probabilities: float32 (n, classes).
        labels: int (n,).
    """
    from sklearn.metrics import f1_score

    classes = range(probabilities.shape[1])
    return float(f1_score(labels, probabilities.argmax(axis=1), labels=classes, average="macro", zero_division=0.0))


@register("objective", direction="minimize")
def calibration_error(probabilities: "np.ndarray", labels: "np.ndarray") -> float:
    """Expected difference of confidence and accuracy, in 15 bins of equal width.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599

    Args:
        probabilities: float32 (n, classes).
        labels: int (n,).
    """
    import numpy as np

    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(places, weights=confidence.astype(float) - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))
