"""What to do with the runs next, as commands for the shell, in the folder where they were written."""

import contextlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from hydra import initialize_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeper_digits import command_line, program, screen
from sweeper_digits.errors import UserError
from sweeper_digits.results.repeat import repeated
from sweeper_digits.results.statistics import Configuration, Winner
from sweeper_digits.runs import recipe
from sweeper_digits.runs.damage import load_yaml
from sweeper_digits.runs.origin import origin_of
from sweeper_digits.runs.record import Record, best_first, objectives_of
from sweeper_digits.schema import DEFAULT_STORAGE, override_key
from sweeper_digits.sweep.budget import KEYS
from sweeper_digits.sweep.claim import IDENTITY, owner_of
from sweeper_digits.sweep.finite import values_of
from sweeper_digits.sweep.grammar import parse_arguments
from sweeper_digits.sweep.private import get_storage
from sweeper_digits.sweep.space import MOST_ENUMERATED
from sweeper_digits.sweep.trials import DONE, trials_of
from sweeper_digits.sweep.url import hidden, sqlite_file

FINALISTS, SEEDS, MODELS = 3, 3, 5
UNITS = {"n_trials": "trials", "timeout": "seconds", "n_epochs": "epochs"}
# Overrides of a sweep's own part that a command goes on with; its limits, folder and database are written anew.
KEPT = ("hydra/sweeper", "hydra/launcher", "hydra.sweeper.", "hydra.launcher.")
LIMITS = {f"hydra.sweeper.{key}": key for key in KEYS}
WRITTEN_ANEW = {*LIMITS, "hydra.sweeper.storage"}


class Step(NamedTuple):
    """A thing to do, in words, and the commands that do it, one a line."""

    text: str
    command: str


def next_steps(
    paths: Sequence[str],
    filtered: bool,
    found: list[Record],
    groups: list[Configuration],
    winner: Winner,
    storage: str | None,
) -> list[Step]:
    """Return what to do next: confirm the best, predict with the best few, search on, repeat the best.

    Of runs that a filter has chosen, only what holds for them and not for all below the paths.

    Args:
        paths: Where the runs are, as the user named them.
        filtered: Whether runs below these paths were left out.
        found: The runs.
        groups: Their configurations, best first; at least one.
        winner: How the best of them compares with the others.
        storage: URL of the database of the studies; None: it cannot be read.
    """
    search = None if filtered or storage is None else _search_on(found, storage)
    steps = [_predict(paths, filtered, found), search]
    with contextlib.suppress(UserError, HydraException):  # of a run that is older than today's conf/: `compare` says so
        steps.append(Step("Train the best again, and with another seed", repeated(groups[0].runs[0])))
        if not filtered and len(paths) == 1 and (len(groups[0].samples) == 1 or winner.may_be_luck):
            steps.insert(0, _confirm(paths[0], len(groups)))
    return [step for step in steps if step]


def _confirm(path: str, configurations: int) -> Step:
    top = min(FINALISTS, configurations)
    best = f"the best {top}" if top > 1 else "the best"
    text = f"Was it luck? Train {best} on {SEEDS} new seeds each"
    return Step(text, program.command("confirm", path, "--top", str(top), "--seeds", str(SEEDS)))


def _predict(paths: Sequence[str], filtered: bool, found: list[Record]) -> Step | None:
    """Return the average of the best runs that have weights; of those with the data and the classes of the best."""
    ranked = best_first(found, objectives_of(found)[0])
    plain = list(islice((record for record in ranked if record.run.models()), MODELS))
    if not plain:
        return None
    alike = [record for record in plain if _data_of(record) == _data_of(plain[0])]
    which = paths if not filtered and len(alike) == len(plain) else [str(record.run.folder) for record in alike]
    locked = bool(plain[0].settings.get("split.test_size"))
    part = "the locked test part; each look is noted" if locked else "the validation part"
    models = f"the best {len(alike)} together" if len(alike) > 1 else "the best"
    return Step(f"Score {models} on {part}", program.command("predict", *which, "--top", str(len(alike))))


def _data_of(record: Record) -> tuple[dict[str, Any], tuple[str, ...]]:
    data = {name: value for name, value in record.settings.items() if name.split(".")[0] == "data"}
    return data, record.classes


def _search_on(found: list[Record], storage: str) -> Step | None:
    """Return the command that goes on with a sweep until twice as much is done; None where these runs are no sweep.

    What is searched says the database; what stands beside that on the command line, the folder of the last trial. The
    folder has the identity of the study, so it is no stranger's.
    """
    folders = {record.run.folder.parent for record in found}
    if len(folders) != 1:
        return None
    folder = folders.pop()
    try:
        owner = owner_of(folder)
        if owner is None or ((file := sqlite_file(storage)) and not file.exists()):
            return None
        study = optuna.load_study(study_name=owner.study, storage=get_storage(storage))
        last = max((record.run.folder for record in found if record.run.folder.name.isdecimal()), key=_number)
        hydra = load_yaml(last / ".hydra" / "hydra.yaml")["hydra"]
        if study.user_attrs[IDENTITY] != owner.identity or Path(hydra["runtime"]["cwd"]) != Path.cwd():
            return None  # another study, or paths that count from another folder
        return _continued(study, last, hydra, storage)
    except Exception:  # of whichever database driver, or of a damaged file: it costs this step only
        return None


