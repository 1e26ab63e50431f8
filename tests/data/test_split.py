"""Parts are stratified, disjoint, complete, decided by the split's seed alone, and share no equal images."""

import numpy as np
import pytest

from sweeper_digits.config import All, Holdout, KFold
from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.split import hash_images, split_test, splits
from sweeper_digits.errors import UserError
from tests.tables import unlike

LABELS = np.repeat(np.arange(10), [40, 50, 60, 70, 80, 90, 100, 110, 120, 130])  # 850 images
DIFFERENT = np.arange(850)


def test_holdout_is_stratified_and_complete() -> None:
    (parts,) = splits(Holdout(test_size=0, seed=0, validation_size=0.2), LABELS, DIFFERENT)
    assert (len(parts.train), len(parts.validation)) == (680, 170)
    assert np.bincount(LABELS[parts.validation]).tolist() == [8, 10, 12, 14, 16, 18, 20, 22, 24, 26]
    assert sorted([*parts.train, *parts.validation]) == list(range(850))


def test_kaggle_sized_holdout_has_the_notebooks_sizes() -> None:
    (parts,) = splits(Holdout(test_size=0, seed=0, validation_size=0.15), np.arange(42000) % 10, np.arange(42000))
    assert (len(parts.train), len(parts.validation)) == (35700, 6300)


def test_folds_validate_each_image_once() -> None:
    folds = list(splits(KFold(test_size=0, seed=0, folds=5, fold=None), LABELS, DIFFERENT))
    assert sorted(np.concatenate([fold.validation for fold in folds])) == list(range(850))
    for fold in folds:
        assert np.bincount(LABELS[fold.validation]).tolist() == [8, 10, 12, 14, 16, 18, 20, 22, 24, 26]
        assert not set(fold.train) & set(fold.validation)


def test_one_fold_is_the_same_as_in_all() -> None:
    folds = list(splits(KFold(test_size=0.1, seed=3, folds=5, fold=None), LABELS, DIFFERENT))
    (second,) = splits(KFold(test_size=0.1, seed=3, folds=5, fold=1), LABELS, DIFFERENT)
    np.testing.assert_array_equal(second.validation, folds[1].validation)


def test_all_trains_on_everything() -> None:
    (parts,) = splits(All(test_size=0, seed=0), LABELS, DIFFERENT)
    assert (len(parts.train), len(parts.validation)) == (850, 0)


@pytest.mark.parametrize(
    "split",
    [
        Holdout(test_size=0.2, seed=5, validation_size=0.3),
        KFold(test_size=0.2, seed=5, folds=3, fold=None),
        All(test_size=0.2, seed=5),
    ],
)
def test_test_part_is_locked_away_from_every_split(split: Holdout | KFold | All) -> None:
    _, locked = split_test(Holdout(test_size=0.2, seed=5, validation_size=0.15), LABELS, DIFFERENT)
    assert np.bincount(LABELS[locked]).tolist() == [8, 10, 12, 14, 16, 18, 20, 22, 24, 26]
    for parts in splits(split, LABELS, DIFFERENT):
        assert not set(locked) & {*parts.train, *parts.validation}


def test_seed_decides() -> None:
    def validation(seed: int) -> list[int]:
        (parts,) = splits(Holdout(test_size=0, seed=seed, validation_size=0.2), LABELS, DIFFERENT)
        return parts.validation.tolist()

    assert validation(1) == validation(1) != validation(2)


def test_a_class_with_one_example_cannot_be_split() -> None:
    labels = np.array([3] * 20 + [7])
    cases = [
        (Holdout(test_size=0, seed=0, validation_size=0.2), r"validation_size=0.2: class 7 has 1 different example"),
        (Holdout(test_size=0.2, seed=0, validation_size=0.2), r"test_size=0.2: class 7 has 1 different example"),
        (KFold(test_size=0, seed=0, folds=5, fold=None), r"folds=5: class 7 has 1 different example.* at least 5"),
    ]
    assert unlike(cases, lambda split: list(splits(split, labels, np.arange(21)))) == []


def test_part_smaller_than_the_classes_is_refused() -> None:
    with pytest.raises(UserError, match=r"validation_size=0.01: 40 images cannot be split so"):
        list(splits(Holdout(test_size=0, seed=0, validation_size=0.01), np.arange(40) % 10, np.arange(40)))


