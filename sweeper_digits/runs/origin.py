"""Where a command composes from beside conf/: extra folders (--config-dir, searchpath) and the name of the config.

`--help` imports this module, and not what recipes need beside it.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper_digits.errors import UserError, closest
from sweeper_digits.overrides import override_text
from sweeper_digits.text import printable, relative

DEFAULT_NAME = "config"
SEARCH_PATH = "hydra.searchpath"


@dataclass(frozen=True)
class Origin:
    """The folders and the config that Hydra composed from.

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
        """Return the flags before the overrides of a command, with which Hydra composes from here again."""
        flags = [] if self.name is None else ["--config-name", self.name]
        others = list(self.folders)
        if others and not _is_package(others[0]):
            flags += ["--config-dir", str(relative(Path(others.pop(0))))]
        uris = [other if _is_package(other) else f"file://{relative(Path(other))}" for other in others]
        return [*flags, f"{SEARCH_PATH}={override_text(uris)}"] if uris else flags

    def search_path(self, conf: str | Path) -> list[str]:
        """Return the URIs that Hydra searches, conf/ first.

        Args:
            conf: The program's own folder.
        """
        return [f"file://{Path(conf).resolve()}", *(f if _is_package(f) else f"file://{f}" for f in self.folders)]

    def check(self, conf: str | Path) -> None:
        """Raise a UserError unless the config is there; in a package it is not looked for."""
        if self.name is None or self.packages:
            return
        folders = [Path(conf), *self.paths]
        if not any((folder / f"{self.name.removesuffix('.yaml')}.yaml").is_file() for folder in folders):
            known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
            near = closest(self.name, known)
            raise UserError(f"--config-name: no config {printable(self.name)}{near}; it can be {', '.join(known)}")


PLAIN = Origin()


def origin_in(hydra: Any) -> Origin:
    """Return the origin that is in Hydra's section of a composed config."""
    folders, sources = [], hydra["runtime"]["config_sources"]
    behind_conf = [one for one in sources if one["provider"] == "main"][1:]  # of a call from Python
    for source in sources:
        if source in behind_conf or source["provider"] == "command-line" or source["provider"].startswith(SEARCH_PATH):
            is_file = source["schema"] == "file"
            path = os.path.normpath(Path(hydra["runtime"]["cwd"], source["path"]))
            folders.append(path if is_file else f"{source['schema']}://{source['path']}")
    name = hydra["job"]["config_name"]
    return Origin(tuple(dict.fromkeys(folders)), None if name in (None, DEFAULT_NAME) else str(name))


def _is_package(folder: str) -> bool:
    return "://" in folder
