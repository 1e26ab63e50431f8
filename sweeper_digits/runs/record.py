"""What past runs were: every run folder below a path as a `Record`, read and never changed."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import Run
from sweeper_digits.schema import INCIDENTAL, METRIC_OF, OBJECTIVES

# Keys in which repetitions of one configuration differ.
REPEATED = ("seed", "split.fold")
GROUPS = ("data", "model", "optimizer", "schedule", "augmentation", "split")
DEFAULT_OBJECTIVE = "val_loss"


@dataclass
class Record:
    """One run folder.

    Attributes:
        run: The folder.
        state: `finished`, `pruned`, `diverged`, `failed`, `unfinished`, `unreadable` or `foreign`.
        settings: The config, flat: `optimizer` is the option, `optimizer.learning_rate` its value.
        overrides: Names of the settings that the run's command gave.
        metrics: metrics.json, or empty.
        note: What is wrong with it, if something is.
    """

    run: Run
    state: str
    settings: dict[str, Any] = field(default_factory=dict)
    overrides: set[str] = field(default_factory=set)
    metrics: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def name(self) -> str:
        """Return the last two parts of the path: sweep and trial, or date and time."""
        return "/".join(self.run.folder.parts[-2:])

    @property
    def finished(self) -> bool:
        """Return whether it ended with a value."""
        return self.state == "finished"

    @property
    def objectives(self) -> list[str]:
        """Return the names of what it optimized."""
        given = self.metrics.get("objectives") or self.settings.get("objective") or DEFAULT_OBJECTIVE
        return [given] if isinstance(given, str) else list(given)

    def value(self, name: str) -> float | None:
        """Return a metric by the name that `objective=` has for it, or None."""
        found = self.metrics.get(METRIC_OF.get(name, name))
        return float(found) if isinstance(found, int | float) else None

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """Return the rows of all its epochs, fold after fold."""
        return [row for run in (self.run, *self.run.folds()) for row in run.read_history()]

    @cached_property
    def configuration(self) -> str:
        """Return a short hash that repetitions of this run share: same settings but for seed and fold."""
        same = {k: v for k, v in self.settings.items() if k not in REPEATED and k.split(".")[0] not in INCIDENTAL}
        return hashlib.sha256(json.dumps(same, sort_keys=True, default=str).encode()).hexdigest()[:10]

    def samples(self, name: str) -> dict[tuple[Any, Any], float]:
        """Return the metric of each repetition in this run, by seed and fold; one, or one per fold."""
        seed, split_seed = self.settings.get("seed"), self.settings.get("split.seed")
        if folds := self.metrics.get("folds"):
            stored = METRIC_OF.get(name, name)
            return {(seed, number): float(fold[stored]) for number, fold in enumerate(folds) if stored in fold}
        fold = self.settings.get("split.fold", split_seed)
        value = self.value(name)
        return {} if value is None else {(seed, fold): value}


def find(paths: Iterable[str | Path]) -> list[Record]:
    """Read every run at or below the paths, in the order of their names, numbers as numbers.

    Raises:
        UserError: A path that does not exist, or no run in any of them.
    """
    folders: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path}: no such folder")
        for hydra in sorted(path.rglob(".hydra"), key=lambda found: _natural(found.parent)):
            folders[hydra.parent] = None
    if not folders:
        raise UserError(f"{', '.join(map(str, paths))}: no run in it; a run's folder has a .hydra folder")
    return [read(folder) for folder in folders]


def read(folder: Path) -> Record:
    """Read one run folder; what is wrong with it becomes its state and note."""
    run = Run(folder)
    try:
        config = _load(folder / ".hydra" / "config.yaml")
        choices = _choices(folder / ".hydra" / "hydra.yaml")
        given = _load(folder / ".hydra" / "overrides.yaml") or []
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        return Record(run, "unreadable", note=f"{type(error).__name__}: {error}".splitlines()[0])
    if not (isinstance(config, dict) and {"model", "optimizer", "split"} <= set(config)):
        return Record(run, "foreign", note="a run of another program")
    settings = dict(flat(config)) | {group: choices[group] for group in GROUPS if group in choices}
    overrides = {text.lstrip("+~").split("=")[0] for text in map(str, given)}
    try:
        metrics = run.read_metrics()
    except UserError as error:
        return Record(run, "unreadable", settings, overrides, note=str(error))
    state = "unfinished" if metrics is None else str(metrics.get("state", "finished"))
    note = (metrics or {}).get("error", "")
    return Record(run, state, settings, overrides, metrics or {}, str(note))


def differing(records: list[Record]) -> list[str]:
    """Return the settings in which the records differ.

    Left out are those that only follow from a choice: model.filters where each option of `model`
    has one value and no command gave another.
    """
    values: dict[str, set[str]] = {}
    for record in records:
        for name, value in record.settings.items():
            values.setdefault(name, set()).add(str(value))
    overridden = set().union(*(record.overrides for record in records)) if records else set()
    names = []
    for name, found in values.items():
        if len(found) < 2 or name.split(".")[0] in INCIDENTAL or name.endswith("_target_"):
            continue
        if name in overridden or not _follows(records, name):
            names.append(name)
    return sorted(names, key=lambda name: (name.split(".")[0] not in GROUPS, name))


def objectives_of(records: list[Record]) -> list[str]:
    """Return what all the records optimized, or val_loss if they optimized different things."""
    found = {tuple(record.objectives) for record in records if record.finished}
    return list(found.pop()) if len(found) == 1 else [DEFAULT_OBJECTIVE]


def best_first(records: list[Record], name: str) -> list[Record]:
    """Return the finished records that have this metric, best first."""
    sign = -1 if OBJECTIVES.get(name) == "maximize" else 1
    with_value = [
        (value, record) for record in records if record.finished and (value := record.value(name)) is not None
    ]
    return [record for _, record in sorted(with_value, key=lambda pair: sign * pair[0])]


def _follows(records: list[Record], name: str) -> bool:
    group = name.partition(".")[0]
    if group == name or group not in GROUPS:
        return False
    by_option: dict[Any, set[str]] = {}
    for record in records:
        if name in record.settings:
            by_option.setdefault(record.settings.get(group), set()).add(str(record.settings[name]))
    return all(len(values) == 1 for values in by_option.values())


def flat(node: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the leaves of nested dictionaries, as `optimizer.learning_rate` and its value."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _natural(path: Path) -> list[tuple[bool, float, str]]:
    return [(not part.isdigit(), float(part) if part.isdigit() else 0.0, part) for part in path.parts]


def _load(path: Path) -> Any:
    return _parse(path.read_text(encoding="utf-8"))


def _choices(path: Path) -> dict[str, str]:
    """Return which option of each config group was chosen: `hydra.runtime.choices`.

    The block alone is parsed: it is a tenth of the file, and reading 500 runs is mostly the parsing of YAML.
    """
    found = re.search(r"^    choices:\n((?:      .*\n)+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise KeyError("hydra.runtime.choices")
    return dict(_parse(found[1]))


def _parse(text: str) -> Any:
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
