"""Dataset in IDX, the format of MNIST's own files."""

import gzip
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sweeper_digits.data.dataset import Dataset, as_dataset, existing_path
from sweeper_digits.data.limits import read_bounded
from sweeper_digits.errors import UserError
from sweeper_digits.screen import counted

# MNIST's own files.
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def load_idx(path: str) -> Dataset:
    """Load a folder with MNIST's own files train-images-idx3-ubyte and train-labels-idx1-ubyte.

    The files may be compressed (.gz). Some tools unpack them to names with a dot before `idx`; those are read too.

    Raises:
        UserError: A file that is missing, cut short or of another type.

    Source: the file format section of http://yann.lecun.com/exdb/mnist/
    """
    folder = existing_path(path)
    images = _read_idx(_idx_file(folder, IMAGES), dimensions=3)
    labels = _read_idx(_idx_file(folder, LABELS), dimensions=1)
    return as_dataset(images, labels, str(folder))


def idx_names(name: str) -> list[str]:
    """Return the names under which one of MNIST's files is looked for, in this order."""
    return [f"{stem}{suffix}" for stem in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")]


def _idx_file(folder: Path, name: str) -> Path:
    for candidate in idx_names(name):
        if (folder / candidate).is_file():
            return folder / candidate
    raise UserError(f"{folder}: no {name} (or {name}.gz) in this folder")


def _read_idx(file: Path, dimensions: int) -> np.ndarray:
    """Read one IDX file of unsigned bytes.

    Raises:
        UserError: A file that is cut short or of another type.
    """
    opener: Callable[..., Any] = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rb") as stream:
            raw = read_bounded(stream, str(file))
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: not readable ({error}); is the file whole?") from error
    magic = bytes([0, 0, 8, dimensions])  # 8 = unsigned byte
    if raw[:4] != magic:
        raise UserError(f"{file}: not an IDX file of unsigned bytes with {counted(dimensions, 'dimension')}")
    header = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, header, 4))
    if len(raw) - header != math.prod(shape):
        raise UserError(f"{file}: cut short: {max(len(raw) - header, 0)} bytes of data, the header says {shape}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
