"""The records of a study and of its trials: every attribute in the database that this program reads or writes.

`StudyRecord` and `TrialRecord` read the attributes and write them. Attributes for people are user attributes, because
Optuna's dashboard shows all of these; all others are system attributes.

A database may be a stranger's, or another program may have written into it: each attribute says what it may hold, and
the storage (`reading.Reader`) gives out nothing that `check` and `check_trial` refuse.
"""

import math
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import json_to_distribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.text import printable

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
# No value of ours is a list in a list in a list so often; Python gives up at some hundreds.
DEEPEST = 20
# Whole numbers up to this one are floats without loss.
LARGEST = 2**53
# What Python, TensorFlow, JAX, torch, CUDA, Ray and SLURM say where memory runs out.
OUT_OF_MEMORY = re.compile(
    r"MemoryError|\bOOM\b|oom.kill|out.?of.?memory|memory runs out|(can.?t|cannot|unable to|failed to) allocate",
    re.IGNORECASE,
)
# Characters of an error that the study keeps, and that a screen shows; its log has all.
LONGEST_STORED, LONGEST_ERROR = 1000, 500


@dataclass(frozen=True)
class Kind:
    """The kind of an attribute: in words, and whether a value, as JSON gives it, is of the kind."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_whole(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def list_of(kind: Kind) -> Kind:
    """Return the kind of a list whose items are of a kind."""
    return Kind(f"a list, each item {kind.words}", lambda value: isinstance(value, list) and all(map(kind.fits, value)))


def mapping(**known: Kind) -> Kind:
    """Return the kind of a mapping whose values are of these kinds where it has them."""

    def fits(value: Any) -> bool:
        return isinstance(value, dict) and all(kind.fits(value[name]) for name, kind in known.items() if name in value)

    return Kind("a mapping" + "".join(f", {name} {kind.words}" for name, kind in known.items()), fits)


def exactly(**known: Kind) -> Kind:
    """Return the kind of a mapping that has these keys and no others."""
    inner = mapping(**known)
    return Kind(inner.words, lambda value: inner.fits(value) and value.keys() == known.keys())


ANY = Kind("anything", lambda value: True)
TEXT = Kind("text", lambda value: isinstance(value, str))
NUMBER = Kind("a number", _is_number)
COUNT = Kind("a whole number, 0 or more", lambda value: _is_whole(value) and value >= 0)
# Seconds since 1970: of a year in which Python can write a date.
TIME = Kind("a time", lambda value: _is_number(value) and 0 <= value < 1e11)
LIMIT = Kind("a number above 0, or null", lambda value: value is None or (_is_number(value) and 0 < value < math.inf))
SCALAR = Kind("a number, text or null", lambda value: isinstance(value, str | bool | None) or _is_number(value))
POINT = Kind("values by parameter", lambda value: isinstance(value, dict) and all(map(SCALAR.fits, value.values())))
MAYBE_COUNT = Kind("a whole number, or null", lambda value: value is None or COUNT.fits(value))
BUDGET = exactly(n_trials=LIMIT, timeout=LIMIT, n_epochs=LIMIT)
# The keys of a trial's progress beside the measurements of its last epoch.
PROGRESS_KEYS = ("worker", "trained", "taken_over", "epoch", "epochs")


def _is_progress(value: Any) -> bool:
    kinds = {name: COUNT for name in PROGRESS_KEYS} | {"worker": TEXT}
    return isinstance(value, dict) and all(kinds.get(name, NUMBER).fits(one) for name, one in value.items())


def _is_span(value: Any) -> bool:
    times, left = (value[:2], value[2:]) if isinstance(value, list) else ([], [])
    return len(times) == 2 and all(map(TIME.fits, times)) and left in ([], [True])


def _is_space(value: Any) -> bool:
    try:
        for text in value["distributions"].values():
            json_to_distribution(text)
    except Exception:  # JSON of another kind can raise anything
        return False
    return isinstance(value.get("is_enumerated"), bool)


def _makes_pruner(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("_target_"), str) and "${" not in str(value)


_kinds: dict[str, Kind] = {}


class Attribute:
    """An attribute in the database, as a property of a record: its value, or None where there is none.

    Args:
        name: In the database; one that ends in a blank begins the names of several.
        kind: What it holds; a study or a trial in which it holds anything else is not read.
        shown: Whether it is a user attribute, which Optuna's dashboard shows, and not a system attribute.
    """

    def __init__(self, name: str, kind: Kind, shown: bool = False) -> None:
        self.name, self.kind, self.shown = name, kind, shown
        _kinds[name] = kind

    def __get__(self, record: Any, owner: type) -> Any:
        return self if record is None else record.attributes(self.shown).get(self.name)


class StudyRecord:
    """The attributes of a study; read anew at each use.

    Attributes:
        settings: What makes its trials comparable; a study of another program has none.
        identity: What no other study has, not even one of the same name in a database that was made anew.
        pruner: What makes its pruner, without a reference that another machine would fill in.
        code: The hash of the user's code.
        space: The search space (`steering.Space`).
        command: The command that was given last: its `words` without the database, the `folder` its paths count from.
        steering: What ends the sweep, as a person may have changed it (`steering.Steering`). It is a user attribute
            because it is read often, and the dashboard keeps a note for each trial among the system attributes.
        metric_names: Optuna's own: the names of the objectives.
    """

    settings = Attribute("sweep", mapping(**{"fixed overrides": list_of(TEXT), "conf/": mapping()}))
    identity = Attribute("identity", TEXT)
    pruner = Attribute("pruner", Kind("a pruner's _target_ and values", _makes_pruner))
    code = Attribute("code", TEXT)
    space = Attribute("sweeper_digits:space", Kind("a search space", _is_space))
    command = Attribute("sweeper_digits:command", ANY)
    steering = Attribute(
        "steering",
        exactly(
            budget=BUDGET,
            command=BUDGET,
            n_jobs=MAYBE_COUNT,
            jobs_of_command=MAYBE_COUNT,
            changes=COUNT,
            stops=COUNT,
        ),
        shown=True,
    )
    metric_names = Attribute("study:metric_names", list_of(TEXT))
    # From when to when a supervisor was there, and True once it has left; the name ends in the supervisor's own.
    _watched = Attribute("watched ", Kind("two times, and true", _is_span), shown=True)
    # The content that an option of the data gives; the name ends in a hash of the option.
    _data = Attribute("data ", mapping(images=COUNT, fingerprint=TEXT))

    def __init__(self, study: optuna.Study) -> None:
        self.study = study

    def attributes(self, shown: bool) -> Mapping[str, Any]:
        """Return the user attributes or the system attributes, as the storage has them now."""
        if shown:
            return self.study.user_attrs
        return self.study._storage.get_study_system_attrs(self.study._study_id)

    def write(self, **values: Any) -> None:
        """Write attributes, by their names here; JSON must be able to hold the values."""
        for key, value in values.items():
            self._write(getattr(type(self), key), value)

    @property
    def spans(self) -> list[list[Any]]:
        """For each supervisor: when it came and was there last, in seconds since 1970, and True once it has left."""
        prefix = StudyRecord._watched.name
        return [value for name, value in self.attributes(shown=True).items() if name.startswith(prefix)]

    def write_span(self, supervisor: str, span: list[Any]) -> None:
        """Write down when a supervisor was there; see `spans`."""
        self._write(StudyRecord._watched, span, supervisor)

    def data(self, option: str) -> dict[str, Any] | None:
        """Return the number of `images` and the `fingerprint` that an option of the data gave; None: not known."""
        return self.attributes(shown=False).get(StudyRecord._data.name + option)

    def write_data(self, option: str, content: dict[str, Any]) -> None:
        """Write down what an option of the data gives; see `data`."""
        self._write(StudyRecord._data, content, option)

    def _write(self, attribute: Attribute, value: Any, end: str = "") -> None:
        if attribute.shown:
            self.study.set_user_attr(attribute.name + end, value)
        else:
            self.study._storage.set_study_system_attr(self.study._study_id, attribute.name + end, value)


class TrialRecord:
    """The attributes of a trial, beside those that Optuna itself has.

    Args:
        trial: The trial, as it was read; of one that runs in this process, only what is shown is known.

    Attributes:
        worker: The signature of the process that answers for it.
        error: What went wrong.
        cut_off: How a trial was cut off that did not end by itself: `STOPPED` with its sweep, or `DIED`.
        epochs: The epochs of a trial that has ended, with those that it took over from a trial that was cut off.
        standard_error: For a complete trial, the standard error of its objective over the validation images.
        scout: True: it stops when it is judged first, however good it is.
        point_from: Where its point comes from, if the sampler did not draw it.
        listed: In a study that lists its runs: the values of its run, by key.
        queued_with: Optuna's own: the parameters that it was queued with.
        history: The numbers of the trials that were cut off and that it continues, the latest last.
        failed_trial: Optuna's own: the first of `history`.
        earlier_deaths: How many workers of the trials that it continues died.
        progress: What it told of itself last: `PROGRESS_KEYS`, and what the last epoch measured.
        stop: True: a person has stopped it.
        curve: With several objectives: their values after each epoch, of its best weights so far.
        attached: True: the job that a launcher started for it has begun.
        foreign: True: another program ran it. It is not in the database; the storage says so.
    """

    STOPPED, DIED = "stopped", "died"

    worker = Attribute("worker", ANY, shown=True)
    error = Attribute("error", ANY, shown=True)
    cut_off = Attribute("cut_off", ANY, shown=True)
    epochs = Attribute("epochs", COUNT, shown=True)
    standard_error = Attribute("standard_error", NUMBER, shown=True)
    scout = Attribute("scout", ANY, shown=True)
    point_from = Attribute("point_from", ANY, shown=True)
    listed = Attribute("point", mapping(), shown=True)
    foreign = Attribute("foreign", ANY, shown=True)
    queued_with = Attribute("fixed_params", POINT)
    history = Attribute("retry_history", list_of(COUNT))
    failed_trial = Attribute("failed_trial", ANY)
    earlier_deaths = Attribute("deaths", COUNT)
    progress = Attribute("sweeper_digits:progress", Kind("epochs and numbers by name", _is_progress))
    stop = Attribute("sweeper_digits:stop", ANY)
    curve = Attribute("objectives_by_epoch", list_of(list_of(NUMBER)))
    attached = Attribute("attached", ANY)

    def __init__(self, trial: FrozenTrial | optuna.Trial) -> None:
        self.trial: Any = trial

    def attributes(self, shown: bool) -> Mapping[str, Any]:
        """Return the user attributes or the system attributes."""
        return self.trial.user_attrs if shown else self.trial.system_attrs

    @classmethod
    def write(cls, trial: optuna.Trial, **values: Any) -> None:
        """Write attributes of a trial that runs in this process, by their names here."""
        for key, value in values.items():
            if getattr(cls, key).shown:
                trial.set_user_attr(getattr(cls, key).name, value)
            else:
                cls.write_to(trial.storage, trial._trial_id, **{key: value})

    @classmethod
    def write_to(cls, storage: BaseStorage, trial_id: int, **values: Any) -> None:
        """Write attributes of a trial by way of its storage, by their names here."""
        for key, value in values.items():
            attribute: Attribute = getattr(cls, key)
            write = storage.set_trial_user_attr if attribute.shown else storage.set_trial_system_attr
            write(trial_id, attribute.name, value)

    @classmethod
    def of_new(cls, **values: Any) -> Any:
        """Return `user_attrs` and `system_attrs`, as `optuna.create_trial` takes them, of attributes by names here."""
        found: dict[str, dict[str, Any]] = {"user_attrs": {}, "system_attrs": {}}
        for key, value in values.items():
            attribute: Attribute = getattr(cls, key)
            found["user_attrs" if attribute.shown else "system_attrs"][attribute.name] = value
        return found

    @property
    def has_point(self) -> bool:
        """Whether it was queued with a point, or has drawn a parameter that may have several values."""
        return self.queued_with is not None or not all(one.single() for one in self.trial.distributions.values())

    @property
    def point(self) -> dict[str, Any]:
        """The parameters that it has drawn, or else was queued with."""
        return self.trial.params or self.queued_with or {}

    @property
    def continues(self) -> list[int]:
        """The numbers of the trials that it continues, the latest first."""
        return [int(number) for number in reversed(self.history or [])]

    @property
    def is_cut_off(self) -> bool:
        """Whether a trial that failed was cut off. Where heartbeats stopped, Optuna writes no cause."""
        return self.cut_off is not None or self.error is None

    @property
    def deaths(self) -> int:
        """How many workers of its point have died, its own among them."""
        died = self.trial.state == TrialState.FAIL and self.is_cut_off and self.cut_off != self.STOPPED
        return int(self.earlier_deaths or 0) + died

    @property
    def error_line(self) -> str:
        """The error, in a line that a screen can show."""
        return printable(" ".join(str(self.error or "").split()))[:LONGEST_ERROR]

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether it failed because memory ran out: another point may need less."""
        return bool(OUT_OF_MEMORY.search(self.error_line))

    def is_tried_again(self, max_retries: int | None) -> bool:
        """Return whether the point of a trial that failed is tried again.

        Args:
            max_retries: How often the workers of one point may die; None: only a trial that was stopped is continued.
        """
        if not self.is_cut_off:
            return False
        return self.cut_off == self.STOPPED or (max_retries is not None and self.deaths <= max_retries)

    def is_own_failure(self, max_retries: int) -> bool:
        """Return whether it failed by itself, or was cut off so often that it is not tried again."""
        return self.trial.state == TrialState.FAIL and not self.foreign and not self.is_tried_again(max_retries)


