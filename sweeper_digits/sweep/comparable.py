"""The checks that the values of trials compare: one objective, the same images, unchanged data."""

import copy
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeper_digits.components import Data
from sweeper_digits.config import checked_objectives, typed
from sweeper_digits.data.fingerprint import Content
from sweeper_digits.errors import OtherData, UserError
from sweeper_digits.overrides import override_key, override_text
from sweeper_digits.runs.record import REPEATED, flatten
from sweeper_digits.sweep.points import Point, ends_of
from sweeper_digits.sweep.record import StudyRecord
from sweeper_digits.sweep.storage import study_lock

if TYPE_CHECKING:
    from sweeper_digits.sweep.queue import Queue
    from sweeper_digits.sweep.space import Sweep

# Of Hydra's part, what says how a config was composed.
COMPOSING_KEYS = ("runtime.", "overrides.", "mode")
PARAMS = "hydra.sweeper.params"
# Keys whose values a message may show: others may hold a secret.
NAMES = ("objective", "study")
# Keys whose data decide which images validate, and how these look.
IMAGE_KEYS = ("data", "split")
# The settings of the images that validate: key -> a hash of its value, which may be a secret.
Images = dict[str, str]


def check_shared(command: DictConfig, trial: DictConfig, where: str) -> None:
    """Raise a UserError if the config of a trial sets what the whole sweep has.

    Args:
        command: Composed from the command, Hydra's part included.
        trial: Composed with the choices of a trial.
        where: What makes these choices, for the message, for example `experiment=mine`.
    """
    if OmegaConf.select(trial, "split.validation_size") is None and "folds" not in trial.split:
        raise UserError(
            f"{where or 'split=all'}: a sweep needs a validation part for its objective; use split=holdout or kfold"
        )
    ours, theirs = _shared(command), _shared(trial)
    key = next((key for key in theirs if theirs[key] != ours.get(key)), None) or next(iter(ours.keys() - theirs), None)
    if key is None:
        return
    begin = "begin a sweep for each choice, each with its own study=NAME"
    if key.startswith(PARAMS):
        raise UserError(f"{where}: it has a search space of its own ({PARAMS}), and a sweep has one; {begin}")
    if key in NAMES:
        raise UserError(
            f"{where}: it sets {key}={override_text(theirs[key])}, and all trials share the command's "
            f"{key}={override_text(ours[key])}; add {key}=... to the command, which wins over the file, or {begin}"
        )
    raise UserError(f"{where}: it sets {key}, which all trials of a sweep share; take it out of the file, or {begin}")


def check_beside(known: list[Images], command: DictConfig, trial: DictConfig, where: str) -> None:
    """Raise a UserError if a run that was queued by hand does not compare with the listed runs of its study.

    Args:
        known: The settings of the images of these.
        command: Composed from the command, Hydra's part included.
        trial: Composed from the run.
        where: What names the run, for the message.
    """
    check_shared(command, trial, where)
    if known and (own := images_of(trial)) not in known:
        keys = ", ".join(differing([*known, own]))
        raise UserError(f"{where}: its value is of other images ({keys}); list such a run in search.points")


def _shared(config: DictConfig) -> dict[str, Any]:
    hydra = dict(flatten(OmegaConf.to_container(config.hydra, resolve=False)))
    kept = {f"hydra.{key}": value for key, value in hydra.items() if not key.startswith(COMPOSING_KEYS)}
    search = dict(flatten(OmegaConf.to_container(config.search, resolve=False), "search."))
    objectives = checked_objectives(config.objective)
    names = {"objective": objectives if len(objectives) > 1 else objectives[0], "study": config.study}
    typed: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    # A run that is typed is read, and those of a list may differ in it; a file's would not be read.
    names |= {"resume": config.resume, "from_run": None if "from_run" in map(override_key, typed) else config.from_run}
    return names | search | kept


def images_of(config: DictConfig) -> Images:
    """Return the settings of the images that validate, without the fold: the folds of one split are repetitions."""
    settings = ((key, value) for key, value in flatten(_values(config)) if key not in REPEATED)
    settings = ((key, float(value) if type(value) is int else value) for key, value in settings)  # 0 is typed for 0.0
    return {key: hashlib.sha256(repr(value).encode()).hexdigest()[:16] for key, value in settings}


def _values(config: DictConfig) -> dict[str, Any]:
    nodes = {name: config[name] for name in IMAGE_KEYS if config[name] is not None}
    try:
        return {name: OmegaConf.to_container(node, resolve=True) for name, node in nodes.items()}
    except OmegaConfBaseException:  # a value that is known once a trial runs
        return {name: OmegaConf.to_container(node) for name, node in nodes.items()}


