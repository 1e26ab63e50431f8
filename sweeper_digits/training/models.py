"""The network: one builder, whose options make all variants in conf/model; and the form of it that is trained."""

import math

import keras
from keras import layers, ops

from sweeper_digits.errors import UserError

# Whatever the user's ~/.keras/keras.json says: images here are (n, height, width, channels).
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)

# Activations that commute with max pooling: a quarter of the values, the same result.
MONOTONE = ("relu", "leaky_relu", "elu")


def build_cnn(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    filters: int,
    first_kernel_size: int,
    kernel_size: int,
    stages: int,
    depth: int,
    normalization: bool,
    residual: bool,
    dense_units: int,
    dropout: float,
    dense_dropout: float,
    activation: str,
) -> keras.Model:
    """Build a convolutional network for small images.

    Args:
        image_shape: Height, width and channels.
        classes: How many.
        filters: Filters of the first stage; each later stage has twice as many filters as the stage before.
        first_kernel_size: Pixels a side, of the convolutions in the first stage.
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

    Returns:
        A model from raw pixels, uint8 (n, height, width, channels), 0-255, to probabilities, float32 (n, classes).
        It is made of Keras' own layers, so its file loads without this package.

    Raises:
        UserError: The images are too small for so many stages, or for a kernel.
    """
    _check_size(image_shape, stages, first_kernel_size, kernel_size)
    inputs = keras.Input(image_shape, dtype="uint8", name="pixels")
    x = layers.Rescaling(1 / 255, name="scale")(inputs)
    for stage in range(stages):
        size = first_kernel_size if stage == 0 else kernel_size
        x = _stage(x, filters * 2**stage, size, depth, normalization, residual, activation)
        x = layers.Dropout(dropout)(x)
    x = _head(x, classes, dense_units, dense_dropout, activation)
    return keras.Model(inputs, layers.Softmax(dtype="float32", name="probabilities")(x))


def _check_size(image_shape: tuple[int, int, int], stages: int, first_kernel_size: int, kernel_size: int) -> None:
    """Raise a UserError if the images are too small; the message says what fits."""
    side, pixels = min(image_shape[:2]), f"{image_shape[0]}x{image_shape[1]} pixels"
    if stages > (most := int(math.log2(side))):
        raise UserError(f"model.stages={stages}: each stage halves the image; {pixels} allow {most}")
    sizes = {"first_kernel_size": first_kernel_size} | ({"kernel_size": kernel_size} if stages > 1 else {})
    for name, size in sizes.items():
        if size > side:
            raise UserError(f"model.{name}={size}: larger than the image; {pixels} allow {side}")


def _stage(x, filters: int, size: int, depth: int, normalization: bool, residual: bool, activation: str):  # type: ignore[no-untyped-def]
    """Apply the convolutions, the pooling, the normalization and the activations of a stage."""
    pool_first = activation in MONOTONE and not residual
    for index in range(depth):
        shortcut = x
        x = layers.Conv2D(filters, size, padding="same")(x)
        if residual and index > 0:
            x = layers.Add()([x, shortcut])
        if not (pool_first and index == depth - 1):
            x = layers.Activation(activation)(x)
    x = layers.MaxPooling2D()(x)
    if normalization:
        x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.Activation(activation)(x) if pool_first else x


def _head(x, classes: int, dense_units: int, dropout: float, activation: str):  # type: ignore[no-untyped-def]
    """Return the logits, in float32: bfloat16 has only three significant digits."""
    if dense_units:
        x = layers.Dense(dense_units)(layers.Flatten()(x))
        x = layers.Activation(activation)(x)
    else:
        x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    return layers.Dense(classes, dtype="float32", name="logits")(x)


class ByteDropout(layers.Dropout):
    """Dropout that draws a byte for each unit where Keras' draws a float: 10 % off a whole training step on a CPU.

    The rate is therefore a multiple of 1/256.
    """

    def call(self, inputs, training=False):  # type: ignore[no-untyped-def]
        """Return the inputs with units dropped and the others scaled up, if training."""
        dropped = min(round(256 * self.rate), 255)
        if not (training and dropped):
            return inputs
        *others, units = ops.shape(inputs)
        drawn = keras.random.randint((*others, -(-units // 4)), -(2**31), 2**31 - 1, "int32", self.seed_generator)
        kept = ops.view(drawn, "uint8")[..., :units] >= ops.cast(dropped, "uint8")
        return inputs * (ops.cast(kept, inputs.dtype) * (256 / (256 - dropped)))


def from_float(model: keras.Model, output: str) -> keras.Model:
    """Return a model of `build_cnn` up to the layer `output`, with weights shared, that takes pixels as float32.

    The model's own input is uint8 and would cut augmented pixels to whole numbers. The returned model drops out with
    `ByteDropout`, which is faster; the given model keeps Keras' Dropout, so that its file loads anywhere.
    """
    scale = model.get_layer("scale")
    rest = keras.models.clone_model(
        keras.Model(scale.output, model.get_layer(output).output),
        clone_function=lambda layer: (
            ByteDropout(layer.rate, dtype=layer.dtype_policy) if isinstance(layer, layers.Dropout) else layer
        ),
    )
    pixels = keras.Input(model.input_shape[1:], dtype="float32")
    return keras.Model(pixels, rest(scale(pixels)))
