"""The state in which a study began: its settings, its copy of conf/, the hash of the code."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import optuna
import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeper_digits import components
from sweeper_digits.bad_input import one_line
from sweeper_digits.config import INCIDENTAL, STORAGE_KEY
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_key, override_text
from sweeper_digits.quiet import chosen_backend
from sweeper_digits.runs.folder import check_file
from sweeper_digits.runs.origin import SEARCH_PATH
from sweeper_digits.runs.process import machine
from sweeper_digits.runs.record import flatten
from sweeper_digits.sweep.record import StudyRecord, trials_of
from sweeper_digits.sweep.space import Sweep
from sweeper_digits.text import relative

log = logging.getLogger(__name__)

# Files that only the folder of a run, of an environment or of a sweep has.
MARKERS_OF_OTHER_FOLDERS = (".hydra", "pyvenv.cfg", "optimization_results.yaml")


def record_settings(study: optuna.Study, sweep: Sweep) -> None:
    """Keep the settings of a study that begins, for `check_same`."""
    StudyRecord(study).write(settings=_settings(sweep))


def check_same(study: optuna.Study, sweep: Sweep) -> bool:
    """Return whether the study was begun before.

    Args:
        study: The study.
        sweep: The sweep.

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
    if ours["fixed overrides"] == theirs.get("fixed overrides"):  # or these say it
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


class Copy:
    """The sweep's own copy of conf/, and of the user's folders over it: an edit of them changes no trial.

    Args:
        sweep: The sweep, composed from the folders as they are now.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.folder = sweep, sweep.folder / "conf"
        main = next(one["path"] for one in sweep.config.hydra.runtime.config_sources if one["provider"] == "main")
        self.files: dict[str, Path] = {}  # by name in the copy: the one that Hydra finds first
        for folder in (Path(main), *sweep.origin.paths):
            for file in _yaml_files(folder, sweep.folder):
                self.files.setdefault(str(file.relative_to(folder)), file)

    @property
    def exists(self) -> bool:
        """Whether an earlier command has made it."""
        return self.folder.exists()

    def make(self) -> None:
        """Make it, whole at any instant; another process may be faster."""
        own = self.folder.with_name(f".conf-{machine()}-{os.getpid()}")
        shutil.rmtree(own, ignore_errors=True)  # of a container that was killed while it copied
        for name, file in self.files.items():
            (own / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, own / name)
        try:
            own.rename(self.folder)
        except OSError:
            shutil.rmtree(own)

    def warn_of_changes(self) -> None:
        """Say which files are not as in the copy."""
        names = self.files.keys() | {str(file.relative_to(self.folder)) for file in self.folder.rglob("*.yaml")}
        if changed := sorted(name for name in names if not _same(self.files.get(name), self.folder / name)):
            log.info(
                "warning: %s changed since the sweep began; it goes on with its own copy in %s",
                ", ".join(changed),
                relative(self.folder),
            )

    def check(self) -> None:
        """Raise a UserError that names a file of the copy that Hydra could not read."""
        for file in self.folder.rglob("*.yaml"):
            name = str(file.relative_to(self.folder))
            if _same(self.files.get(name), file):
                continue
            try:
                check_file(file)
                if not OmegaConf.load(file):
                    raise UserError("it holds nothing")
            except (OmegaConfBaseException, OSError, UserError, ValueError, yaml.YAMLError) as error:
                cause = " ".join(str(error).replace(str(file), "").split())
                origin = relative(self.files[name]) if name in self.files else f"conf/{name}"
                raise UserError(
                    f"{relative(file)}: trials compose from the sweep's copy of conf/, and this file of it is damaged "
                    f"({cause}); copy {origin} there"
                ) from error

    def composed(self) -> Sweep:
        """Return the sweep as its trials are composed: from the copy, in its folder, with the database of this process.

        The options of hydra.sweeper are those of the command that is given now.
        """
        self.check()
        hydra, typed = self.sweep.config.hydra, OmegaConf.to_container(self.sweep.config.hydra.overrides.task)
        given = [one for one in hydra.overrides.hydra if override_key(one) not in (STORAGE_KEY, SEARCH_PATH)]
        decided = [
            f"hydra.sweep.dir={override_text(str(self.sweep.folder))}",  # it may have the time in it
            f"hydra.sweeper.study_name={override_text(self.sweep.options.study_name)}",  # of a folder that was renamed
            "hydra.job.chdir=false",  # relative paths count from where the user stands
            STORAGE_KEY + "=${oc.env:OPTUNA_STORAGE}",  # the URL may hold a password, which a run's folder would show
        ]
        loader = self._loader()
        assert isinstance(typed, list)  # noqa: S101 - it is one
        overrides = [*given, *decided, *map(str, typed)]
        try:
            config = loader.load_configuration(hydra.job.config_name, overrides, RunMode.MULTIRUN)
        except (HydraException, OmegaConfBaseException) as error:
            gone = [str(relative(file)) for name, file in self.files.items() if not (self.folder / name).exists()]
            raise UserError(
                f"{relative(self.folder)}: trials compose from this copy of conf/, and something is missing in it "
                f"({one_line(error)}); copy {' or '.join(gone[:3]) or 'it'} there"
            ) from error
        HydraConfig.instance().set_config(config)
        composed = Sweep.of(self.sweep.options, config, self.sweep.given, loader)
        composed.origin = self.sweep.origin  # a command for a person names the user's own folders
        return composed

    def _loader(self) -> ConfigLoader:
        path = deepcopy(self.sweep.loader.get_search_path())
        of_the_user = [
            place
            for place in path.get_path()
            if place.path.startswith("file://") and place.provider.startswith(("command-line", SEARCH_PATH))
        ]
        for place in of_the_user[1:]:
            path.get_path().remove(place)
        # A run's folder says that there were folders beside conf/, and where their files are now.
        for place in [*of_the_user[:1], *(one for one in path.get_path() if one.provider == "main")]:
            place.path = f"file://{self.folder}"
        return type(self.sweep.loader)(path)  # type: ignore[call-arg]


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


def _same(source: Path | None, copy: Path) -> bool:
    return source is not None and copy.is_file() and source.is_file() and source.read_bytes() == copy.read_bytes()
