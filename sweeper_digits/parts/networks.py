"""Networks that are written as functions: from a float tensor of images to logits.

Keras is imported inside, so that this module is light.
"""

import math
from typing import Any, Literal

from sweeper_digits.errors import UserError, check_range


def resnet(
    inputs: Any,
    classes: int,
    width: int = 32,
    stages: int = 3,
    depth: int = 1,
    stem_kernel_size: int = 3,
    dropout: float = 0.2,
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu"] = "relu",
) -> Any:
    """Build a residual network with pre-activation (He et al. 2016, https://arxiv.org/abs/1603.05027).

    One convolution and a pooling halve the image first: a residual block at full size costs four times as much. The
    network is made of Keras' own layers, so its file loads without this package.

    Args:
        inputs: KerasTensor, float (n, height, width, channels), 0-1.
        classes: How many.
        width: Filters of the first stage, 1 to 1024; each later stage has twice as many as the stage before.
        stages: Each halves the image: of 28 pixels a side, 14, 7 and 3 are left. From 1 to log2 of the shorter side.
        depth: Residual blocks in each stage, of two 3x3 convolutions each, 1 to 16.
        stem_kernel_size: Pixels a side of the first convolution, from 1 to the shorter side of the images.
        dropout: Share dropped before the output, in [0, 1).
        activation: Keras' name of it.

    Returns:
        KerasTensor, float32 (n, classes): the logits.

    Raises:
        UserError: An option is out of its range, or the images are too small for it.
    """
    from keras import layers

    check_range("model.width", width, 1, 1024)
    check_range("model.depth", depth, 1, 16)
    check_range("model.dropout", dropout, 0, 1, open_high=True)
    _check_fit(inputs.shape[1], inputs.shape[2], stages, stem_kernel_size)
    x = layers.MaxPooling2D()(layers.Conv2D(width, stem_kernel_size, padding="same")(inputs))
    for stage in range(stages):
        for block in range(depth):
            x = _residual_block(x, width * 2**stage, activation, halve=stage > 0 and block == 0)
    x = layers.GlobalAveragePooling2D()(_preactivated(x, activation))
    x = layers.Dropout(dropout)(x)
    # In float32: bfloat16 has only three significant digits.
    return layers.Dense(classes, dtype="float32")(x)


def _check_fit(height: int, width: int, stages: int, stem_kernel_size: int) -> None:
    """Raise a UserError if the images are too small; the message says what fits."""
    side, pixels = min(height, width), f"{height}x{width} pixels"
    check_range("model.stages", stages, 1, 7)
    check_range("model.stem_kernel_size", stem_kernel_size, 1, 128)
    if stages > (most := int(math.log2(side))):
        raise UserError(f"model.stages={stages}: each stage halves the image; {pixels} allow {most}")
    if stem_kernel_size > side:
        raise UserError(f"model.stem_kernel_size={stem_kernel_size}: larger than the image; {pixels} allow {side}")


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
