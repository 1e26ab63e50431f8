"""Past runs: every run folder below a path as a `Record`, read whole or marked, never changed."""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from sweeper_digits import components
from sweeper_digits.config import GROUPS, INCIDENTAL, METRIC_OF, epoch_metric, objectives, typed
from sweeper_digits.data.dataset import DIGITS, IMAGE_SHAPE
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_keys, plain
from sweeper_digits.runs.folder import RunFolder, check_file, check_files, load_yaml
from sweeper_digits.text import printable

# Keys in which repetitions of one configuration differ.
REPEATED = ("seed", "split.fold")
DEFAULT_OBJECTIVE = "val_loss"
BACKENDS = ("tensorflow", "jax", "torch")  # of Keras; metrics.json has the version of the one that trained


@dataclass
class Record:
    """One run folder.

    Attributes:
        run: The folder.
        state: `finished`, `pruned`, `diverged`, `failed`, `unfinished`, `unreadable` or `foreign`.
        settings: The config, flat: `optimizer` is the option, `optimizer.learning_rate` its value.
        unknown: Names of the settings that stand for something outside of the folder, `${oc.env:HOME}`: their text.
        overrides: Names of the settings that the run's command gave.
        metrics: metrics.json, or empty.
        history: The rows of all its epochs, fold after fold.
        looks: When its locked test part was scored.
        note: What is wrong with it, if something is.
    """

    run: RunFolder
    state: str
    settings: dict[str, Any] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    overrides: set[str] = field(default_factory=set)
    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    looks: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def name(self) -> str:
        """Return the last two names of the path: sweep and trial, or date and time."""
        return printable("/".join(self.run.folder.parts[-2:]))

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    @property
    def objectives(self) -> list[str]:
        given = self.metrics.get("objectives") or self.settings.get("objective") or DEFAULT_OBJECTIVE
        return [given] if isinstance(given, str) else list(given)

    @property
    def directions(self) -> dict[str, str]:
        """Return the direction of each objective that was registered: its module need not be at hand."""
        return self.metrics.get("directions") or {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes that its model knows, in order; older versions knew digits only."""
        return tuple(map(printable, self.metrics.get("classes") or DIGITS))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return height, width and channels of the images that its model takes; older versions took MNIST's only."""
        height, width, channels = self.metrics.get("image_shape") or IMAGE_SHAPE
        return height, width, channels

    def value(self, name: str) -> float | None:
        """Return a metric by the name that `objective=` has for it; None if it is missing or not finite."""
        return _number(self.metrics, name)

    @property
    def fingerprint(self) -> str | None:
        """Return the fingerprint of the images and labels that it read; None if it did not keep it."""
        return self.metrics.get("fingerprint")

    @cached_property
    def data(self) -> dict[str, Any]:
        """Return what decides which images train and validate, apart from the fold.

        It is the content of the data, wherever that was read. A run that did not keep it is known by its settings,
        which do not tell whether a file has changed.
        """
        content = {"content": self.fingerprint} if self.fingerprint else self._settings_of("data")
        return content | {name: value for name, value in self._settings_of("split").items() if name not in REPEATED}

    @cached_property
    def used(self) -> dict[str, Any]:
        """Return the settings as they were used: with the precision that `auto` came to, Keras' backend, and your code.

        All change the numbers. A device does not: `auto` takes a GPU where there is one, as another processor.
        Where it is not known what `auto` came to, as of an unfinished run, it is left out.
        """
        known = {name: value for name, value in self.settings.items() if (name, value) != ("precision", "auto")}
        versions = self.metrics.get("versions")
        versions = versions if isinstance(versions, dict) else {}
        found = {"precision": self.metrics.get("precision"), "code": self.metrics.get("code")}
        found["backend"] = next((name for name in BACKENDS if name in versions), None)
        return known | {name: value for name, value in found.items() if value is not None}

    @cached_property
    def configuration(self) -> str:
        """Return a short hash that repetitions of this run share: same data and settings but for seed and fold.

        An objective counts only as far as it chooses the best epoch.
        """
        apart = {"data", "split", *INCIDENTAL}
        same = {k: v for k, v in self.used.items() if k not in REPEATED and k.split(".")[0] not in apart}
        same |= {"objective": metric} if (metric := epoch_metric(self.objectives)) != DEFAULT_OBJECTIVE else {}
        same = {k: float(v) if type(v) is int else v for k, v in (same | self.data).items()}  # 0 is typed for 0.0
        return hashlib.sha256(json.dumps(same, sort_keys=True, default=str).encode()).hexdigest()[:10]

    def validated(self) -> dict[Any, str | None]:
        """Return the fingerprint of the validation images, and of their labels, of each fold that `samples` has."""
        if folds := self.metrics.get("folds"):
            return {number: fold.get("validation_fingerprint") for number, fold in enumerate(folds)}
        return {self._fold: self.metrics.get("validation_fingerprint")}

    def samples(self, name: str) -> dict[tuple[Any, Any], float]:
        """Return the metric of each repetition in this run, by seed and fold; one, or one per fold."""
        values: dict[tuple[Any, Any], float | None]
        seed = self.settings.get("seed")
        if folds := self.metrics.get("folds"):
            values = {(seed, number): _number(fold, name) for number, fold in enumerate(folds)}
        else:
            values = {(seed, self._fold): self.value(name)}
        return {key: value for key, value in values.items() if value is not None}

    @property
    def _fold(self) -> Any:
        return self.settings.get("split.fold", self.settings.get("split.seed"))

    def _settings_of(self, group: str) -> dict[str, Any]:
        return {name: value for name, value in self.settings.items() if name.split(".")[0] == group}


def find_runs(paths: Iterable[str | Path]) -> list[Record]:
    """Read every run at or below the paths, in the order of their names, numbers as numbers.

    Raises:
        UserError: A path that does not exist, or no run in any of them.
    """
    folders: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path}: no such folder")
        for hydra in sorted(path.rglob(".hydra"), key=lambda found: _in_numeric_order(found.parent)):
            folders[hydra.parent] = None
    if not folders:
        raise UserError(f"{', '.join(map(str, paths))}: no run in it; a run's folder has a .hydra folder")
    return [read_run(folder) for folder in folders]


