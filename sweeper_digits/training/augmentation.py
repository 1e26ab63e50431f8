"""Random changes to training images: a Keras layer in the training graph."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from sweeper_digits import components
from sweeper_digits.errors import UserError

SMOOTHNESS = 4.0  # pixels: Simard et al. 2003 for elastic distortions of digits of this size


def build_augmentation(option: Any, seed: int) -> keras.layers.Layer:
    """Build the layer that an option of the config group `augmentation` names.

    Args:
        option: The option.
        seed: The seed of the layer's random generators.

    Returns:
        A layer from uint8 or float (n, height, width, channels) to float32 of the same shape, 0 to 255, that changes
        nothing outside training. Its variable `strength` is 1; with 0 it changes nothing.

    Raises:
        UserError: The registered function returns something else.
    """
    component = components.find("augmentation", vars(option))
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # in bfloat16, pixels between two others would be rounded
    try:
        layer = component.build(option, seed=seed)
    finally:
        keras.config.set_dtype_policy(policy)
    if not isinstance(layer, keras.layers.Layer):
        raise UserError(
            f"{component.where}: {component.name}: it returns {type(layer).__name__}; a Keras layer is expected"
        )
    return layer if isinstance(layer, RandomWarp) else Switched(layer, f"{component.where}: {component.name}")


class Switched(keras.layers.Layer):
    """Apply a layer in training only, and only while the strength is not 0.

    Args:
        layer: From float32 (n, height, width, channels), 0 to 255, to the same shape.
        where: What errors begin with.

    Attributes:
        strength: Variable: 1 at first, 0 for no change.
    """

    def __init__(self, layer: keras.layers.Layer, where: str) -> None:
        super().__init__(dtype="float32", name="augmentation")
        self.layer, self.where = layer, where
        self.strength = self.add_weight(shape=(), initializer="ones", trainable=False, autocast=False)

    def build(self, shape: tuple[int | None, ...]) -> None:
        if not self.layer.built:
            self.layer.build(shape)

    def call(self, images, training=False):  # type: ignore[no-untyped-def]
        """Return the images as float32, changed if training."""
        images = ops.cast(images, "float32")
        if not training:
            return images
        changed = ops.cast(self.layer(images, training=True), "float32")
        if tuple(changed.shape[1:]) != tuple(images.shape[1:]):
            given, made = (tuple(one.shape[1:]) for one in (images, changed))
            raise UserError(f"{self.where}: it turns images of shape {given} into {made}; the same shape is expected")
        return ops.where(self.strength > 0, changed, images)


class RandomWarp(keras.layers.Layer):
    """Rotate, shear, zoom, shift and bend each image by its own random amounts, with one interpolation.

    One fused transform is faster than a layer for each change (benchmarks/README.md) and blurs once instead of five
    times. Pixels that come from outside the image are 0, the background. Outside training nothing changes.

    Input: uint8 or float (n, height, width, channels). Output: float32 of the same shape and value range.

    The arguments are the keys of `registered.warp`, which says what they mean, and the seed.

    Attributes:
        strength: Variable that multiplies all ranges and the probability of erasing: 1 at first, 0 for no change.
    """

    def __init__(
        self,
        rotation_degrees: float,
        shear_degrees: float,
        zoom_fraction: float,
        shift_fraction: float,
        elastic_pixels: float,
        erase_fraction: float,
        seed: int,
    ) -> None:
        super().__init__(dtype="float32", name="augmentation")
        self.rotation = math.radians(rotation_degrees)
        self.shear = math.radians(shear_degrees)
        self.zoom = zoom_fraction
        self.shift = shift_fraction
        self.elastic = elastic_pixels
        self.erase = erase_fraction
        self.moves = any((self.rotation, self.shear, self.zoom, self.shift, self.elastic))
        self.strength = self.add_weight(shape=(), initializer="ones", trainable=False, autocast=False)
        self.random = keras.random.SeedGenerator(seed)

    def call(self, images, training=False):  # type: ignore[no-untyped-def]
        """Return the images as float32, changed if training."""
        images = ops.cast(images, "float32")
        if training and self.moves:
            matrices = self.matrices(ops.shape(images))
            if self.elastic:
                images = self._bent(images, matrices)
            else:  # four times as fast on a CPU
                images = ops.image.affine_transform(images, matrices, "bilinear", "constant", 0.0)
        if training and self.erase:
            images = images * self._kept(ops.shape(images))
        return images

    def matrices(self, shape):  # type: ignore[no-untyped-def]
        """Draw one transform per image.

        Args:
            shape: (n, height, width, channels).

        Returns:
            float32 (n, 8): a0 a1 a2 b0 b1 b2 0 0 as `keras.ops.image.affine_transform` takes
            them: output pixel (x, y) is read at (a0 x + a1 y + a2, b0 x + b1 y + b2).
        """
        n, height, width = shape[0], float(shape[1]), float(shape[2])
        angle, shear = self._uniform(n, self.rotation), self._uniform(n, self.shear)
        zoom_x, zoom_y = 1.0 + self._uniform(n, self.zoom), 1.0 + self._uniform(n, self.zoom)
        shift_x, shift_y = width * self._uniform(n, self.shift), height * self._uniform(n, self.shift)
        # Inverse map about the centre: undo the shift, rotate back, shear back, scale back.
        cos, sin, slope = ops.cos(angle), ops.sin(angle), ops.tan(shear)
        a0, a1 = (cos + slope * sin) / zoom_x, (slope * cos - sin) / zoom_x
        b0, b1 = sin / zoom_y, cos / zoom_y
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        a2 = centre_x - a0 * (centre_x + shift_x) - a1 * (centre_y + shift_y)
        b2 = centre_y - b0 * (centre_x + shift_x) - b1 * (centre_y + shift_y)
        zero = ops.zeros_like(a0)
        return ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)

    def displacements(self, shape):  # type: ignore[no-untyped-def]
        """Draw where each pixel is read instead, for shape (n, height, width, channels).

        Returns:
            float32 (2, n, height, width): along x and along y, in pixels.
        """
        n, height, width = shape[0], shape[1], shape[2]
        rows, columns = _smoothing(height), _smoothing(width)
        noise = keras.random.normal((2, n, rows.shape[1], columns.shape[1]), stddev=self.elastic, seed=self.random)
        return ops.matmul(ops.matmul(rows, noise * self.strength), columns.T)

    def _bent(self, images, matrices):  # type: ignore[no-untyped-def]
        """Return the images with each pixel read at its displaced and then transformed place."""
        height, width = images.shape[1], images.shape[2]
        a0, a1, a2, b0, b1, b2 = (ops.reshape(matrices[:, i], (-1, 1, 1)) for i in range(6))
        displaced = self.displacements(ops.shape(images))
        x = displaced[0] + ops.arange(width, dtype="float32")
        y = displaced[1] + ops.reshape(ops.arange(height, dtype="float32"), (height, 1))
        return _sample(images, a0 * x + a1 * y + a2, b0 * x + b1 * y + b2)

    def _uniform(self, n, limit: float):  # type: ignore[no-untyped-def]
        if not limit:
            return ops.zeros((n,))
        return self.strength * keras.random.uniform((n,), -limit, limit, seed=self.random)

    def _kept(self, shape):  # type: ignore[no-untyped-def]
        """Return float32 (n, height, width, 1): 0 in the erased square, 1 elsewhere."""
        n, height, width = shape[0], shape[1], shape[2]
        half = math.sqrt(self.erase * height * width) / 2
        place = keras.random.uniform((3, n, 1, 1, 1), seed=self.random)
        rows = ops.reshape(ops.arange(height, dtype="float32"), (1, height, 1, 1))
        columns = ops.reshape(ops.arange(width, dtype="float32"), (1, 1, width, 1))
        inside = ops.logical_and(ops.abs(rows - place[0] * height) < half, ops.abs(columns - place[1] * width) < half)
        return ops.cast(ops.logical_not(ops.logical_and(inside, place[2] < 0.5 * self.strength)), "float32")


def _smoothing(side: int) -> np.ndarray:
    """Return float32 (side, points): a Gaussian around points a smoothness apart; the squares of each row sum to 1.

    It turns white noise at the points into smooth noise at the pixels, with a twentieth of the random numbers.
    """
    points = np.arange(-2 * SMOOTHNESS, side + 2 * SMOOTHNESS, SMOOTHNESS)
    weights = np.exp(-((np.arange(side)[:, None] - points) ** 2) / (2 * SMOOTHNESS**2))
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def _sample(images, x, y):  # type: ignore[no-untyped-def]
    """Read images bilinearly at the places x and y, both (n, height, width); outside is 0.

    The images are float32 (n, height, width, channels).

    `keras.ops.image.map_coordinates` gives the same values within rounding in 2 to 3 times the time.
    """
    height, width, channels = images.shape[1:]
    x, y = ops.clip(x, -1.0, width), ops.clip(y, -1.0, height)
    left, top = ops.floor(x), ops.floor(y)
    padded = ops.pad(images, ((0, 0), (1, 2), (1, 2), (0, 0)))
    # Each pixel together with those right, below and both: one lookup instead of four.
    corners = ops.concatenate([padded[:, :-1, :-1], padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]], axis=-1)
    # "int" is int64 for TensorFlow, which adds int32 in the host's memory, beside a GPU too.
    first = ops.arange(ops.shape(images)[0], dtype="int") * ((height + 2) * (width + 2))
    places = ops.cast((top + 1) * (width + 2) + left + 1, "int") + ops.reshape(first, (-1, 1, 1))
    found = ops.take(ops.reshape(corners, (-1, 4 * channels)), places, axis=0)
    right, below = x - left, y - top
    weights = [(1 - right) * (1 - below), right * (1 - below), (1 - right) * below, right * below]
    if channels == 1:  # a third faster than what follows
        return ops.sum(found * ops.stack(weights, axis=-1), axis=-1, keepdims=True)
    return sum(
        found[..., place * channels : (place + 1) * channels] * ops.expand_dims(weight, -1)
        for place, weight in enumerate(weights)
    )