def _number(folder: Path) -> int:
    return int(folder.name)


def _continued(study: optuna.Study, last: Path, hydra: dict[str, Any], storage: str) -> Step | None:
    trials, begun_with = trials_of(study), study.user_attrs["sweep"]
    space = {name: one for trial in trials for name, one in trial.distributions.items()}
    if {name: str(one) for name, one in space.items()} != begun_with["space"]:  # a parameter that no trial had yet
        return None
    limits = {key: hydra["sweeper"][key] for key in KEYS if hydra["sweeper"][key] is not None}
    values = [values_of(distribution) for distribution in space.values()]
    points = math.prod(math.inf if some is None else len(some) for some in values)
    if points <= (limits.get("n_trials") or MOST_ENUMERATED):  # each point once: there is no more to draw
        return None
    done = sum(trial.state in DONE for trial in trials)
    more = {key: 2 * (max(limit, done) if key == "n_trials" else limit) for key, limit in limits.items()}
    overrides = [text for text in hydra["overrides"]["hydra"] if text.startswith(KEPT)]
    own = list({key: text for text in overrides if (key := override_key(text)) not in WRITTEN_ANEW}.values())
    typed = Counter(map(override_key, overrides))  # the sweep writes each limit once more behind what was typed
    own += [f"{key}=null" for key in LIMITS if typed[key] > 1 and LIMITS[key] not in more]
    own += [f"hydra.sweeper.{key}={value}" for key, value in more.items()]
    if last.parent.resolve() != Path("multirun", study.study_name).resolve():
        own.append(f"hydra.sweep.dir={recipe.override_text(os.path.relpath(last.parent))}")
    if storage != os.environ.get("OPTUNA_STORAGE", DEFAULT_STORAGE):
        if hidden(storage) != storage:  # a password, which no page shows
            return None
        own.append(f"hydra.sweeper.storage={recipe.override_text(storage)}")
    origin = origin_of(last)
    searched = _written(space, hydra["sweeper"].get("params") or {}, origin.search_path(command_line.CONF, str(last)))
    words = ["-m", *origin.flags(), *begun_with["fixed overrides"], *searched, *own]
    shown = " or ".join(f"{screen.brief(value)} {UNITS[key]}" for key, value in more.items())
    return Step(f"Search on, up to {shown} in all", program.command("train", *words))


def _written(space: dict[str, BaseDistribution], listed: dict[str, Any], search_path: list[str]) -> list[str]:
    """Return overrides that search a space, without those of the config that has `listed`.

    Raises:
        ValueError: A distribution that no text gives again.
    """
    overrides = []
    with initialize_config_search_path(search_path):
        loader = GlobalHydra.instance().config_loader()
        for name, wanted in space.items():
            known = listed.get(name)
            texts = [known if isinstance(known, str | None) else recipe.override_text(known), *_texts_of(wanted)]
            fitting = [text for text in texts if text is not None and _read(f"{name}={text}", loader) == wanted]
            if not fitting:
                raise ValueError(f"{name}: {wanted}")
            if fitting[0] != known:
                overrides.append(f"{name}={fitting[0]}")
    return overrides


def _read(override: str, loader: ConfigLoader) -> BaseDistribution | None:
    """Return what a sweep reads of an override; None of what it does not take, for example half an integer."""
    try:
        return next(iter(parse_arguments([override], loader).distributions.values()), None)
    except UserError:
        return None


def _texts_of(distribution: BaseDistribution) -> list[str]:
    """Return texts in Hydra's grammar that may give this distribution, the simplest first."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            # A list or a mapping is stored as its text in Hydra's grammar.
            texts = [str(c) if str(c)[:1] in ("[", "{") else recipe.override_text(c) for c in choices]
            return [",".join(texts) if len(texts) > 1 else f"choice({texts[0]})"]
        case IntDistribution(low=low, high=high, log=True):
            return [f"tag(log,interval({low},{high}))", f"tag(log,int,interval({low},{high}))"]
        case IntDistribution(low=low, high=high, step=step):
            return [f"interval({low},{high})", f"range({low},{high + 1},{step})"]
        case FloatDistribution(low=low, high=high, step=float(step)):
            return [f"range({low},{high + step / 2},{step})"]
        case FloatDistribution(low=low, high=high, log=True):
            return [f"tag(log,interval({low},{high}))", f"tag(log,float,interval({low},{high}))"]
        case FloatDistribution(low=low, high=high):
            return [f"interval({low},{high})", f"tag(float,interval({low},{high}))"]
    return []