def stored_error(text: str) -> str:
    """Return an error as the study keeps it: one line, printable in any encoding, and short."""
    return printable(" ".join(text.split()))[:LONGEST_STORED]


def check(attributes: Mapping[str, Any]) -> None:
    """Raise a ValueError unless attributes are nested as ours are, and those that we know hold what is ours.

    Args:
        attributes: The attributes of a study or a trial, as JSON gives them.
    """
    for name, value in attributes.items():
        kind = _kinds.get(name) or _kinds.get(name[: name.find(" ") + 1])
        if (isinstance(value, list | dict) and _is_deep(value)) or (kind and not kind.fits(value)):
            expected = kind.words if kind else "less nesting"
            raise ValueError(f"{name}={reprlib.repr(value)} in the database; expected {expected}")


def check_trial(trial: FrozenTrial, objectives: int) -> None:
    """Raise a ValueError unless a trial is as a trial of ours can be.

    Args:
        trial: The trial.
        objectives: How many there are.
    """
    check(trial.user_attrs)
    check(trial.system_attrs)
    if not POINT.fits(trial.params):
        raise ValueError(f"its parameters are {reprlib.repr(trial.params)}; expected {POINT.words}")
    if trial.state.is_finished() and trial.datetime_complete is None:
        raise ValueError("it has ended, and the database does not say when")
    if trial.state.name == "COMPLETE" and len(trial.values or ()) != objectives:
        raise ValueError(f"it is complete, and the database has not {objectives} values of it")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def trials_of(study: optuna.Study) -> list[FrozenTrial]:
    """Return all trials, not to be changed (copying them all takes longer than reading them)."""
    return study.get_trials(deepcopy=False)


