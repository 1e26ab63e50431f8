"""The augmentations, optimizers, schedules and objectives that conf/ names."""

from typing import TYPE_CHECKING, Annotated, Any

from sweeper_digits.components import register
from sweeper_digits.errors import INFINITY, Range

if TYPE_CHECKING:
    import keras
    import numpy as np

    from sweeper_digits.training.optimizers import WarmupDecay  # imports Keras


@register("augmentation")
def warp(
    seed: int,
    rotation_degrees: Annotated[float, Range(0, 180)],
    shear_degrees: Annotated[float, Range(0, 60)],
    zoom_fraction: Annotated[float, Range(0, 0.9)],
    shift_fraction: Annotated[float, Range(0, 1)],
    elastic_pixels: Annotated[float, Range(0, 10)],
    erase_fraction: Annotated[float, Range(0, 0.5)],
) -> "keras.layers.Layer":
    """Rotate, shear, zoom, shift, bend and erase, with one interpolation; `RandomWarp` describes each value.

    Args:
        seed: The seed of the layer's own random generator.
        rotation_degrees: Greatest angle.
        shear_degrees: Greatest horizontal shear angle.
        zoom_fraction: Greatest change of height and width.
        shift_fraction: Greatest shift, a share of the side.
        elastic_pixels: Standard deviation by which points are displaced.
        erase_fraction: Share of the area that is erased in half of the images.
    """
    from sweeper_digits.training.augmentation import RandomWarp  # imports Keras

    return RandomWarp(
        rotation_degrees, shear_degrees, zoom_fraction, shift_fraction, elastic_pixels, erase_fraction, seed
    )


Rate = Annotated[float, Range(0, INFINITY, open_low=True, open_high=True)]
Decay = Annotated[float, Range(0, 1)]
Norm = Annotated[float | None, Range(0, INFINITY, open_low=True)]
Share = Annotated[float, Range(0, 1, open_high=True)]
Small = Annotated[float, Range(0, 1, open_low=True)]


@register("optimizer")
def rmsprop(
    learning_rate: Rate,
    weight_decay: Decay,
    global_clipnorm: Norm,
    use_ema: bool,
    ema_momentum: Share,
    rho: Share,
    momentum: Share,
    epsilon: Small,
) -> "keras.optimizers.Optimizer":
    """Keras' RMSprop."""
    return _keras("RMSprop", locals())


@register("optimizer")
def sgd(
    learning_rate: Rate,
    weight_decay: Decay,
    global_clipnorm: Norm,
    use_ema: bool,
    ema_momentum: Share,
    momentum: Share,
    nesterov: bool,
) -> "keras.optimizers.Optimizer":
    """Keras' SGD."""
    return _keras("SGD", locals())


@register("optimizer")
def adam(
    learning_rate: Rate,
    weight_decay: Decay,
    global_clipnorm: Norm,
    use_ema: bool,
    ema_momentum: Share,
    beta_1: Share,
    beta_2: Share,
    epsilon: Small,
) -> "keras.optimizers.Optimizer":
    """Keras' Adam."""
    return _keras("Adam", locals())


@register("optimizer")
def adamw(
    learning_rate: Rate,
    weight_decay: Decay,
    global_clipnorm: Norm,
    use_ema: bool,
    ema_momentum: Share,
    beta_1: Share,
    beta_2: Share,
    epsilon: Small,
) -> "keras.optimizers.Optimizer":
    """Keras' AdamW."""
    return _keras("AdamW", locals())


@register("optimizer")
def nadam(
    learning_rate: Rate,
    weight_decay: Decay,
    global_clipnorm: Norm,
    use_ema: bool,
    ema_momentum: Share,
    beta_1: Share,
    beta_2: Share,
    epsilon: Small,
) -> "keras.optimizers.Optimizer":
    """Keras' Nadam."""
    return _keras("Nadam", locals())


@register("optimizer")
def muon(
    output_layer: str,
    learning_rate: Rate,
    weight_decay: Decay,
    global_clipnorm: Norm,
    use_ema: bool,
    ema_momentum: Share,
    momentum: Share,
) -> "keras.optimizers.Optimizer":
    """Muon for the hidden dense layers; AdamW, with the same decay, for the output and the rest.

    Source: https://kellerjordan.github.io/posts/muon/
    """
    values = locals()
    excluded = [values.pop("output_layer")]
    return _keras("Muon", values | {"exclude_layers": excluded, "adam_weight_decay": weight_decay})


def _keras(name: str, values: dict[str, Any]) -> "keras.optimizers.Optimizer":
    import keras

    return getattr(keras.optimizers, name)(**values)


Epochs = Annotated[float, Range(0, INFINITY, open_high=True)]


@register("schedule")
def constant(peak: float, steps: int, steps_per_epoch: int, warmup_epochs: Epochs) -> "WarmupDecay":
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
    peak: float, steps: int, steps_per_epoch: int, warmup_epochs: Epochs, final_fraction: Annotated[float, Range(0, 1)]
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
    warmup_epochs: Epochs,
    final_fraction: Annotated[float, Range(0, 1, open_low=True)],
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
