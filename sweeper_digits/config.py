"""The whole config: the run-wide keys, the sweeper's keys, the splits, and what can be optimized.

The values are in conf/config.yaml and conf/hydra/sweeper/study.yaml, those of the options in the signatures of the
registered functions. Hydra composes plain values; `parse` judges them once, and nothing after it sees a DictConfig.
"""

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn

from annotated_types import Ge, Gt, Interval
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import MISSING, DictConfig, OmegaConf

from sweeper_digits import components
from sweeper_digits.components import keys_of, register
from sweeper_digits.errors import UserError, closest
from sweeper_digits.overrides import override_text

Seed = Annotated[int, Interval(ge=0, le=2**32 - 1)]


@dataclass
class Split:
    """The base of all splits: a test part that no training and no search sees, and a seed.

    The seed is apart from the run's, so that runs with different seeds are validated, and
    kept from testing, on the same images.

    Attributes:
        test_size: Share of the images that is locked away for testing.
        seed: The seed of the split alone: equal seeds give equal parts.
    """

    test_size: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    seed: Seed = 0


@register("split", name="holdout")
@dataclass
class Holdout(Split):
    """One stratified validation part.

    Attributes:
        validation_size: Share of the images that validates.
    """

    validation_size: Annotated[float, Interval(gt=0, lt=1)] = 0.15


@register("split", name="kfold")
@dataclass
class KFold(Split):
    """Stratified folds: one that `fold` names, or all of them, with mean and standard deviation.

    Attributes:
        folds: How many there are.
        fold: The one that validates, counted from 0; null: each in turn.
    """

    folds: Annotated[int, Interval(ge=2, le=100)] = 5
    fold: Annotated[int | None, Ge(0)] = None

    def __post_init__(self) -> None:
        if self.fold is not None and self.fold >= self.folds:
            raise UserError(f"split.fold={self.fold}: must be in [0, {self.folds - 1}]")


@register("split", name="all")
@dataclass
class All(Split):
    """All images train and none validates, for a final model."""


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
        prior: Share of the draws that lie near the best point so far.
    """

    points: Any
    # With defaults: a sweep that was begun earlier has a copy of conf/ without them.
    from_sweep: str | None = None
    prior: Annotated[float, Interval(ge=0, le=1)] = 0.0


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
                f"objective={override_text(name)}: no such objective{closest(str(name), known)}; choose from "
                f"{', '.join(known)}{components.unset_hint()}"
            )
    if not names or len(set(names)) < len(names):
        raise UserError(f"objective={override_text(names)}: name one objective, or a list of several, each once")
    return names


def check_study(name: str) -> str:
    """Return a study's name; raise a UserError unless it can be the name of a folder."""
    if not re.fullmatch(r"[\w.-]+", name) or not name.strip("."):
        raise UserError(f"study={name}: it names a folder; use letters, digits, '_', '-' and '.'")
    if (length := len(name.encode())) > LONGEST_STUDY:
        raise UserError(f"study={name[:20]}...: a name of {length} bytes; use {LONGEST_STUDY} at most")
    return name


def _checked_exports(names: list[str]) -> list[str]:
    for name in names:
        if name not in EXPORTS:
            raise UserError(f"export={name}: no such format{closest(name, EXPORTS)}; choose from {', '.join(EXPORTS)}")
    return names


@dataclass
class Config:
    """One run."""

    data: Any
    model: Any
    optimizer: Any
    schedule: Any
    augmentation: Any
    split: Any
    callbacks: dict[str, Any]
    search: Search
    seed: Seed
    epochs: Annotated[int, Interval(ge=1, le=MOST_EPOCHS)]
    clean_fraction: Annotated[float, Interval(ge=0, le=1)]
    batch_size: Annotated[int, Ge(1)]
    patience: Annotated[int | None, Ge(1)]
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    device: Literal["auto", "cpu", "gpu"]
    objective: Annotated[Any, checked_objectives]
    study: Annotated[str, check_study]
    resume: str | None
    from_run: str | None
    export: Annotated[list[str], _checked_exports]
    figures: bool

    def plain(self) -> dict[str, Any]:
        """Return the values, nested as in the composed config."""
        found = dict(vars(self))
        found |= {group: dict(vars(found[group])) for group in (*GROUPS, "search") if group != "callbacks"}
        return found | {"callbacks": {name: dict(vars(one)) for name, one in self.callbacks.items()}}


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


