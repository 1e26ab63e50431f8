"""What all options of a group share: the data's changes of the pixels, and the options of the group `split`.

The other options are parts (`registry`); the values of all are in conf/.
"""

from dataclasses import dataclass

from omegaconf import MISSING

from sweeper_digits.errors import check_range, check_ranges, ranged


@dataclass
class Data:
    """What all data sources share: changes of the pixels after reading.

    Attributes:
        invert: For a light background: 255 becomes 0.
        transpose: Rows become columns.
    """

    invert: bool = False
    transpose: bool = False


@dataclass
class Split:
    """What all splits share: a test part that no training and no search sees, and a seed.

    The seed is apart from the run's, so that runs with different seeds are validated, and
    kept from testing, on the same images.

    Attributes:
        test_size: Share of the images that is locked away for testing.
        seed: Of the split alone: equal seeds give equal parts.
    """

    test_size: float = ranged(0, 1, open_high=True)
    seed: int = ranged(0, 2**32 - 1)

    def __post_init__(self) -> None:
        """Check ranges."""
        check_ranges("split.", self)


@dataclass
class Holdout(Split):
    """One validation part.

    Attributes:
        validation_size: Share of the images that validates.
    """

    validation_size: float = ranged(0, 1, open_low=True, open_high=True)


@dataclass
class KFold(Split):
    """Folds.

    Attributes:
        folds: How many there are.
        fold: The one that validates, counted from 0; null: each in turn.
    """

    folds: int = ranged(2, 100)
    fold: int | None = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        check_range("split.fold", self.fold, 0, self.folds - 1)


@dataclass
class All(Split):
    """No validation part."""


SPLITS: dict[str, type] = {"holdout": Holdout, "kfold": KFold, "all": All}
