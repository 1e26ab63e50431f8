"""How images reach the training step: pixels by index, the order of each epoch, and batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

PREDICT_BATCH = 480  # images; more gain nothing on a CPU and cost memory
MOST_STEPS_PER_EXECUTION = 16  # steps of training that run in one call
LEAST_STEPS_PER_EXECUTION = 4


class PixelsByIndex(keras.layers.Layer):
    """All images, held where the model is trained; turns indices into images.

    Only indices travel per step, and on a GPU the data set crosses the bus once. The pixels are kept as bfloat16, in
    which 0 to 255 are exact: TensorFlow gathers no uint8 on a GPU, and would carry all images back at every step.

    Input: int32 (n,). Output: bfloat16 (n, height, width, channels), 0-255.

    Args:
        images: uint8 (m, height, width, channels).
    """

    def __init__(self, images: np.ndarray) -> None:
        super().__init__(dtype="float32", name="pixels_by_index")
        self.images = self.add_weight(
            shape=images.shape,
            dtype="bfloat16",
            trainable=False,
            autocast=False,
            initializer=lambda shape, dtype: ops.convert_to_tensor(images, dtype),
        )

    def call(self, indices):  # type: ignore[no-untyped-def]
        return ops.take(self.images, indices, axis=0)


@dataclass(frozen=True)
class Feed:
    """The batches of a training: which images, in which order.

    Attributes:
        images: int (n,), places in the data of the images that train.
        labels: int32 (m,), of all images of the data.
        batch_size: Images in a batch, at most n.
        steps: Batches in an epoch.
        steps_per_execution: Batches that run in one call; divides `steps`.
        seed: Seed of the order.
    """

    images: np.ndarray
    labels: np.ndarray
    batch_size: int
    steps: int
    steps_per_execution: int
    seed: int

    @classmethod
    def of(cls, images: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> "Feed":
        """Plan the steps: a batch is never larger than the data."""
        batch_size = min(batch_size, len(images))
        return cls(images, labels, batch_size, *plan_steps(len(images) // batch_size), seed)

    def epoch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the batches of an epoch, counted from 0: indices and labels, each int32 (steps, batch_size).

        Each epoch is its own seeded shuffle, so a resumed run sees the images in the order of an uninterrupted one.
        """
        order = np.random.default_rng([self.seed, number]).permutation(self.images)[: self.steps * self.batch_size]
        batches = order.astype(np.int32).reshape(self.steps, self.batch_size)
        return batches, self.labels[batches]

    def epochs(self, first: int, end: int) -> Any:
        """Return the batches of the epochs from `first` up to `end`, which is left out, in the form that `fit` takes.

        Only one epoch is in memory at a time.
        """
        if keras.backend.backend() != "tensorflow":
            return self._generate(first, end)
        import tensorflow as tf

        def batches(number: Any) -> tf.data.Dataset:
            indices, labels = tf.numpy_function(self.epoch, [number], (tf.int32, tf.int32))
            shape = (self.steps, self.batch_size)
            return tf.data.Dataset.from_tensor_slices((tf.ensure_shape(indices, shape), tf.ensure_shape(labels, shape)))

        return _without_autotune(tf.data.Dataset.range(first, end).flat_map(batches))

    def _generate(self, first: int, end: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number in range(first, end):
            yield from zip(*self.epoch(number), strict=True)


def plan_steps(batches: int) -> tuple[int, int]:
    """Return steps per epoch, at most 2 fewer than the batches, and how many of them run in one call.

    Keras runs whole calls only, so the second number must divide the first. Which images are left out differs from
    epoch to epoch. PyTorch runs one step in each call.
    """
    if keras.backend.backend() != "torch":
        for steps in range(batches, max(batches - 3, 0), -1):
            for per_call in range(MOST_STEPS_PER_EXECUTION, LEAST_STEPS_PER_EXECUTION - 1, -1):
                if steps % per_call == 0:
                    return steps, per_call
    return max(batches, 1), 1


def prediction_batches(images: np.ndarray) -> tuple[Any, int]:
    """Return the places of images in the form that `predict` takes, and the batch size.

    The batches are of equal size, for TensorFlow would trace another size once more. The last batch is filled up with
    the first images again; the caller drops the predictions after the last image.

    Args:
        images: int (n,), n > 0.
    """
    batches = -(-len(images) // PREDICT_BATCH)
    size = -(-len(images) // batches)
    filled = np.resize(images, batches * size).astype(np.int32)
    if keras.backend.backend() != "tensorflow":
        return filled, size
    import tensorflow as tf

    return _without_autotune(tf.data.Dataset.from_tensor_slices(filled.reshape(batches, size))), size


def _without_autotune(dataset: Any) -> Any:
    """Return a tf.data pipeline that does not tune itself.

    The thread that tunes sleeps for ever longer and is not always woken at the end: one in eight trainings took up to
    half as long again. From arrays, Keras would make a pipeline with that thread.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
