"""The whole config: the run-wide keys, the sweeper's keys, and what can be optimized.

The values are in conf/, the options of the groups in `options`. `parse` turns a composed config
into dataclasses; nothing after it sees a DictConfig.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import MISSING, DictConfig, OmegaConf

from sweeper_digits import components
from sweeper_digits.errors import INFINITY, Range, UserError, check_range, check_ranges, closest, ranged
from sweeper_digits.overrides import escaped


@dataclass
class Split:
    """The base of all splits: a test part that no training and no search sees, and a seed.

    The seed is apart from the run's, so that runs with different seeds are validated, and
    kept from testing, on the same images.

    Attributes:
        test_size: Share of the images that is locked away for testing.
        seed: The seed of the split alone: equal seeds give equal parts.
    """

    test_size: float = ranged(0, 1, open_high=True)
    seed: int = ranged(0, 2**32 - 1)

    def __post_init__(self) -> None:
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
        super().__post_init__()
        check_range("split.fold", self.fold, 0, self.folds - 1)


@dataclass
class All(Split):
    """No validation part."""


SPLITS: dict[str, type] = {"holdout": Holdout, "kfold": KFold, "all": All}


# The config groups that make a run.
GROUPS = ("data", "model", "optimizer", "schedule", "augmentation", "split", "callbacks")

# The metrics of every training that `objective` can name, with their directions; registered objectives are added.
MEASURED = {
    "val_loss": "minimize",
    "val_accuracy": "maximize",
    "params": "minimize",
    "seconds": "minimize",
    "milliseconds_per_image": "minimize",
}

# Objectives that metrics.json stores under another name.
METRIC_OF = {"params": "parameters"}

# Objectives whose value of an epoch does not tell how good the epoch is: alone, none of them prunes.
KNOWN_AT_THE_END = ("params", "seconds", "milliseconds_per_image")

# Top-level keys that do not change what is trained. Runs and trials that differ in these alone are comparable. The
# objective is one of them, but `epoch_metric` of it chooses the best epoch, so a run that goes on keeps it.
INCIDENTAL = {"study", "search", "objective", "figures", "device", "resume", "from_run", "export"}

# The steps of so many epochs can still be counted in 64 bits.
MOST_EPOCHS = 10**9

# The key of the database, in which studies are kept.
STORAGE_KEY = "hydra.sweeper.storage"
# The database of a study, in its folder, unless OPTUNA_STORAGE names another.
STUDY_FILE = "study.db"
# A database for several studies, as an example.
SHARED_STORAGE = "sqlite:///multirun/all.db"

# Bytes of a study's name: file systems allow 255 for a folder, and files beside it have longer names.
LONGEST_STUDY = 100

# Formats that a trained model can be written in, and the packages that writing and checking needs.
EXPORTS = {
    "saved_model": ("tensorflow",),
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
    "tflite": ("tensorflow",),
}


@dataclass
class Search:
    """The keys of a sweep beside its search space, which is hydra.sweeper.params.

    Args:
        points: Points that are tried first: a list of mappings, or the path of a YAML file with one.
        from_sweep: Folder of an earlier sweep, whose best points are tried first.
        prior: Share of the draws that lie near the best point so far, which is the recipe at first.
    """

    points: Any = MISSING
    # With defaults: a sweep that was begun earlier has a copy of conf/ without them.
    from_sweep: str | None = None
    prior: float = field(default=0.0, metadata={"range": Range(0, 1)})

    def __post_init__(self) -> None:
        check_ranges("search.", self)


@dataclass
class Config:
    """One run."""

    data: Any = MISSING
    model: Any = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    augmentation: Any = MISSING
    split: Any = MISSING
    callbacks: dict[str, Any] = field(default_factory=dict)
    seed: int = ranged(0, 2**32 - 1)
    epochs: int = ranged(1, MOST_EPOCHS)
    clean_fraction: float = ranged(0, 1)
    batch_size: int = ranged(1, INFINITY, open_high=True)
    patience: int | None = ranged(1, INFINITY)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = MISSING
    device: Literal["auto", "cpu", "gpu"] = MISSING
    objective: Any = MISSING
    study: str = MISSING
    search: Search = MISSING
    resume: str | None = MISSING
    from_run: str | None = MISSING
    export: list[str] = MISSING
    figures: bool = MISSING

    def __post_init__(self) -> None:
        check_ranges("", self)
        self.objective = checked_objectives(self.objective)
        check_study(self.study)
        for name in self.export:
            if name not in EXPORTS:
                raise UserError(
                    f"export={name}: no such format{closest(name, EXPORTS)}; choose from {', '.join(EXPORTS)}"
                )


def refuse_resume(folder: str) -> NoReturn:
    """Raise a UserError that says that a sweep does not take `resume=FOLDER`."""
    raise UserError(
        f"resume={folder}: it continues one run, and a sweep goes on by the same command as before; leave -m out, or "
        f"begin a sweep at the settings of this run with from_run={folder}"
    )


def is_study_sweeper(sweeper: Any) -> bool:
    """Return whether hydra.sweeper is this program's."""
    return str(sweeper.get("_target_")).endswith("StudySweeper")


