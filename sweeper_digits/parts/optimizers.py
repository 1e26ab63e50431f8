"""The optimizers: Keras' own, under its names of their keys."""

from typing import TYPE_CHECKING, Annotated, Any

from sweeper_digits.errors import INFINITY
from sweeper_digits.registry import register
from sweeper_digits.signature import Range

if TYPE_CHECKING:
    import keras

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
