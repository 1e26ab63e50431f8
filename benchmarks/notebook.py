"""The notebook's CNN, compilation and data feed, in Keras as the notebook wrote them."""

from collections.abc import Iterator

import keras
import numpy as np
from keras import layers

BATCH = 86  # images


def notebook_model() -> keras.Model:
    """Return the notebook's CNN as the notebook writes it."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.2),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(strides=2),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax", dtype="float32"),
        ]
    )


def compile_as_notebook(model: keras.Model) -> None:
    """Compile with the notebook's RMSprop."""
    model.compile(
        optimizer=keras.optimizers.RMSprop(learning_rate=0.001, rho=0.9, epsilon=1e-8),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )


def generator(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Return the notebook's ImageDataGenerator flow."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    changes = ImageDataGenerator(rotation_range=10, zoom_range=0.1, width_shift_range=0.1, height_shift_range=0.1)
    return changes.flow(images / np.float32(255), keras.utils.to_categorical(labels, 10), batch_size=BATCH)
