"""The networks: functions from a float tensor to logits."""

import math
from typing import Annotated, Any, Literal

from annotated_types import Interval

from sweeper_digits.components import register
from sweeper_digits.errors import UserError

# Activations that commute with max pooling: a quarter of the values, the same result.
MONOTONE = ("relu", "leaky_relu", "elu")

Side = Annotated[int, Interval(ge=1, le=128)]
Stages = Annotated[int, Interval(ge=1, le=7)]
Depth = Annotated[int, Interval(ge=1, le=16)]
Share = Annotated[float, Interval(ge=0, lt=1)]
Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu"]

# Pixels a side that a stage without padding must leave for its pooling.
LEAST_SIDE = 4


@register("model")
def cnn(
    inputs: Any,
    classes: int,
    filters: Annotated[int, Interval(ge=1, le=1024)] = 32,
    first_kernel_size: Side = 3,
    kernel_size: Side = 3,
    stages: Stages = 3,
    depth: Depth = 2,
    normalization: bool = True,
    residual: bool = False,
    dense_units: Annotated[int, Interval(ge=0, le=65536)] = 0,
    dropout: Share = 0.07,
    dense_dropout: Share = 0.2,
    activation: Activation = "relu",
    padding: Literal["same", "valid"] = "valid",
) -> Any:
    """A convolutional network of stages, each with twice the filters and half the side of the stage before.

    Args:
        inputs: Float (n, height, width, channels), 0 to 1.
        classes: How many.
        filters: Filters of the first stage.
        first_kernel_size: Pixels a side, of convolutions in the first stage.
        kernel_size: Pixels a side, of the convolutions in later stages.
        stages: Each ends in 2x2 max pooling: of 28 pixels a side, 14, 7, 3 and 1 are left.
        depth: Convolutions per stage.
        normalization: Whether to normalize over the batch after each pooling; on maps of full size it would halve
            the speed on a CPU. Its momentum is 0.9, so that short trainings on small data can be validated.
        residual: Whether each convolution after a stage's first adds its input to its output.
        dense_units: Units of the hidden dense layer; with 0 there is none, and the maps are averaged instead.
        dropout: Share dropped after each stage.
        dense_dropout: Share dropped before the output.
        activation: Keras' name of it.
        padding: With `valid`, only stages pad that would leave fewer than 4 pixels a side, or too few for later ones,
            or that have residual connections, which add maps of one size.

    Returns:
        Logits, float32 (n, classes).

    Raises:
        UserError: The images are too small for so many stages, or for a kernel.
    """
    later = {"kernel_size": kernel_size} if stages > 1 else {}
    _check_size(inputs.shape[1:], stages, {"first_kernel_size": first_kernel_size} | later)
    x = inputs
    for stage, size in enumerate([first_kernel_size] + [kernel_size] * (stages - 1)):
        pads = "same" if residual else _padding(x, depth * (size - 1), stages - stage, padding)
        x = _stage(x, filters * 2**stage, size, depth, normalization, residual, activation, dropout, pads)
    return _head(x, classes, dense_units, dense_dropout, activation)


@register("model")
def resnet(
    inputs: Any,
    classes: int,
    width: Annotated[int, Interval(ge=1, le=1024)] = 32,
    stages: Stages = 3,
    depth: Depth = 1,
    stem_kernel_size: Side = 3,
    dropout: Share = 0.2,
    activation: Activation = "relu",
) -> Any:
    """A residual network with pre-activation (He et al. 2016, https://arxiv.org/abs/1603.05027).

    One convolution and a pooling halve the image first: a residual block at full size costs four times as much. The
    network is made of Keras' own layers, so its file loads without this package.

    Args:
        inputs: KerasTensor, float (n, height, width, channels), 0-1.
        classes: How many.
        width: Filters of the first stage; each later stage has twice as many as the stage before.
        stages: Each halves the image: of 28 pixels a side, 14, 7 and 3 are left.
        depth: Residual blocks in each stage, of two 3x3 convolutions each.
        stem_kernel_size: Pixels a side of the first convolution.
        dropout: Share dropped before the output.
        activation: Keras' name of it.

    Returns:
        KerasTensor, float32 (n, classes): the logits.

    Raises:
        UserError: The images are too small for so many stages, or for the first convolution.
    """
    from keras import layers

    _check_size(inputs.shape[1:], stages, {"stem_kernel_size": stem_kernel_size})
    x = layers.MaxPooling2D()(layers.Conv2D(width, stem_kernel_size, padding="same")(inputs))
    for stage in range(stages):
        for block in range(depth):
            x = _residual_block(x, width * 2**stage, activation, halve=stage > 0 and block == 0)
    x = layers.GlobalAveragePooling2D()(_preactivated(x, activation))
    x = layers.Dropout(dropout)(x)
    # In float32: bfloat16 has only three significant digits.
    return layers.Dense(classes, dtype="float32")(x)


