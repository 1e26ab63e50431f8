"""The network around a model's function: scaled pixels in, float32 probabilities out."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from sweeper_digits import components
from sweeper_digits.errors import UserError

# Whatever the user's ~/.keras/keras.json says: images here are (n, height, width, channels).
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)


@dataclass(frozen=True)
class Network:
    """A model's function, built.

    Attributes:
        model: From raw pixels, uint8 (n, height, width, channels), 0-255, to probabilities, float32 (n, classes). Its
            layers are Keras' own where those of the function are, so its file loads without this package.
        logits: Its tensor of logits, float32 (n, classes).
    """

    model: keras.Model
    logits: keras.KerasTensor

    @property
    def output_layer(self) -> str:
        """Return the name of the last layer that has weights."""
        return next(layer.name for layer in reversed(self.model.layers) if layer.weights)

    def on_floats(self) -> keras.Model:
        """Return the network up to its logits, for training."""
        return on_floats(self.model, self.logits)


def build_network(option: Any, image_shape: tuple[int, int, int], classes: int) -> Network:
    """Build the network that an option of the config group `model` names.

    Args:
        option: The option.
        image_shape: Height, width and channels.
        classes: How many.

    Raises:
        UserError: The function returns no logits, (n, classes), or uses a layer that cannot be saved.
    """
    component = components.find("model", vars(option))
    pixels = keras.Input(image_shape, dtype="uint8", name="pixels")
    scaled = layers.Rescaling(1 / 255)(pixels)
    made = component.build(option, inputs=scaled, classes=classes)
    logits = _in_float32(scaled, made, classes, f"{component.where}: {component.name}")
    model = keras.Model(pixels, layers.Softmax(dtype="float32")(logits))
    if not component.own:
        _check_saving(model, f"{component.where}: {component.name}")
    return Network(model, logits)


def _in_float32(inputs: keras.KerasTensor, logits: Any, classes: int, where: str) -> keras.KerasTensor:
    """Return a function's output in float32, checked: bfloat16 has only three significant digits."""
    if not isinstance(logits, keras.KerasTensor):
        raise UserError(f"{where}: it returns {type(logits).__name__}; logits of shape (n, {classes}) are expected")
    if tuple(logits.shape) != (None, classes):
        shape = ", ".join("n" if side is None else str(side) for side in logits.shape)
        raise UserError(f"{where}: its output has shape ({shape}); logits of shape (n, {classes}) are expected")
    last = keras.Model(inputs, logits).operations[-1]
    if isinstance(last, layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        raise UserError(f"{where}: it returns probabilities; leave the softmax out, logits are expected")
    if logits.dtype == "float32":
        return logits
    if isinstance(last, layers.Dense):  # again, in float32
        last.dtype_policy = "float32"
        return last(last.input)
    return layers.Activation("linear", dtype="float32")(logits)


def _check_saving(model: keras.Model, where: str) -> None:
    """Raise a UserError unless the model can be read back from its file."""
    for layer in model.layers:
        try:
            keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer), safe_mode=True)
        except Exception as error:  # Keras has many
            cause = " ".join(str(error).split())[:200]
            raise UserError(
                f"{where}: its layer {layer.name} ({type(layer).__name__}) cannot be saved and read back: {cause}"
            ) from error


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
        # By way of float32: viewing reshapes, and TensorFlow reshapes int32 in the host's memory, beside a GPU too.
        kept = ops.view(ops.view(drawn, "float32"), "uint8")[..., :units] >= ops.cast(dropped, "uint8")
        return inputs * (ops.cast(kept, inputs.dtype) * (256 / (256 - dropped)))


def on_floats(model: keras.Model, output: keras.KerasTensor) -> keras.Model:
    """Return a built model up to a tensor, with weights shared, that takes pixels as float32.

    The model's own input is uint8 and would cut augmented pixels to whole numbers. The returned model drops out with
    `ByteDropout`, which is faster; the given model keeps Keras' Dropout, so that its file loads anywhere.

    Args:
        model: Its first two layers are the input and the scaling, as `build_network` makes them.
        output: One of its tensors.
    """
    scale = model.layers[1]
    rest = keras.models.clone_model(keras.Model(scale.output, output), clone_function=_faster)
    pixels = keras.Input(model.input_shape[1:], dtype="float32")
    return keras.Model(pixels, rest(scale(pixels)))


def _faster(layer: keras.layers.Layer) -> keras.layers.Layer:
    if type(layer) is layers.Dropout and layer.noise_shape is None:
        return ByteDropout(layer.rate, dtype=layer.dtype_policy)
    return layer
