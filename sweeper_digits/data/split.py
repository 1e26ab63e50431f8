"""Labels in, index arrays out: which images train, which validate, which stay locked away."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from sweeper_digits.errors import UserError
from sweeper_digits.options import All, Holdout, KFold, Split
from sweeper_digits.screen import counted


class Parts(NamedTuple):
    """Sorted, disjoint int64 index arrays into the labelled images."""

    train: np.ndarray
    validation: np.ndarray  # empty with split=all


def splits(split: Split, labels: np.ndarray) -> Iterator[Parts]:
    """Yield the parts of each training that the split asks for: one, or one per fold.

    The test part is drawn first, so that neither folds nor validation_size change it.

    Args:
        split: One of the options of the config group `split`.
        labels: int (n,).

    Raises:
        UserError: Too few images of a class for a stratified split.
    """
    rest, _ = split_test(split, labels)
    if isinstance(split, All):
        yield Parts(rest, rest[:0])
    elif isinstance(split, Holdout):
        yield Parts(*_stratified(rest, labels, split.validation_size, split.seed, "split.validation_size"))
    elif isinstance(split, KFold):
        _check_classes(labels[rest], split.folds, f"split.folds={split.folds}")
        folds = StratifiedKFold(split.folds, shuffle=True, random_state=split.seed)
        for fold, (train, validation) in enumerate(folds.split(rest, labels[rest])):
            if split.fold in (None, fold):
                yield Parts(rest[train], rest[validation])


def split_test(split: Split, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices that may be used for training and validation, and the locked test part."""
    everything = np.arange(len(labels))
    if split.test_size == 0:
        return everything, everything[:0]
    return _stratified(everything, labels, split.test_size, split.seed, "split.test_size")


def _stratified(
    indices: np.ndarray, labels: np.ndarray, size: float, seed: int, key: str
) -> tuple[np.ndarray, np.ndarray]:
    _check_classes(labels[indices], 2, f"{key}={size:g}")
    try:
        kept, taken = train_test_split(indices, test_size=size, stratify=labels[indices], random_state=seed)
    except ValueError as error:  # a part smaller than the number of classes
        raise UserError(f"{key}={size:g}: {counted(len(indices), 'image')} cannot be split so ({error})") from error
    return np.sort(kept), np.sort(taken)


def _check_classes(labels: np.ndarray, least: int, key: str) -> None:
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < least:
        label, count = classes[counts.argmin()], counts.min()
        raise UserError(
            f"{key}: class {label} has {counted(int(count), 'example')}; a stratified split needs at least {least}"
        )