def read_run(folder: Path) -> Record:
    """Read one run folder.

    Saved validation predictions are large: only their labels are read. A folder of another program gets
    the state `foreign`. A folder with a damaged file gets the state `unreadable` and a note of the damage.
    """
    run = RunFolder(folder)
    try:
        check_files(run)
        config, unknown = saved_config(folder)
        if not ({"model", "optimizer", "split"} <= set(config)):
            return Record(run, "foreign", note="a run of another program")
        record = _read_whole(run, config)
        record.unknown = unknown
        return record
    except Exception as error:  # a damaged file can raise anything: RecursionError, OverflowError, zlib's and YAML's
        return Record(run, "unreadable", note=_one_line(error))


def saved_config(folder: Path) -> tuple[dict[str, Any], set[str]]:
    """Return the config that Hydra saved in a run folder as plain values, and the keys of those that are none.

    See `overrides.plain`.

    Raises:
        UserError: The file is damaged.
    """
    file = folder / ".hydra" / "config.yaml"
    try:
        check_file(file)
        config, unknown = plain(load_yaml(file))
    except RecursionError as error:
        raise UserError(f"{file}: not readable ({error})") from error
    return (config if isinstance(config, dict) else {}), unknown


def read_metrics_alone(folder: Path) -> Record:
    """Return a record with nothing but the metrics: much faster, for the many runs of a sweep that has ended."""
    run = RunFolder(folder)
    try:
        check_file(run.metrics)
        metrics = run.read_metrics()
        if metrics is None:
            return Record(run, "unfinished")
        return Record(run, metrics["state"], metrics=metrics)
    except Exception as error:  # as above
        return Record(run, "unreadable", note=_one_line(error))


