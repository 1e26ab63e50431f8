"""To which study a sweep's folder belongs: to one, so that the trials of two studies are never mixed.

`compare` reads owners, without Optuna, whose import takes seconds.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sweeper_digits import text
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import check_file
from sweeper_digits.runs.process import machine

# The file in a sweep's folder that holds the name and the identity of its study.
OWNER = ".study.json"
# The name of a trial's folder.
TRIAL = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Owner:
    """The study that a sweep's folder belongs to: its name, and its identity."""

    study: str
    identity: str


def check_folder(folder: Path, name: str, identity: str | None, begun: bool) -> None:
    """Raise a UserError if the folder has trials of another study.

    Args:
        folder: The sweep's folder.
        name: The name of the study.
        identity: The identity of the study; None: it has none yet.
        begun: Whether the database has the study.
    """
    if owner := owner_of(folder):
        if owner.study != name:
            raise UserError(
                f"{text.relative(folder)}: this folder belongs to the study {owner.study}, not to {name}; choose "
                "another folder with hydra.sweep.dir=..., or name both with study=..."
            )
        if owner.identity == identity:
            return
    elif (identity is None and begun) or not has_trials(folder):
        return
    raise UserError(
        f"{text.relative(folder)}: it has trials of an earlier study {name}, which the database does not have; "
        "choose another name with study=..., or move the folder away"
    )


def write_owner(folder: Path, study: str, identity: str) -> None:
    """Write down to which study a folder belongs: whole at any instant, and once.

    Raises:
        FileExistsError: It was written before.
    """
    whole = folder / f"{OWNER}-{machine()}-{os.getpid()}"
    whole.write_text(json.dumps({"study": study, "identity": identity}), encoding="utf-8")
    owner = folder / OWNER
    if owner.exists() and not owner.stat().st_size:  # a disk that was full left an empty one
        owner.unlink()
    try:
        os.link(whole, owner)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if owner.exists():
            raise FileExistsError(str(owner)) from None
        whole.rename(owner)
    finally:
        whole.unlink(missing_ok=True)


def has_trials(folder: Path) -> bool:
    return folder.is_dir() and any(TRIAL.fullmatch(entry.name) for entry in folder.iterdir())


def owner_of(folder: Path) -> Owner | None:
    """Return the study that a sweep's folder belongs to; None if nothing there says so.

    Raises:
        UserError: The file that says so is damaged.
    """
    file = folder / OWNER
    try:
        check_file(file)
        if not file.exists() or not file.stat().st_size:
            return None
        owner = json.loads(file.read_text(encoding="utf-8"))
        return Owner(text.printable(str(owner["study"])), str(owner["identity"]))
    except (UserError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{text.relative(file)}: not readable, so that nobody knows to which study the folder belongs; "
            "choose another name with study=..., or move the folder away"
        ) from error


def find_copies(folders: Iterable[Path]) -> dict[Path, Path]:
    """Return the sweep folders that are copies, by `cp -r`, each with its original among these folders.

    Of folders of one study, the original is the one with the name of the study; else the first.
    """
    by_study: dict[Owner, list[Path]] = {}
    for folder in sorted({folder.resolve() for folder in folders}):
        with contextlib.suppress(UserError):  # an owner that is not readable is nobody's copy
            if owner := owner_of(folder):
                by_study.setdefault(owner, []).append(folder)
    found = {}
    for owner, alike in by_study.items():
        original = next((folder for folder in alike if folder.name == owner.study), alike[0])
        found.update({folder: original for folder in alike if folder != original})
    return found
