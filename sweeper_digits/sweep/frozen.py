"""The state in which a study began: its settings, its copy of conf/, the hash of the code."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeper_digits import components
from sweeper_digits.config import INCIDENTAL
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_key
from sweeper_digits.quiet import chosen_backend
from sweeper_digits.runs.folder import check_file
from sweeper_digits.runs.origin import origin_in
from sweeper_digits.runs.process import machine
from sweeper_digits.runs.record import flatten
from sweeper_digits.sweep.points import values_of
from sweeper_digits.sweep.record import StudyRecord, trials_of
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.text import relative

log = logging.getLogger(__name__)

# Files that only the folder of a run, of an environment or of a sweep has.
MARKERS_OF_OTHER_FOLDERS = (".hydra", "pyvenv.cfg", "optimization_results.yaml")


def record_settings(study: optuna.Study, sweep: Sweep) -> None:
    """Keep the settings of a study that begins, for `check_same`."""
    StudyRecord(study).write(settings=_settings(sweep))


def check_same(study: optuna.Study, sweep: Sweep, composes_from_here: bool = True) -> bool:
    """Return whether the study was begun before.

    Args:
        study: The study.
        sweep: The sweep.
        composes_from_here: Whether trials are composed from the conf/ of this process, and not from the sweep's copy.

    Raises:
        UserError: It was begun with settings whose trials cannot be compared with those of this sweep, or by another
            program.
    """
    recorded = StudyRecord(study).settings
    if recorded is None:
        if trials_of(study):
            raise UserError(
                f"study={study.study_name}: the database has a study of this name that another program began; "
                "choose another name with study=..."
            )
        return False
    ours, theirs = _comparable(_settings(sweep)), _comparable(recorded)
    own, begun_with = ours.pop("conf/"), theirs.pop("conf/", {})
    if composes_from_here and ours["fixed overrides"] == theirs.get("fixed overrides"):
        # The keys that both have: another version of the program has others.
        ours["conf/"] = {key: value for key, value in own.items() if key in begun_with}
        theirs["conf/"] = {key: value for key, value in begun_with.items() if key in own}
    differences = [
        f"{part}: was {_short(theirs.get(part), ours[part])}, is {_short(ours[part], theirs.get(part))}"
        for part in ours
        if ours[part] != theirs.get(part)
    ]
    if differences:
        raise UserError(
            f"study={study.study_name}: it was begun with other settings ({'; '.join(differences)}). "
            "Choose another name with study=..., or give the same command again"
        )
    return True


def copy_of_conf(sweep: Sweep) -> Path:
    return sweep.folder / "conf"


def freeze_conf(sweep: Sweep) -> Path:
    """Copy conf/, and the user's folders over it, into the sweep's folder, once for the whole sweep.

    The workers compose from the copy.

    Raises:
        UserError: The copy was damaged since.
    """
    sources, frozen = _sources(sweep), copy_of_conf(sweep)
    origin = origin_in(sweep.config.hydra)
    if not frozen.exists():
        copy = frozen.with_name(f".conf-{machine()}-{os.getpid()}")
        shutil.rmtree(copy, ignore_errors=True)  # of a container that was killed while it copied
        for name, file in sources.items():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy / name)
        try:
            copy.rename(frozen)
        except OSError:  # another supervisor of the same study was faster
            shutil.rmtree(copy)
    elif changed := _differences(sources, frozen):
        shown = {name: str(relative(file)) for name, file in sources.items() if _is_below(file, origin.paths)}
        _check_files(frozen, changed, _used(sweep), shown)
        log.info(
            "warning: %s changed since the sweep began; it goes on with its own copy in %s",
            ", ".join(changed),
            relative(frozen),
        )
    return frozen


def _used(sweep: Sweep) -> set[str]:
    """Return the files of conf/ that the sweep composes from, the options that it searches included."""
    used = {f"{group}/{option}.yaml" for group, option in sweep.config.hydra.runtime.choices.items()}
    name = str(sweep.config.hydra.job.config_name)
    searched = ((group, values_of(sweep.distributions[group]) or ()) for group in sweep.groups)
    named = {"config.yaml", f"{name.removesuffix('.yaml')}.yaml"}
    return named | used | {f"{group}/{option}.yaml" for group, options in searched for option in options}


def _check_files(frozen: Path, names: list[str], used: set[str], origins: dict[str, str]) -> None:
    """Raise a UserError that names the file of a copy of conf/ that workers could not read.

    Args:
        frozen: The copy.
        names: Files of it that are not as in conf/, or that only one of both has.
        used: Files that must be there.
        origins: Files that are not of conf/, and what they are copies of.
    """
    for name in names:
        file = frozen / name
        try:
            if not os.path.lexists(file):
                if name in used:
                    raise UserError("it is gone")
                continue  # an option that conf/ has since
            check_file(file)
            if not OmegaConf.load(file):
                raise UserError("it holds nothing")
        except (OmegaConfBaseException, OSError, UserError, ValueError, yaml.YAMLError) as error:
            cause = " ".join(str(error).replace(str(file), "").split())
            raise UserError(
                f"{relative(file)}: trials compose from the sweep's copy of conf/, and this file of it is "
                f"damaged ({cause}); copy {origins.get(name, f'conf/{name}')} there"
            ) from error


def warn_of_changed_code(study: optuna.Study) -> None:
    """Say so if the package, or code that brings parts, is not as when the sweep began: trials may not compare."""
    files = {*Path(__file__).parents[1].rglob("*.py"), *map(Path, components.files_of_others())}
    # In an order that folders do not change: another machine has others.
    code = hashlib.sha256(b"".join(sorted(hashlib.sha256(file.read_bytes()).digest() for file in files))).hexdigest()
    began = StudyRecord(study).code
    if began is None:
        StudyRecord(study).write(code=code)
    elif began != code:
        log.info("warning: the code changed since the sweep began; its earlier trials may not compare with new ones")


def _settings(sweep: Sweep) -> dict[str, Any]:
    """Return what must be the same for two trials to belong to one study, as JSON would give it back."""
    settings = {
        "objective": dict(zip(sweep.objectives, sweep.directions, strict=True)),
        "space": {name: str(distribution) for name, distribution in sweep.distributions.items()},
        "data": OmegaConf.to_container(sweep.config.data),
        "split": OmegaConf.to_container(sweep.config.split),
        "fixed overrides": _units(sweep.arguments.fixed),
        "KERAS_BACKEND": chosen_backend(),
        "conf/": _composed(sweep),
    }
    return dict(json.loads(json.dumps(settings, default=str)))  # an Enum as text


def _units(fixed: list[str]) -> list[str]:
    """Return overrides in alphabetical order; those of one node, where their order counts, are one text."""
    nodes: dict[str, list[str]] = {}
    for text in fixed:
        nodes.setdefault(override_key(text).split(".")[0], []).append(text)
    units = []
    for texts in nodes.values():
        merged = "={" in "".join(texts) or len(set(map(override_key, texts))) < len(texts)
        units += [" ".join(texts)] if merged else texts
    return sorted(units)


def _composed(sweep: Sweep) -> dict[str, Any]:
    """Return the values of conf/ that all trials share: two machines may have different ones."""
    config = OmegaConf.to_container(sweep.config)
    assert isinstance(config, dict)  # noqa: S101 - it is a config
    skipped = {*INCIDENTAL, "hydra", "data", "split"}
    flat = dict(flatten({key: value for key, value in config.items() if key not in skipped}))
    return {key: value for key, value in flat.items() if not key.endswith("_target_")}


def _comparable(settings: dict[str, Any]) -> dict[str, Any]:
    """Leave out the names of functions, which the code may change, and overrides that do not change a trial."""
    kept = {
        part: {name: one for name, one in value.items() if name != "_target_"} if isinstance(value, dict) else value
        for part, value in settings.items()
    }
    fixed = kept.get("fixed overrides", [])
    skipped = (*INCIDENTAL, "hydra")
    return kept | {"fixed overrides": [one for one in fixed if override_key(one).split(".")[0] not in skipped]}


def _short(value: Any, other: Any) -> str:
    """Write only what differs from the other."""
    if isinstance(value, dict) and isinstance(other, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items() if other.get(k) != v) or "nothing"
    if isinstance(value, list) and isinstance(other, list):
        return ", ".join(str(item) for item in value if item not in other) or "nothing"
    return str(value)


def _sources(sweep: Sweep) -> dict[str, Path]:
    """Return the files that Hydra can compose from, by their names in the copy; of one name, the one it finds first."""
    main = next(s.path for s in HydraConfig.get().runtime.config_sources if s.provider == "main")
    found: dict[str, Path] = {}
    for folder in (Path(main), *origin_in(sweep.config.hydra).paths):
        for file in _yaml_files(folder, sweep.folder):
            found.setdefault(str(file.relative_to(folder)), file)
    return found


def _yaml_files(folder: Path, sweep: Path) -> Iterator[Path]:
    """Yield the YAML files of a folder; not those of sweeps, runs, environments and hidden folders in it.

    With `--config-dir .` all of them may be there.
    """
    seen: set[str] = set()  # a link may lead back
    for here, below, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(here))
        below[:] = [name for name in below if not name.startswith(".") and not _is_apart(Path(here, name), sweep, seen)]
        yield from (Path(here, name) for name in names if name.endswith(".yaml"))


def _is_apart(folder: Path, sweep: Path, seen: set[str]) -> bool:
    real = os.path.realpath(folder)
    return (
        real in seen or sweep.is_relative_to(real) or any((folder / mark).exists() for mark in MARKERS_OF_OTHER_FOLDERS)
    )


def _is_below(file: Path, folders: list[Path]) -> bool:
    return any(file.is_relative_to(folder) for folder in folders)


def _differences(sources: dict[str, Path], frozen: Path) -> list[str]:
    names = sources.keys() | {str(file.relative_to(frozen)) for file in frozen.rglob("*.yaml")}
    return sorted(name for name in names if not _same(sources.get(name), frozen / name))


def _same(source: Path | None, copy: Path) -> bool:
    return source is not None and copy.is_file() and source.is_file() and source.read_bytes() == copy.read_bytes()
