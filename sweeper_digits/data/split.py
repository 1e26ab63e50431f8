"""Labels in, index arrays out: which images train, which validate, which stay locked away.

Equal images stay together: a model that trained on an image is not validated on its copy.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from sweeper_digits.config import All, Holdout, KFold, Split
from sweeper_digits.errors import UserError
from sweeper_digits.text import counted, printable

if TYPE_CHECKING:
    from sweeper_digits.data.dataset import Dataset  # which imports this module


def hash_images(images: np.ndarray) -> np.ndarray:
    """Return uint64 (n,), equal numbers for equal images, on every machine and in every process.

    They are BLAKE2b of the pixels and the shape, cut to 64 bits: of 70,000 images, two different ones have one number
    with a probability of 1 in 10^10.

    Args:
        images: uint8 (n, height, width, channels).
    """
    shape = struct.pack("<3I", *images.shape[1:])
    pixels, size = np.ascontiguousarray(images).reshape(-1).data, int(np.prod(images.shape[1:]))
    starts = range(0, len(pixels), size)
    digests = [hashlib.blake2b(pixels[at : at + size], digest_size=8, person=shape).digest() for at in starts]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def divided_groups(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the groups whose members differ in a value, int (m,), in ascending order.

    Args:
        groups: int (n,), from 0, equal numbers for members of one group.
        values: int (n,), from 0.
    """
    if np.bincount(groups).max() == 1:
        return groups[:0]
    pairs = np.unique(groups * (values.max() + 1) + values) // (values.max() + 1)
    return np.unique(pairs[1:][pairs[1:] == pairs[:-1]])


TOLERANCE = 0.25  # of the size of a part that was asked for


class Subsets(NamedTuple):
    """Sorted, disjoint int64 index arrays into the labelled images."""

    train: np.ndarray
    validation: np.ndarray  # empty with split=all


def splits(
    split: Split, labels: np.ndarray, groups: np.ndarray, classes: Sequence[str] = (), named: bool = False
) -> Iterator[Subsets]:
    """Yield the parts of each training that the split asks for: one, or one per fold.

    The test part is drawn first, so that neither folds nor validation_size change it.

    Args:
        split: One of the options of the config group `split`.
        labels: int (n,), each a place in the classes.
        groups: int (n,), equal numbers for images that are in one part: equal ones, and those of a named group.
        classes: Their names, for messages.
        named: Whether the user named the groups, which may then be large and of several classes.

    Raises:
        UserError: Too few different images of a class for a stratified split, or too few groups.
    """
    rest, _ = split_test(split, labels, groups, classes, named)
    if isinstance(split, All):
        yield Subsets(rest, rest[:0])
    elif isinstance(split, Holdout):
        key = f"split.validation_size={split.validation_size:g}"
        taken = _draw(labels[rest], groups[rest], split.validation_size, split.seed, key, classes, named)
        yield Subsets(rest[~taken], rest[taken])
    elif isinstance(split, KFold):
        key = f"split.folds={split.folds}"
        if named:
            part = _deal(labels[rest], groups[rest], np.full(split.folds, 1 / split.folds), split.seed, key)
        else:
            _check_classes(labels[rest], groups[rest], split.folds, key, classes)
            folds = StratifiedKFold(split.folds, shuffle=True, random_state=split.seed)
            part = np.empty(len(rest), np.int64)
            for fold, (_, validation) in enumerate(folds.split(rest, labels[rest])):
                part[validation] = fold
            part = _unite(part, labels[rest], groups[rest], split.seed)
        for fold in range(split.folds):
            if split.fold in (None, fold):
                yield Subsets(rest[part != fold], rest[part == fold])


def splits_of(split: Split, dataset: "Dataset") -> list[Subsets]:
    """Return the parts of each training on a data set with labels; see `splits`."""
    assert dataset.labels is not None  # noqa: S101 - see above
    named = dataset.named_groups is not None
    return list(splits(split, dataset.labels, dataset.groups, dataset.classes, named))