def counts(study: optuna.Study) -> Counter[TrialState]:
    """Return how many trials are in each state."""
    return Counter(trial.state for trial in trials_of(study))


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete trials, best first; with several objectives the Pareto front before the rest."""
    complete = [trial for trial in trials_of(study) if trial.state == TrialState.COMPLETE]
    front = {trial.number for trial in study.best_trials} if len(study.directions) > 1 else set()
    signs = [1 if direction == optuna.study.StudyDirection.MINIMIZE else -1 for direction in study.directions]

    def key(trial: FrozenTrial) -> tuple[Any, ...]:
        values = [sign * value for sign, value in zip(signs, trial.values, strict=True)]
        return trial.number not in front, values, trial.number

    return sorted(complete, key=key)


def with_point(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return the waiting trials that have a point; one that was given back has none."""
    return [trial for trial in trials if trial.state == TrialState.WAITING and TrialRecord(trial).has_point]


def tried_points(trials: Iterable[FrozenTrial]) -> int:
    """Return how many points the trials are of: a trial that was cut off and the one that continues it are one."""
    ours = [record for record in map(TrialRecord, trials) if not record.foreign]
    return len({one.trial.number for one in ours} - {number for one in ours for number in one.continues})


def owed(trials: Iterable[FrozenTrial], max_retries: int | None) -> list[FrozenTrial]:
    """Return the trials that were cut off, are to be tried again, and that none continues yet.

    Args:
        trials: All trials of a study.
        max_retries: As for `TrialRecord.is_tried_again`.
    """
    records = [TrialRecord(trial) for trial in trials]
    continued = {number for record in records for number in record.continues}
    failed = [one for one in records if one.trial.state == TrialState.FAIL and one.trial.number not in continued]
    return [record.trial for record in failed if record.is_tried_again(max_retries)]


def failures(trials: Iterable[FrozenTrial], max_retries: int) -> list[FrozenTrial]:
    """Return the trials that failed by themselves, or were cut off so often that they are not tried again."""
    return [trial for trial in trials if TrialRecord(trial).is_own_failure(max_retries)]
