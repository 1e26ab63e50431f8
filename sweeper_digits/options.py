"""The options of the config groups: every key, its type, its range.

The values are in conf/. `schema` puts the groups together; this module knows one option at a time.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

from omegaconf import MISSING

from sweeper_digits.errors import INFINITY, check_range
from sweeper_digits.sources import File, Idx, Kaggle, KerasData, Mnist5k, Npz


@dataclass
class Model:
    """A convolutional network of stages; `models.build_cnn` describes each value."""

    filters: int = MISSING
    first_kernel_size: int = MISSING
    kernel_size: int = MISSING
    stages: int = MISSING
    depth: int = MISSING
    normalization: bool = MISSING
    residual: bool = MISSING
    dense_units: int = MISSING
    dropout: float = MISSING
    dense_dropout: float = MISSING
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu"] = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        check_range("model.filters", self.filters, 1, 1024)
        check_range("model.first_kernel_size", self.first_kernel_size, 1, 128)
        check_range("model.kernel_size", self.kernel_size, 1, 128)
        check_range("model.stages", self.stages, 1, 7)
        check_range("model.depth", self.depth, 1, 16)
        check_range("model.dense_units", self.dense_units, 0, 65536)
        check_range("model.dropout", self.dropout, 0, 1, open_high=True)
        check_range("model.dense_dropout", self.dense_dropout, 0, 1, open_high=True)


@dataclass
class Optimizer:
    """What all optimizers share; the names are Keras' own."""

    _target_: str = MISSING
    learning_rate: float = MISSING
    weight_decay: float = MISSING
    global_clipnorm: float | None = MISSING
    use_ema: bool = MISSING
    ema_momentum: float = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        check_range("optimizer.learning_rate", self.learning_rate, 0, INFINITY, open_low=True, open_high=True)
        check_range("optimizer.weight_decay", self.weight_decay, 0, 1)
        check_range("optimizer.global_clipnorm", self.global_clipnorm, 0, INFINITY, open_low=True)
        for name in ("ema_momentum", "momentum", "rho", "beta_1", "beta_2"):
            check_range(f"optimizer.{name}", getattr(self, name, None), 0, 1, open_high=True)
        check_range("optimizer.epsilon", getattr(self, "epsilon", None), 0, 1, open_low=True)


@dataclass
class RMSprop(Optimizer):
    """Keras' RMSprop."""

    _target_: str = "keras.optimizers.RMSprop"
    rho: float = MISSING
    momentum: float = MISSING
    epsilon: float = MISSING


@dataclass
class SGD(Optimizer):
    """Keras' SGD."""

    _target_: str = "keras.optimizers.SGD"
    momentum: float = MISSING
    nesterov: bool = MISSING


@dataclass
class Adam(Optimizer):
    """Keras' Adam."""

    _target_: str = "keras.optimizers.Adam"
    beta_1: float = MISSING
    beta_2: float = MISSING
    epsilon: float = MISSING


@dataclass
class AdamW(Adam):
    """Keras' AdamW."""

    _target_: str = "keras.optimizers.AdamW"


@dataclass
class Nadam(Adam):
    """Keras' Nadam."""

    _target_: str = "keras.optimizers.Nadam"


@dataclass
class Muon(Optimizer):
    """Keras' Muon."""

    _target_: str = "sweeper_digits.training.optimizers.muon"
    momentum: float = MISSING


@dataclass
class Schedule:
    """How the learning rate changes over training; the peak is `optimizer.learning_rate`."""

    shape: str = MISSING
    warmup_epochs: float = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        check_range("schedule.warmup_epochs", self.warmup_epochs, 0, INFINITY, open_high=True)
        check_range("schedule.final_fraction", getattr(self, "final_fraction", None), 0, 1)


@dataclass
class Constant(Schedule):
    """No decay."""

    shape: Literal["constant"] = "constant"


@dataclass
class Cosine(Schedule):
    """Half a cosine."""

    shape: Literal["cosine"] = "cosine"
    final_fraction: float = MISSING


@dataclass
class Exponential(Schedule):
    """Exponential decay."""

    shape: Literal["exponential"] = "exponential"
    final_fraction: float = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        check_range("schedule.final_fraction", self.final_fraction, 0, 1, open_low=True)


@dataclass
class Augmentation:
    """Ranges of random changes; `augmentation.RandomWarp` describes each."""

    rotation_degrees: float = MISSING
    shear_degrees: float = MISSING
    zoom_fraction: float = MISSING
    shift_fraction: float = MISSING
    elastic_pixels: float = MISSING
    erase_fraction: float = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        check_range("augmentation.rotation_degrees", self.rotation_degrees, 0, 180)
        check_range("augmentation.shear_degrees", self.shear_degrees, 0, 60)
        check_range("augmentation.zoom_fraction", self.zoom_fraction, 0, 0.9)
        check_range("augmentation.shift_fraction", self.shift_fraction, 0, 1)
        check_range("augmentation.elastic_pixels", self.elastic_pixels, 0, 10)
        check_range("augmentation.erase_fraction", self.erase_fraction, 0, 0.5)


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


OPTIONS: dict[str, dict[str, type]] = {
    "data": {"mnist_5k": Mnist5k, "file": File, "kaggle": Kaggle, "idx": Idx, "keras": KerasData, "npz": Npz},
    "optimizer": {"rmsprop": RMSprop, "sgd": SGD, "adam": Adam, "adamw": AdamW, "nadam": Nadam, "muon": Muon},
    "schedule": {"constant": Constant, "cosine": Cosine, "exponential": Exponential},
    "split": {"holdout": Holdout, "kfold": KFold, "all": All},
}


def has_callable_of(saved: dict[str, Any], kind: type) -> bool:
    """Return whether a saved option names the callable of a kind of options, or both name none.

    Only the last part of the name counts: older versions had the callable in another module.
    """
    names = (str(target).rpartition(".")[2] for target in (saved.get("_target_"), getattr(kind, "_target_", None)))
    return len(set(names)) == 1


def with_defaults(group: str, saved: dict[str, Any]) -> dict[str, Any]:
    """Return the values of an option as they were saved, with the defaults of keys that the option did not have then.

    Args:
        group: A config group.
        saved: The option's keys and values, `_target_` with them.
    """
    for kind in OPTIONS.get(group, {}).values():
        if has_callable_of(saved, kind):
            defaults = {one.name: one.default for one in fields(kind) if one.default is not MISSING}
            return defaults | saved
    return saved


# What a config may name as a callable; everything else is refused by Hydra.
TARGETS = (
    "sweeper_digits.runs.claim.OwnFolder",
    *(option._target_ for group in OPTIONS.values() for option in group.values() if hasattr(option, "_target_")),
)