@dataclass
class StudySweeperConf:
    """The keys of hydra.sweeper; conf/hydra/sweeper/study.yaml says what each means."""

    sampler: Any
    pruner: Any
    study_name: str
    storage: str | None
    direction: Any
    n_trials: int | None
    timeout: float | None
    n_epochs: int | None
    n_jobs: Annotated[int, Ge(1)]
    workers_per_gpu: Annotated[int | None, Ge(1)]
    params: Any
    max_failures: Annotated[int, Ge(1)]
    max_retries: Annotated[int, Ge(0)]
    retry_failed: bool
    keep_models: Annotated[int, Ge(1)]
    heartbeat_seconds: Annotated[int, Ge(1)]
    trial_timeout: Annotated[float | None, Gt(0)] = None


LOCAL_LAUNCHER = "sweeper_digits.sweep.plugin.LocalLauncher"
ConfigStore.instance().store(group="hydra/launcher", name="local", node={"_target_": LOCAL_LAUNCHER})


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


# The keys of the config that are mappings with keys of their own.
NESTED = (*GROUPS, "search")


def judged(prefix: str, kind: type, values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return plain values as the types of the fields of a dataclass, without those that are mappings of their own.

    Args:
        prefix: What stands before a key on the command line, for example `search.`.
        kind: The dataclass.
        values: By key.

    Raises:
        UserError: A line for each key that is unknown, missing, of another type or out of its range.
    """
    from sweeper_digits import schema  # Pydantic: --help does without

    keys, model = _model_of(kind)
    return schema.judged(prefix, keys, model, values)


@functools.cache
def _model_of(kind: type) -> Any:
    from sweeper_digits import schema  # Pydantic: --help does without

    keys = keys_of(kind, NESTED)
    return keys, schema.model_of(kind.__name__, keys)


def typed(group: str, values: Any) -> Any:
    """Return an option of a config group, or the values of `search`, judged; of a split, the split.

    Args:
        group: A config group, or `search`.
        values: Its keys and plain values.

    Raises:
        UserError: No registered component, or a line for each key that is unknown, missing, of another type or out of
            its range.
    """
    if values == MISSING:
        raise UserError(f"{group}: a value is needed; add {group}=VALUE")
    if not isinstance(values, dict):
        raise UserError(f"{group}={override_text(values)}: an option is needed")
    if group == "search":
        return Search(**judged("search.", Search, values))
    component = components.find(group, values)
    option = component.judged(values)
    return component.build(option) if group == "split" else option


def parse(cfg: DictConfig) -> Config:
    """Judge a composed config, and return it with its values as their types.

    Raises:
        UserError: A line for each key that is unknown, missing, of another type or out of its range.
    """
    components.load()
    given: Any = OmegaConf.to_container(cfg, resolve=True)
    runwide = {key: one for key, one in given.items() if key not in NESTED}
    values: dict[str, Any] = {"callbacks": {}}
    lines: list[str] = []
    with _caught(lines):
        values |= judged("", Config, runwide)
    for group in NESTED:
        if group != "callbacks":
            with _caught(lines):
                values[group] = typed(group, given.get(group, MISSING))
    callbacks = given.get("callbacks") or {}
    for name, one in callbacks.items() if isinstance(callbacks, dict) else [("callbacks", callbacks)]:
        with _caught(lines):
            values["callbacks"][name] = typed("callbacks", one)
    if lines:
        raise UserError(*lines)
    return Config(**values)


@contextlib.contextmanager
def _caught(lines: list[str]) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        lines.extend(error.lines)