SPLITS = [
    Holdout(test_size=0.2, seed=5, validation_size=0.3),
    KFold(test_size=0.1, seed=5, folds=3, fold=None),
    All(test_size=0.2, seed=5),
]
THREE = DIFFERENT // 3  # each image three times, some of them with two labels


@pytest.mark.parametrize("split", SPLITS)
def test_equal_images_are_in_one_part_and_parts_keep_their_shares_of_each_class(split: Holdout | KFold | All) -> None:
    usable, locked = split_test(split, LABELS, THREE)
    assert sorted([*usable, *locked]) == list(range(850))
    assert not set(THREE[usable]) & set(THREE[locked])
    pairs = zip(splits(split, LABELS, THREE), splits(split, LABELS, DIFFERENT), strict=True)
    for parts, plain in pairs:
        assert sorted([*parts.train, *parts.validation]) == usable.tolist()
        assert not set(THREE[parts.train]) & set(THREE[parts.validation])
        near = np.bincount(LABELS[parts.validation], minlength=10) - np.bincount(LABELS[plain.validation], minlength=10)
        assert np.abs(near).max() <= 3


def test_the_numbers_of_the_groups_do_not_matter() -> None:
    for one, other in zip(splits(SPLITS[0], LABELS, THREE), splits(SPLITS[0], LABELS, 999 - THREE), strict=True):
        np.testing.assert_array_equal(one.validation, other.validation)


def test_one_image_many_times_moves_no_other_image() -> None:
    split = Holdout(test_size=0, seed=0, validation_size=0.2)
    groups = DIFFERENT.copy()
    groups[LABELS == 4] = np.minimum(groups[LABELS == 4], 230)  # 80 images: 10 different ones, then 70 equal ones
    (parts,), (plain,) = splits(split, LABELS, groups), splits(split, LABELS, DIFFERENT)
    moved = np.setxor1d(parts.validation, plain.validation)
    assert len(moved) and set(groups[moved]) == {230}


def test_a_class_of_copies_of_one_image_cannot_be_split() -> None:
    groups = np.where(LABELS == 7, 850, DIFFERENT)
    for names, name in (((), "7"), ("abcdefghij", "h")):
        with pytest.raises(UserError, match=f"class {name} has 1 different example"):
            list(splits(Holdout(test_size=0, seed=0, validation_size=0.2), LABELS, groups, names))


def test_equal_images_have_equal_numbers() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 8, 3), np.uint8)
    one, other = hash_images(images[[0, 1, 0, 2]]), hash_images(images[[3, 2, 0]])
    assert one[0] == one[2] == other[2] and one[3] == other[1] and len(set(map(int, [*one, *other]))) == 4
    assert not set(map(int, one)) & set(map(int, hash_images(images.reshape(4, 8, 9, 3)))), "the shape counts"
    assert hash_images(images[::-1, :, ::-1]).tolist() == hash_images(images[::-1, :, ::-1].copy()).tolist()
    # Equal on every machine and with every version, because run folders keep it.
    assert hash_images(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)).tolist() == [15284888947558480530]
    assert Dataset(images[[2, 1, 2, 0]], None, "").groups.tolist() == [0, 1, 0, 2]


def test_without_a_test_size_nothing_is_locked() -> None:
    usable, locked = split_test(Holdout(test_size=0, seed=0, validation_size=0.2), LABELS, DIFFERENT)
    assert usable.tolist() == list(range(850)) and locked.tolist() == []


def test_there_are_as_many_folds_as_are_asked_for() -> None:
    folds = list(splits(KFold(test_size=0, seed=0, folds=3, fold=None), LABELS, DIFFERENT))
    assert len(folds) == 3 and sum(len(fold.validation) for fold in folds) == 850


def test_a_class_needs_as_many_different_images_as_there_are_folds() -> None:
    labels, split = np.array([0, 0, 0, 1, 1, 1]), KFold(test_size=0, seed=0, folds=3, fold=None)
    assert [len(fold.validation) for fold in splits(split, labels, np.arange(6))] == [2, 2, 2]
    with pytest.raises(UserError, match=r"split\.folds=3"):  # class 1 has two different ones
        list(splits(split, labels, np.array([0, 1, 2, 3, 4, 4])))


def test_the_seed_moves_copies_too() -> None:
    groups = np.arange(850) // 2  # each image twice, beside each other
    held = [
        next(iter(splits(Holdout(test_size=0, seed=seed, validation_size=0.2), LABELS, groups))).validation
        for seed in (0, 0, 1)
    ]
    assert held[0].tolist() == held[1].tolist() != held[2].tolist()