def check_plugins(hydra: DictConfig) -> None:
    """Raise a UserError unless hydra.sweeper and hydra.launcher name plugins that are installed."""
    for name, kind in {"sweeper": Sweeper, "launcher": Launcher}.items():
        target = OmegaConf.select(hydra, f"{name}._target_")
        if hydra[name] is None:
            raise UserError(f"hydra.{name}=null: a sweep needs a {name}; choose one with hydra/{name}=...")
        plugin = Plugins.instance().class_name_to_class.get(str(target))
        if plugin is None or not issubclass(plugin, kind):
            raise UserError(
                f"hydra.{name}._target_={target}: no {name} that is installed; choose one with hydra/{name}=..."
            )


def checked_objectives(given: Any) -> list[str]:
    """Return the names that `objective` gives, one or a list.

    Raises:
        UserError: They cannot be optimized together.
    """
    names = list(given) if OmegaConf.is_list(given) or isinstance(given, list | tuple) else [given]
    known = objectives()
    for name in names:
        if name not in known:
            raise UserError(
                f"objective={name}: no such objective{closest(str(name), known)}; choose from {', '.join(known)}"
                + components.unset_hint()
            )
    if not names or len(set(names)) < len(names):
        raise UserError(f"objective={names}: name one objective, or a list of several, each once")
    return names


def check_study(name: str) -> None:
    """Raise a UserError unless the name can be the name of a folder."""
    if not re.fullmatch(r"[\w.-]+", name) or not name.strip("."):
        raise UserError(f"study={name}: it names a folder; use letters, digits, '_', '-' and '.'")
    if (length := len(name.encode())) > LONGEST_STUDY:
        raise UserError(f"study={name[:20]}...: a name of {length} bytes; use {LONGEST_STUDY} at most")


@dataclass
class StudySweeperConf:
    """The keys of hydra.sweeper; conf/hydra/sweeper/study.yaml says what each means."""

    _target_: str = "sweeper_digits.sweep.plugin.StudySweeper"
    sampler: Any = MISSING
    pruner: Any = MISSING
    study_name: str = MISSING
    storage: str | None = MISSING
    direction: Any = MISSING
    n_trials: int | None = MISSING
    timeout: float | None = MISSING
    n_epochs: int | None = MISSING
    trial_timeout: float | None = None
    n_jobs: int = MISSING
    workers_per_gpu: int | None = MISSING
    params: dict[str, Any] | None = MISSING
    max_failures: int = MISSING
    max_retries: int = MISSING
    retry_failed: bool = MISSING
    keep_models: int = MISSING
    heartbeat_seconds: int = MISSING