def split_test(
    split: Split, labels: np.ndarray, groups: np.ndarray, classes: Sequence[str] = (), named: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices that may be used for training and validation, and the locked test part; see `splits`."""
    everything = np.arange(len(labels))
    if split.test_size == 0:
        return everything, everything[:0]
    taken = _draw(labels, groups, split.test_size, split.seed, f"split.test_size={split.test_size:g}", classes, named)
    return everything[~taken], everything[taken]


def _draw(
    labels: np.ndarray, groups: np.ndarray, size: float, seed: int, key: str, classes: Sequence[str], named: bool
) -> np.ndarray:
    """Return bool (n,), true for a stratified share of the images."""
    if named:
        return _deal(labels, groups, np.array([1 - size, size]), seed, key) == 1
    _check_classes(labels, groups, 2, key, classes)
    everything = np.arange(len(labels))
    try:
        _, taken = train_test_split(everything, test_size=size, stratify=labels, random_state=seed)
    except ValueError as error:  # a part smaller than the number of classes
        raise UserError(f"{key}: {counted(len(labels), 'image')} cannot be split so ({error})") from error
    return _unite(np.isin(everything, taken).astype(np.int64), labels, groups, seed) == 1


def _deal(labels: np.ndarray, groups: np.ndarray, shares: np.ndarray, seed: int, key: str) -> np.ndarray:
    """Return the part of each image, so that groups stay whole and each part has about its share of each class.

    Large groups are dealt before small ones, in random order among those of about one size. Each goes to the part where
    it lessens chi-square the most: the squares of what the parts lack of each class, and of all, over what their share
    is. No part stays empty.

    Args:
        labels: int (n,), each a place in the classes.
        groups: int (n,).
        shares: float (parts,), their sum is 1.
        seed: The seed of the order.
        key: The key that asks for the parts, for messages.

    Raises:
        UserError: Fewer groups than parts.
    """
    numbers, own = np.unique(groups, return_inverse=True)
    if len(numbers) < len(shares):
        raise UserError(
            f"{key}: {counted(len(numbers), 'group')} for {len(shares)} parts, so nothing is left for one of them; "
            "data.group=NAME keeps the images of a group, and of groups that share an image, together"
        )
    counts = np.zeros((len(numbers), labels.max() + 2))  # in the last column of all classes
    np.add.at(counts, (own, labels), 1)
    counts[:, -1] = sizes = counts.sum(axis=1)
    share = np.outer(shares, counts.sum(axis=0))
    weights = 1 / np.maximum(share, np.finfo(float).tiny)
    order = np.random.default_rng(seed).permutation(len(numbers))
    order = order[np.argsort(-np.floor(np.log2(sizes[order])), kind="stable")]
    lacking, filled, chosen = share.copy(), np.zeros(len(shares), bool), np.zeros(len(numbers), np.int64)
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        gain = ((2 * lacking - counts[group]) * counts[group] * weights).sum(axis=1)
        if np.count_nonzero(~filled) >= left:
            gain[filled] = -np.inf
        chosen[group] = part = gain.argmax()
        lacking[part] -= counts[group]
        filled[part] = True
    return chosen[own]


def note_groups(split: Split, dataset: "Dataset", parts: Sequence[Subsets]) -> list[str]:
    """Return a line for each part that whole groups leave far from the size that was asked for, or without a class.

    Args:
        split: One of the options of the config group `split`.
        dataset: With named groups.
        parts: What `splits` gave.
    """
    assert dataset.labels is not None and dataset.named_groups is not None  # noqa: S101 - see above
    total, groups, named = len(dataset.labels), dataset.groups, len(np.unique(dataset.named_groups))
    notes = [] if groups.max() + 1 == named else [f"equal images join {named:,} groups into {groups.max() + 1:,}"]
    largest = groups == np.bincount(groups).argmax()
    name = printable(repr(str(dataset.named_groups[largest][0])))
    for what, places, asked in _asked(split, total, parts):
        if abs(len(places) / total - asked) > TOLERANCE * asked:
            found = f"{len(places) / total:.0%} of the images are {what}, and {asked:.0%} were asked for"
            notes.append(f"{found}: groups stay whole, and that of {name} has {largest.mean():.0%}")
        if len(missing := np.setdiff1d(dataset.labels, dataset.labels[places])):
            absent = ", ".join(printable(dataset.classes[label]) for label in missing)
            notes.append(f"no group with class {absent} is {what}")
    return notes


def _asked(split: Split, total: int, parts: Sequence[Subsets]) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yield what each part is for, its images, and the share of all that was asked for; no part that is to be empty."""
    rest, usable = np.union1d(*parts[0]), 1 - split.test_size
    if split.test_size:
        yield "locked away for testing", np.setdiff1d(np.arange(total), rest), split.test_size
    validation = split.validation_size if isinstance(split, Holdout) else 0.0
    if isinstance(split, KFold):
        validation = 1 / split.folds
    for number, one in enumerate(parts):
        fold = f" in fold {number}" if len(parts) > 1 else ""
        yield f"for training{fold}", one.train, usable * (1 - validation)
        if validation:
            yield f"for validation{fold}", one.validation, usable * validation


def _unite(part: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return the part of each image, changed so that equal images are in one part.

    Only images that were split apart change their part. They go, in random order, to the part that lacks most of their
    class, so the parts keep their sizes in each class as nearly as the number of copies allows.

    Args:
        part: int (n,), from 0.
        labels: int (n,), each a place in the classes.
        groups: int (n,), equal numbers for equal images.
        seed: The seed of the order.
    """
    apart = divided_groups(groups, part)
    if len(apart) == 0:
        return part
    members = np.flatnonzero(np.isin(groups, apart))
    lacking = np.zeros((labels.max() + 1, part.max() + 1), np.int64)
    np.add.at(lacking, (labels[members], part[members]), 1)
    members = members[np.argsort(groups[members], kind="stable")]
    copies = np.split(members, np.flatnonzero(np.diff(groups[members])) + 1)
    copies.sort(key=lambda places: places[0])  # whatever the numbers of the groups
    united = part.copy()
    for place in np.random.default_rng(seed).permutation(len(copies)):
        own = labels[copies[place]]
        united[copies[place]] = chosen = lacking[own].sum(axis=0).argmax()
        np.subtract.at(lacking, (own, chosen), 1)
    return united


def _check_classes(labels: np.ndarray, groups: np.ndarray, least: int, key: str, classes: Sequence[str]) -> None:
    different = np.unique(labels * (groups.max() + 1) + groups) // (groups.max() + 1)
    places, counts = np.unique(different, return_counts=True)
    if counts.min() < least:
        place, count = places[counts.argmin()], counts.min()
        name = classes[place] if classes else place
        raise UserError(
            f"{key}: class {name} has {counted(int(count), 'different example')}; "
            f"a stratified split needs at least {least}"
        )
