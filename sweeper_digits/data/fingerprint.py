"""What tells the files of a data set from other files: a sweep that goes on with other data would mix its numbers."""

import hashlib
from pathlib import Path
from typing import Any

from sweeper_digits import registry
from sweeper_digits.data.contents import Member, list_members
from sweeper_digits.data.kinds import REFUSED

# Of a folder with more files, only names, sizes and times are read, not the contents.
MOST_READ = 1000


def fingerprint(data: dict[str, Any]) -> dict[str, int | str]:
    """Return sizes and a hash of what an option of the group `data` reads.

    Args:
        data: The option's keys; `path` is a file or a folder, `_target_` the function that reads it.

    Returns:
        `bytes` and `sha256`; of a folder also `files`, their number. Nothing for an option without a path, and for a
        path where nothing is.
    """
    path = Path(str(data["path"])).expanduser() if data.get("path") else None
    if path and path.is_file():
        return {"bytes": path.stat().st_size, "sha256": _hash(path)}
    if not path or not path.is_dir():
        return {}
    files = _files_read(path, data)
    digest = hashlib.sha256()
    for file in files:
        content = _hash(file) if len(files) <= MOST_READ else str(file.stat().st_mtime_ns)
        digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0{content}\n".encode(errors="surrogateescape"))
    return {"files": len(files), "bytes": sum(file.stat().st_size for file in files), "sha256": digest.hexdigest()}


def _files_read(folder: Path, data: dict[str, Any]) -> list[Path]:
    """Return the files of a folder that its option reads; other files, for example a log, may change."""
    loader = registry.find("data", data).name
    if loader == "kaggle":
        found = iter([folder / f"{data.get('part', 'train')}.csv"])
    elif loader in ("idx", "file"):
        found = (folder / member.name for member in list_members(folder) if _is_read(member, loader))
    else:
        found = folder.rglob("*")
    return sorted(file for file in found if file.is_file())


def _is_read(member: Member, loader: str) -> bool:
    return member.kind == "idx" if loader == "idx" else member.kind not in ("text", "unknown", *REFUSED)


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
