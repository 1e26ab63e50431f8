"""What a run was composed from beside conf/: the folders that its user gave, and the name of the config.

Hydra writes both into the run folder, which may be a stranger's. The folders are therefore only read as YAML: packages
are not imported, and settings of Hydra itself that could do more than configure a run are refused.
"""

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sweeper_digits.errors import UserError, closest
from sweeper_digits.screen import printable, relative

DEFAULT_NAME = "config"
SEARCH_PATH = "hydra.searchpath"
# In a sweep's folder, where the trials compose from the sweep's copy of everything: what it is a copy of.
COPIED_FROM = "composed_from.yaml"
# Of Hydra's part, what differs from run to run or does nothing when a run begins.
HARMLESS = ("runtime.", "overrides.", "searchpath", "help.", "sweeper.")
HARMLESS_ALONE = ("job.config_name", "job.override_dirname", "job.id", "job.num")
# Of the sweeper, what starts a program or opens a database.
HARMFUL = ("sweeper._target_", "sweeper.storage")
FOLDERS = ("run.dir", "sweep.dir")
# What these may hold: the time, and names that are checked elsewhere.
KNOWN = re.compile(r"\$\{(?:now:[^${}]*|study|hydra\.job\.(?:name|num|id))\}")


@dataclass(frozen=True)
class Origin:
    """What Hydra composed from.

    Attributes:
        folders: Those after conf/, in the order in which Hydra searches them: absolute paths, or `pkg://NAME`.
        name: The config's; None: conf/config.yaml.
    """

    folders: tuple[str, ...] = ()
    name: str | None = None

    @property
    def paths(self) -> list[Path]:
        """Return the folders that are no packages."""
        return [Path(folder) for folder in self.folders if not _is_package(folder)]

    @property
    def packages(self) -> list[str]:
        """Return the folders that are packages."""
        return [folder for folder in self.folders if _is_package(folder)]

    def flags(self) -> list[str]:
        """Return what stands before the overrides of a command, so that Hydra composes from here again."""
        from sweeper_digits.runs.recipe import override_text  # only here: that module needs this one

        flags = [] if self.name is None else ["--config-name", self.name]
        others = list(self.folders)
        if others and not _is_package(others[0]):
            flags += ["--config-dir", str(relative(Path(others.pop(0))))]
        uris = [other if _is_package(other) else f"file://{relative(Path(other))}" for other in others]
        return [*flags, f"{SEARCH_PATH}={override_text(uris)}"] if uris else flags

    def search_path(self, conf: str | Path, where: str, trusted: Iterable[str] = ()) -> list[str]:
        """Return the URIs that Hydra searches, conf/ first.

        Args:
            conf: The program's own folder.
            where: What names this origin, for the message.
            trusted: Packages that the user named.

        Raises:
            UserError: A folder or a config that is not there, or another package, which would be imported.
        """
        self.check(conf, where)
        for package in map(printable, set(self.packages).difference(trusted)):
            raise UserError(
                f"{where}: it was composed from {package}, and a package is imported only if you name it; add "
                f"'{SEARCH_PATH}=[{package}]' to a command that trains"
            )
        return [f"file://{Path(conf).resolve()}", *(f if _is_package(f) else f"file://{f}" for f in self.folders)]

    def check(self, conf: str | Path, where: str) -> None:
        """Raise a UserError unless folders and config are there."""
        for path in self.paths:
            if not path.is_dir():
                shown = printable(str(relative(path)))
                raise UserError(
                    f"{where}: it was composed from {shown}, which is not there; put it back, or train with "
                    "from_run=RUN --config-dir FOLDER"
                )
        if self.name is None or self.packages:
            return
        folders = [Path(conf), *self.paths]
        if not any((folder / f"{self.name.removesuffix('.yaml')}.yaml").is_file() for folder in folders):
            known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
            near = closest(self.name, known)
            raise UserError(f"{where}: no config {printable(self.name)}{near}; it can be {', '.join(known)}")


PLAIN = Origin()


def origin_of(folder: str | Path) -> Origin:
    """Return what the run in a folder was composed from; of a trial, not the sweep's copy but what it is a copy of.

    Raises:
        UserError: Files of Hydra that cannot be read.
    """
    from sweeper_digits.runs.damage import load_yaml  # only here: it brings NumPy, and --help is instant without

    saved, kept = Path(folder) / ".hydra" / "hydra.yaml", Path(folder).parent / COPIED_FROM
    if not saved.is_file():
        return PLAIN
    try:
        hydra = load_yaml(saved)["hydra"]
        if hydra.get("mode") == "MULTIRUN" and kept.is_file():
            copied = load_yaml(kept)
            return Origin(tuple(map(str, copied["folders"])), _name(copied["name"]))
        return origin_in(hydra)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{saved}: not readable ({type(error).__name__}: {error})") from error


def origin_in(hydra: Any) -> Origin:
    """Return the origin that Hydra's part of a composed config says."""
    folders = []
    for source in hydra["runtime"]["config_sources"]:
        if source["provider"] == "command-line" or source["provider"].startswith(SEARCH_PATH):
            is_file = source["schema"] == "file"
            path = os.path.normpath(Path(hydra["runtime"]["cwd"], source["path"]))
            folders.append(path if is_file else f"{source['schema']}://{source['path']}")
    return Origin(tuple(dict.fromkeys(folders)), _name(hydra["job"]["config_name"]))


def check_harmless(origin: Origin, composed: DictConfig, plain: DictConfig, where: str) -> None:
    """Raise a UserError if what a run folder names sets more than a run.

    Args:
        origin: What the run folder names.
        composed: Hydra's part of the config composed from there.
        plain: Hydra's part of the config composed from conf/ alone.
        where: What names the run folder, for the message.
    """
    theirs, ours = (_settings(node) for node in (composed, plain))
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) == ours.get(key) or (key in FOLDERS and _stays_below(theirs.get(key))):
            continue
        if key in HARMFUL or not (key.startswith(HARMLESS) or key in HARMLESS_ALONE):
            raise UserError(
                f"{where}: what it was composed from sets hydra.{printable(f'{key}={theirs.get(key)}')}, and a run's "
                f"folder may be a stranger's; add {printable(shlex.join(origin.flags()))} to use it all the same"
            )


def _name(saved: Any) -> str | None:
    return None if saved in (None, DEFAULT_NAME) else str(saved)


def _settings(hydra: DictConfig) -> dict[str, Any]:
    from sweeper_digits.runs.record import flatten  # only here, as above

    return dict(flatten(OmegaConf.to_container(hydra, resolve=False)))


def _stays_below(folder: Any) -> bool:
    """Return whether a folder's path stays below the current folder, whatever the time in it."""
    text = KNOWN.sub("", str(folder))
    return not text.startswith(("/", "~")) and ".." not in text and "$" not in text


def _is_package(folder: str) -> bool:
    return "://" in folder
