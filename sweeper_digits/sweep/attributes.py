"""What the program keeps with a study and its trials, and what of it is believed when it is read.

What no person reads is kept in Optuna's system attributes, because Optuna's dashboard shows all user attributes.
Earlier versions kept it in user attributes; both are read, so that their studies go on.

A database may be a stranger's, or another program may have written into it. Its storage gives out nothing but what
`check` and `check_trial` have passed.
"""

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `compare` reads owners without Optuna
    import optuna

# No value of ours is a list in a list in a list so often; Python gives up at some hundreds.
DEEPEST = 20
# Numbers without loss in a float.
LARGEST = 2**53


@dataclass(frozen=True)
class Kind:
    """What an attribute holds: in words, and whether a value, as JSON gives it, is of the kind."""

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


TEXT = Kind("text", lambda value: isinstance(value, str))
NUMBER = Kind("a number", _is_number)
COUNT = Kind("a whole number, 0 or more", lambda value: _is_whole(value) and value >= 0)
# Seconds since 1970: of a year in which Python can write a date.
TIME = Kind("a time", lambda value: _is_number(value) and 0 <= value < 1e11)
LIMIT = Kind("a number above 0, or null", lambda value: value is None or (_is_number(value) and 0 < value < math.inf))
SCALAR = Kind("a number, text or null", lambda value: isinstance(value, str | bool | None) or _is_number(value))
POINT = Kind("values by parameter", lambda value: isinstance(value, dict) and all(map(SCALAR.fits, value.values())))
# By name, or by a name's beginning up to its first blank.
_kinds: dict[str, Kind] = {}


def kept(name: str, kind: Kind) -> str:
    """Say what an attribute of a study or a trial holds; return its name.

    Args:
        name: Of the attribute; one that ends in a blank is what several begin with.
        kind: What it holds; a study or a trial in which it holds anything else is not read.
    """
    _kinds[name] = kind
    return name


# Attribute of a study: its settings, which a study of another program has not.
SETTINGS = kept("sweep", mapping(**{"fixed overrides": list_of(TEXT), "conf/": mapping()}))
# Optuna's own: the names of the objectives.
METRIC_NAMES = kept("study:metric_names", list_of(TEXT))


def check(attributes: Mapping[str, Any]) -> None:
    """Raise a ValueError unless attributes are nested as ours are, and those that we know hold what is ours.

    Args:
        attributes: Of a study or a trial, as JSON gives them.
    """
    for name, value in attributes.items():
        kind = _kinds.get(name) or _kinds.get(name[: name.find(" ") + 1])
        if (isinstance(value, list | dict) and _is_deep(value)) or (kind and not kind.fits(value)):
            expected = kind.words if kind else "less nesting"
            raise ValueError(f"{name}={reprlib.repr(value)} in the database; expected {expected}")


def check_trial(trial: "optuna.trial.FrozenTrial", objectives: int) -> None:
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


def of_study(study: "optuna.Study") -> dict[str, Any]:
    """Return all attributes of a study, as the storage has them now."""
    return study.user_attrs | study._storage.get_study_system_attrs(study._study_id)


def of_trial(trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    """Return all attributes of a trial."""
    return trial.user_attrs | trial.system_attrs


def keep_with_study(study: "optuna.Study", name: str, value: Any) -> None:
    """Keep a value, which JSON can hold, with a study."""
    study._storage.set_study_system_attr(study._study_id, name, value)


def keep_with_trial(trial: "optuna.Trial", name: str, value: Any) -> None:
    """Keep a value, which JSON can hold, with a trial that runs."""
    trial.storage.set_trial_system_attr(trial._trial_id, name, value)