def _check_size(image_shape: tuple[int, ...], stages: int, kernel_sizes: dict[str, int]) -> None:
    """Raise a UserError if the images are too small; the message says what fits."""
    side, pixels = min(image_shape[:2]), f"{image_shape[0]}x{image_shape[1]} pixels"
    if stages > (most := int(math.log2(side))):
        raise UserError(f"model.stages={stages}: each stage halves the image; {pixels} allow {most}")
    for name, size in kernel_sizes.items():
        if size > side:
            raise UserError(f"model.{name}={size}: larger than the image; {pixels} allow {side}")


def _padding(x: Any, lost: int, stages: int, wanted: str) -> str:
    """Return how the convolutions of a stage pad: without padding, some pixels a side are lost.

    Args:
        x: Tensor (n, height, width, channels) before the stage.
        lost: Pixels a side.
        stages: This one and those after it, each of which halves what is left.
        wanted: `same` or `valid`.
    """
    return "same" if min(x.shape[1:3]) - lost < max(LEAST_SIDE, 2**stages) else wanted


def _stage(  # type: ignore[no-untyped-def]
    x,
    filters: int,
    size: int,
    depth: int,
    normalization: bool,
    residual: bool,
    activation: str,
    dropout: float,
    padding: str,
):
    from keras import layers

    pool_first = activation in MONOTONE and not residual
    for index in range(depth):
        shortcut = x
        x = layers.Conv2D(filters, size, padding=padding)(x)
        if residual and index > 0:
            x = layers.Add()([x, shortcut])
        if not (pool_first and index == depth - 1):
            x = layers.Activation(activation)(x)
    x = layers.MaxPooling2D()(x)
    if normalization:
        x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.Dropout(dropout)(layers.Activation(activation)(x) if pool_first else x)


def _head(x, classes: int, dense_units: int, dropout: float, activation: str):  # type: ignore[no-untyped-def]
    """Return the logits, in float32: bfloat16 has only three significant digits."""
    from keras import layers

    if dense_units:
        x = layers.Dense(dense_units)(layers.Flatten()(x))
        x = layers.Activation(activation)(x)
    else:
        x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    return layers.Dense(classes, dtype="float32")(x)


def _preactivated(x: Any, activation: str) -> Any:
    """Normalize over the batch and activate; the momentum lets short trainings on small data be validated."""
    from keras import layers

    return layers.Activation(activation)(layers.BatchNormalization(momentum=0.9)(x))


def _residual_block(x: Any, filters: int, activation: str, halve: bool) -> Any:
    """Add two convolutions to their input, which a 1x1 convolution brings to their shape when they halve the image."""
    from keras import layers

    def convolved(x: Any, size: int) -> Any:  # without a bias: a normalization follows, or the sum's next one
        return layers.Conv2D(filters, size, padding="same", use_bias=False)(x)

    y = _preactivated(x, activation)
    if halve:
        x, y = convolved(layers.AveragePooling2D(2)(y), 1), layers.MaxPooling2D()(convolved(y, 3))
    else:
        y = convolved(y, 3)
    return layers.Add()([x, convolved(_preactivated(y, activation), 3)])