def _read_whole(run: RunFolder, config: dict[str, Any]) -> Record:
    choices = plain(load_yaml(run.folder / ".hydra" / "hydra.yaml")["hydra"]["runtime"]["choices"])[0]
    given = load_yaml(run.folder / ".hydra" / "overrides.yaml") or []
    metrics = run.read_metrics()
    callbacks = {name: value for name, value in config.get("callbacks", {}).items() if not _only_watches(name)}
    record = Record(
        run,
        "unfinished" if metrics is None else metrics["state"],
        settings=dict(flatten(config | {"callbacks": callbacks}))
        | {group: choices[group] for group in GROUPS if group in choices}
        | ({"callbacks": list(callbacks)} if callbacks else {}),
        overrides={key for override in given for key in override_keys(str(override))},
        metrics=metrics or {},
        history=[row for one in (run, *run.folds()) for row in one.read_history()],
        looks=[row["when"] for row in run.read_tests()],
        note=str((metrics or {}).get("error", "")),
    )
    if not isinstance(choices, dict):
        raise UserError(f"{run.folder / '.hydra' / 'hydra.yaml'}: not readable (its choices are no mapping)")
    if record.finished and run.history.exists() and not record.history:
        raise UserError(f"{run.history}: not readable (no epoch in it)")
    record.samples(DEFAULT_OBJECTIVE)  # raises where the seed or the fold is a list
    if unknown := [name for name in record.objectives if name not in objectives() | record.directions]:
        raise UserError(f"no registered objective: {unknown[0]}")
    return record


def _only_watches(callback: str) -> bool:
    known = components.options_of("callbacks")
    return callback in known and known[callback].watches


def saved_option(record: Record, group: str) -> Any:
    """Return a run's option of a config group as it was saved, whatever conf/ says today.

    Raises:
        UserError: Values that no option of this program takes.
    """
    saved = {name.partition(".")[2]: value for name, value in record.settings.items() if name.startswith(f"{group}.")}
    try:
        return typed(group, saved)
    except (OmegaConfBaseException, UserError, ValueError) as error:
        given = " ".join(f"{group}.{name}={value}" for name, value in saved.items())
        cause = f": {error}" if isinstance(error, UserError) else ""
        raise UserError(
            f"{record.run.folder}: no option of {group} takes what the run saved: {given or 'nothing'}{cause}"
        ) from error


def objectives_of(records: list[Record]) -> list[str]:
    """Return what all the records optimized, or val_loss if they optimized different things."""
    found = {tuple(record.objectives) for record in records if record.finished}
    return list(found.pop()) if len(found) == 1 else [DEFAULT_OBJECTIVE]


def direction_of(records: Iterable[Record], name: str) -> str:
    """Return `minimize` or `maximize`: the direction of an objective of these records."""
    for known in (objectives(), *(record.directions for record in records)):
        if name in known:
            return known[name]
    return "minimize"


def best_first(records: list[Record], name: str) -> list[Record]:
    """Return the finished records that have this metric, best first."""
    sign = -1 if direction_of(records, name) == "maximize" else 1
    with_value = [
        (value, record) for record in records if record.finished and (value := record.value(name)) is not None
    ]
    return [record for _, record in sorted(with_value, key=lambda pair: sign * pair[0])]


def flatten(node: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the leaves of nested dictionaries, as `optimizer.learning_rate` and its value."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _in_numeric_order(path: Path) -> list[tuple[bool, float, str]]:
    # A superscript is a digit too, for isdigit(), but no number.
    return [(not name.isdecimal(), float(name) if name.isdecimal() else 0.0, name) for name in path.parts]


def _number(metrics: dict[str, Any], name: str) -> float | None:
    found = metrics.get(METRIC_OF.get(name, name))
    return float(found) if found is not None and math.isfinite(found) else None


def _one_line(error: Exception) -> str:
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]
