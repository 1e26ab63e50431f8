"""The first step of a training: the models, the augmentation, the feed and the compiled optimizer."""

import logging
import time
from dataclasses import dataclass

import keras

from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.fingerprint import Content
from sweeper_digits.data.split import Parts
from sweeper_digits.schema import Config
from sweeper_digits.training.augmentation import build_augmentation
from sweeper_digits.training.feed import Feed, PixelsByIndex
from sweeper_digits.training.network import build_network
from sweeper_digits.training.optimizers import build_optimizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A training that is ready to begin.

    Attributes:
        config: The run.
        dataset: All images, labelled.
        parts: Which of the images train and which validate.
        model: What is saved: from pixels, uint8 (n, height, width, channels), to probabilities, float32 (n, classes).
        augmentation: What changes the training images, with its variable `strength`: 0 for no change.
        trainee: What is trained, compiled: from indices, int32 (n,), to logits, float32 (n, classes). It shares its
            weights with `model`.
        feed: The batches.
        started: `time.perf_counter()` when preparing began.
    """

    config: Config
    dataset: Dataset
    parts: Parts
    model: keras.Model
    augmentation: keras.layers.Layer
    trainee: keras.Model
    feed: Feed
    started: float

    @property
    def division(self) -> str:
        """Return what tells these images, and which of them train and validate, from all others."""
        return Content.of(self.dataset, [self.parts]).division


def prepare(config: Config, dataset: Dataset, parts: Parts) -> Prepared:
    """Build and compile what a run trains, from the run's seed, in Keras' present dtype policy."""
    assert dataset.labels is not None  # noqa: S101 - the parts were drawn by label
    started = time.perf_counter()
    keras.utils.set_random_seed(config.seed)
    network = build_network(config.model, dataset.image_shape, len(dataset.classes))
    augmentation = build_augmentation(config.augmentation, config.seed)
    indices = keras.Input((), dtype="int32")
    pixels = augmentation(PixelsByIndex(dataset.images)(indices))
    trainee = keras.Model(indices, network.on_floats()(pixels))
    feed = Feed.of(parts.train, dataset.labels, config.batch_size, config.seed)
    optimizer = build_optimizer(config.optimizer, config.schedule, feed.steps, config.epochs, network.output_layer)
    _compile(trainee, optimizer, feed.steps_per_execution)
    log.info("model      %s parameters", f"{network.model.count_params():,}")
    return Prepared(config, dataset, parts, network.model, augmentation, trainee, feed, started)


def _compile(trainee: keras.Model, optimizer: keras.optimizers.Optimizer, steps_per_execution: int) -> None:
    """Compile a model of logits for integer labels, with its accuracy."""
    trainee.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # Not by name: Keras would make its variables while it traces the step, and TensorFlow would trace it again.
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
        steps_per_execution=steps_per_execution,
        # On a CPU, XLA is 15 times slower; TensorFlow's affine transform cannot be compiled at all.
        jit_compile=keras.backend.backend() == "jax",
    )