_store = ConfigStore.instance()
_store.store(group="schema", name="config", node=Config)
_store.store(group="schema/sweeper", name="study", node=StudySweeperConf)
_store.store(group="hydra/launcher", name="local", node={"_target_": "sweeper_digits.sweep.plugin.LocalLauncher"})
for _name, _class in SPLITS.items():
    _store.store(group="schema/split", name=_name, node=_class)


def objectives() -> dict[str, str]:
    """Return what `objective` can name, and the direction of each."""
    return MEASURED | {component.name: str(component.direction) for component in components.registered("objective")}


def distinct(names: Iterable[str], taken: Iterable[str], prefix: str) -> dict[str, str]:
    """Return a title for each of some columns of a table: its name, behind the prefix where another column has it."""
    used, titles = set(taken), {}
    for name in names:
        title = name
        while title in used:
            title = prefix + title
        used.add(title)
        titles[name] = title
    return titles


def epoch_metric(names: Sequence[str]) -> str:
    """Return what chooses the best epoch of a run: its first objective that every epoch measures, or val_loss."""
    return next((name for name in names if name not in KNOWN_AT_THE_END), "val_loss")


def typed(group: str, values: Any) -> Any:
    """Return an option of a config group as the dataclass of its component, checked.

    Args:
        group: A config group.
        values: Its keys and plain values; already the dataclass where the YAML file named its schema.

    Raises:
        UserError: No registered component, a key that it has not, or a value of another type or out of its range.
    """
    if dataclasses.is_dataclass(values):
        if group != "split":
            components.find(group, vars(values))  # raises
        return values
    if not isinstance(values, dict):
        raise UserError(f"{group}={values}: an option is needed")
    if group == "split":
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(_split_of(values)), escaped(values)))
    component = components.find(group, values)
    if unknown := sorted(set(values) - {*component.keys, "_target_"}):
        raise UserError(f"{group}.{unknown[0]}: no such key{closest(unknown[0], component.keys)}")
    typed_values = OmegaConf.merge(
        OmegaConf.structured(component.option), escaped(values) | {"_target_": component.target}
    )
    if missing := sorted(OmegaConf.missing_keys(typed_values)):
        raise UserError(f"{group}.{missing[0]}: a value is needed; add {group}.{missing[0]}=VALUE")
    return OmegaConf.to_object(typed_values)


def _split_of(values: dict[str, Any]) -> type:
    """Return the kind of split that has these keys, and no others."""
    for kind in SPLITS.values():
        if {one.name for one in dataclasses.fields(kind)} == set(values):
            return kind
    raise UserError(f"split: no kind of split has the keys {', '.join(map(str, values))}")


def parse(cfg: DictConfig) -> Config:
    """Check a composed config and turn it into dataclasses.

    Raises:
        UserError: A value out of its range, a missing value, or a key that nothing reads.
    """
    deleted = {field.name for field in dataclasses.fields(Config)}.difference(map(str, cfg.keys()))
    missing = sorted({*OmegaConf.missing_keys(cfg), *deleted})
    if missing:
        raise UserError(f"{missing[0]}: a value is needed; add {missing[0]}=VALUE")
    components.load()
    config = OmegaConf.to_object(cfg)
    if not isinstance(config, Config):
        raise UserError("the config does not start from schema/config; see conf/config.yaml")
    for group in ("data", "model", "optimizer", "schedule", "augmentation", "split"):
        setattr(config, group, typed(group, getattr(config, group)))
    config.callbacks = {name: typed("callbacks", value) for name, value in config.callbacks.items()}
    options = [(f"{f.name}.", getattr(config, f.name)) for f in dataclasses.fields(config)]
    callbacks = [(f"callbacks.{name}.", value) for name, value in config.callbacks.items()]
    for prefix, part in [("", config), *options, *callbacks]:
        if dataclasses.is_dataclass(part):
            known = {f.name for f in dataclasses.fields(part)}
            for key in vars(part):
                if key not in known:  # `+key=value` gets past Hydra's own check
                    raise UserError(f"{prefix}{key}: no such key{closest(key, known)}")
    return config
