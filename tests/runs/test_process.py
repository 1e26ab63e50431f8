"""Which process wrote something, where containers share a host name."""

from pathlib import Path

import pytest

from sweeper_digits.runs import process


def test_containers_that_share_a_host_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, signed = process.machine(), process.signature()
    assert not process.is_gone(signed)
    gone = signed.replace(f":{ours}:", f":{ours}:1")  # a process of this id that began at another time
    assert process.is_gone(gone)
    for name in ("NAMESPACE", "BOOT_ID"):
        other = tmp_path / name
        other.write_text("another boot")
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(process, name, other)
            assert process.machine() != ours and not process.is_gone(gone)
