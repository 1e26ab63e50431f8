"""Parts are stratified, disjoint, complete, and decided by the split's seed alone."""

import numpy as np
import pytest

from sweeper_digits.data.split import split_test, splits
from sweeper_digits.errors import UserError
from sweeper_digits.options import All, Holdout, KFold

LABELS = np.repeat(np.arange(10), [40, 50, 60, 70, 80, 90, 100, 110, 120, 130])  # 850 images


def test_holdout_is_stratified_and_complete() -> None:
    (parts,) = splits(Holdout(test_size=0, seed=0, validation_size=0.2), LABELS)
    assert (len(parts.train), len(parts.validation)) == (680, 170)
    assert np.bincount(LABELS[parts.validation]).tolist() == [8, 10, 12, 14, 16, 18, 20, 22, 24, 26]
    assert sorted([*parts.train, *parts.validation]) == list(range(850))


def test_kaggle_sized_holdout_has_the_notebooks_sizes() -> None:
    (parts,) = splits(Holdout(test_size=0, seed=0, validation_size=0.15), np.arange(42000) % 10)
    assert (len(parts.train), len(parts.validation)) == (35700, 6300)


def test_folds_validate_each_image_once() -> None:
    folds = list(splits(KFold(test_size=0, seed=0, folds=5, fold=None), LABELS))
    assert sorted(np.concatenate([fold.validation for fold in folds])) == list(range(850))
    for fold in folds:
        assert np.bincount(LABELS[fold.validation]).tolist() == [8, 10, 12, 14, 16, 18, 20, 22, 24, 26]
        assert not set(fold.train) & set(fold.validation)


def test_one_fold_is_the_same_as_in_all() -> None:
    folds = list(splits(KFold(test_size=0.1, seed=3, folds=5, fold=None), LABELS))
    (second,) = splits(KFold(test_size=0.1, seed=3, folds=5, fold=1), LABELS)
    np.testing.assert_array_equal(second.validation, folds[1].validation)


def test_all_trains_on_everything() -> None:
    (parts,) = splits(All(test_size=0, seed=0), LABELS)
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
    _, locked = split_test(Holdout(test_size=0.2, seed=5, validation_size=0.15), LABELS)
    assert np.bincount(LABELS[locked]).tolist() == [8, 10, 12, 14, 16, 18, 20, 22, 24, 26]
    for parts in splits(split, LABELS):
        assert not set(locked) & {*parts.train, *parts.validation}


def test_seed_decides() -> None:
    def validation(seed: int) -> list[int]:
        (parts,) = splits(Holdout(test_size=0, seed=seed, validation_size=0.2), LABELS)
        return parts.validation.tolist()

    assert validation(1) == validation(1) != validation(2)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Holdout(test_size=0, seed=0, validation_size=0.2), r"validation_size=0.2: class 7 has 1 example"),
        (Holdout(test_size=0.2, seed=0, validation_size=0.2), r"test_size=0.2: class 7 has 1 example"),
        (KFold(test_size=0, seed=0, folds=5, fold=None), r"folds=5: class 7 has 1 example;.* at least 5"),
    ],
)
def test_a_class_with_one_example_cannot_be_split(split: Holdout | KFold, message: str) -> None:
    labels = np.array([3] * 20 + [7])
    with pytest.raises(UserError, match=message):
        list(splits(split, labels))


def test_part_smaller_than_the_classes_is_refused() -> None:
    with pytest.raises(UserError, match=r"validation_size=0.01: 40 images cannot be split so"):
        list(splits(Holdout(test_size=0, seed=0, validation_size=0.01), np.arange(40) % 10))
