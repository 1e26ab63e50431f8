"""What all options of a group share: the data's changes of the pixels, and the options of the group `split`.

The other options are parts (`registry`); the values of all are in conf/.
"""

from dataclasses import dataclass

from omegaconf import MISSING

from sweeper_digits.errors import check_range


@dataclass
class Data:
    """What all data sources share: changes of the pixels after reading."""

    invert: bool = False  # for a light background: 255 becomes 0
    transpose: bool = False  # rows become columns


@dataclass
class Split:
    """What all splits share: a test part that no training and no search sees, and a seed.

    The seed is apart from the run's, so that runs with different seeds are validated, and
    kept from testing, on the same images.
    """

    test_size: float = MISSING
    seed: int = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        check_range("split.test_size", self.test_size, 0, 1, open_high=True)
        check_range("split.seed", self.seed, 0, 2**32 - 1)


@dataclass
class Holdout(Split):
    """One validation part."""

    validation_size: float = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        check_range("split.validation_size", self.validation_size, 0, 1, open_low=True, open_high=True)


@dataclass
class KFold(Split):
    """Folds; fold None means all of them."""

    folds: int = MISSING
    fold: int | None = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        check_range("split.folds", self.folds, 2, 100)
        check_range("split.fold", self.fold, 0, self.folds - 1)


@dataclass
class All(Split):
    """No validation part."""


SPLITS: dict[str, type] = {"holdout": Holdout, "kfold": KFold, "all": All}