def compositions(sweep: "Sweep") -> list[tuple[str, DictConfig]]:
    """Return a config for each option, or list or mapping, that can be drawn, the others being the first ones.

    Of a sweep that lists its runs, there is one for all runs that differ in other keys than options and images. Before
    each stands what a message calls it; nothing before the one config of another sweep.
    """
    listed = sweep.runs_listed()
    chosen: dict[str, tuple[str, Point]] = {}
    names = {name for point in listed for name in point}
    deciding = {n for n in names if n.split(".")[0] in (*IMAGE_KEYS, "from_run") or sweep.loader.get_group_options(n)}
    for number, point in enumerate(listed):
        decides = sorted((name, value) for name, value in point.items() if name in deciding)
        chosen.setdefault(str(decides), (f"search.points: run {number}", point))
    for name, literals in sweep.arguments.literals.items():
        for one in sweep.choices.get(name) or sorted(literals):
            chosen[f"{name}={one}"] = f"{name}={one}", sweep.with_key(name) | {name: one}
    return [(where, sweep.composed(point)) for where, point in chosen.values() or [("", {})]]


def images_of_trials(sweep: "Sweep") -> list[Images]:
    """Return the settings of the images that the trials of a sweep validate on, each once."""
    configs = [composed for _, composed in compositions(sweep)]
    for name in sweep.distributions.keys() - sweep.choices.keys():
        configs += _at_both_ends(sweep, name)
    found = [images_of(config) for config in configs]
    return [one for place, one in enumerate(found) if one not in found[:place]]


def _at_both_ends(sweep: "Sweep", name: str) -> Iterator[DictConfig]:
    """Yield configs with the first and the last value of a parameter that chooses no option."""
    for value in ends_of(sweep.distributions[name]):
        if value not in sweep.arguments.literals[name]:
            config = copy.deepcopy(sweep.composed(sweep.with_key(name)))
            OmegaConf.update(config, name.lstrip("+"), value, force_add=True)
            yield config


def differing(found: Iterable[Images]) -> list[str]:
    """Return the keys in which settings of images differ, an option as its group."""
    values: dict[str, set[str | None]] = {}
    found = list(found)
    for key in dict.fromkeys(key for one in found for key in one):
        values.setdefault(key.removesuffix("._target_"), set()).update(one.get(key) for one in found)
    return [key for key, different in values.items() if len(different) > 1]


log = logging.getLogger(__name__)


def check_data(queue: "Queue", option: Data, content: Content) -> None:
    """Keep with a study what an option of the data gives, or compare it with what it gave before.

    Raises:
        OtherData: It gave another content to an earlier trial.
    """
    values = json.dumps(vars(option), sort_keys=True, default=str)
    name, record = hashlib.sha256(values.encode()).hexdigest()[:16], StudyRecord(queue.study)
    ours = {"images": len(content.hashes), "fingerprint": content.fingerprint}
    theirs = record.data(name)
    if theirs is None:
        with study_lock(queue.storage, queue.study.study_name):
            theirs = record.data(name)
            if theirs is None:
                record.write_data(name, ours)
                return
    if theirs != ours:
        before, now = theirs.get("images", 0), ours["images"]
        number = f"{before:,} images then, {now:,} now" if before != now else f"{now:,} images, but not the same"
        read = f"data.path={path}" if (path := vars(option).get("path")) else "data"
        raise OtherData(
            f"{read}: its images, their labels or their order changed since study={queue.study.study_name} began "
            f"({number}); put the data back as it was, then the same command goes on, or choose another study"
        )


def look_at_data(sweep: "Sweep", queue: "Queue") -> None:
    """Compare the data before any trial does, where it is a file or a folder.

    What cannot be read here is left to the trials, which tell the cause. So is what other sources give, which may need
    Keras.

    Raises:
        OtherData: See `check_data`.
    """
    path = OmegaConf.select(sweep.config, "data.path", throw_on_missing=False)
    if path is None or not Path(str(path)).expanduser().exists():
        return
    from sweeper_digits.data.dataset import read  # only here: it brings pandas

    try:
        option = typed("data", OmegaConf.to_container(sweep.config.data, resolve=True))
        dataset = read(option)
    except (Exception, SystemExit):  # of a registered function, anything
        return
    if dataset.labels is None:
        return
    check_data(queue, option, Content.of(dataset))
