"""Other contents, names or places have another fingerprint, also in a folder with many files."""

import os
from pathlib import Path

import pytest

from sweeper_digits.data import fingerprint as module
from sweeper_digits.data.fingerprint import fingerprint

NPZ = {"_target_": "sweeper_digits.parts.sources.npz"}


def test_a_file_and_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fingerprint({}) == fingerprint({"path": str(tmp_path / "nowhere")}) == {}
    (tmp_path / "a").write_bytes(b"one")
    assert fingerprint({"path": str(tmp_path / "a")})["bytes"] == 3
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fingerprint({"path": "~/a"}) == fingerprint({"path": str(tmp_path / "a")})


@pytest.mark.parametrize("most", [1000, 1])
def test_every_change_of_a_folder_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(module, "MOST_READ", most)
    (tmp_path / "deep").mkdir()
    for name in ("a", "deep/b"):
        (tmp_path / name).write_bytes(b"one")
    seen = []

    def look() -> None:
        seen.append(fingerprint(NPZ | {"path": str(tmp_path)})["sha256"])

    look()
    (tmp_path / "a").write_bytes(b"two")
    os.utime(tmp_path / "a", ns=(1, 1))  # also where a clock is coarse
    look()
    (tmp_path / "a").rename(tmp_path / "c")
    look()
    (tmp_path / "d").write_bytes(b"")
    look()
    assert len(set(seen)) == 4 and fingerprint(NPZ | {"path": str(tmp_path)})["files"] == 3
