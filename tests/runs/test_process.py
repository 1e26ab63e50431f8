"""Which process wrote something, where containers share a host name."""

from pathlib import Path

import psutil
import pytest

from sweeper_digits.runs import process


def test_containers_that_share_a_host_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, signed = process.machine(), process.identity()
    assert not process.is_gone(signed)
    gone = signed.replace(f":{ours}:", f":{ours}:1")  # a process of this id that began at another time
    assert process.is_gone(gone)
    for name in ("NAMESPACE", "BOOT_ID"):
        other = tmp_path / name
        other.write_text("another boot")
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(process, name, other)
            assert process.machine() != ours and not process.is_gone(gone)


def test_a_clock_that_is_set_ends_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    signed = process.identity()
    monkeypatch.setattr(psutil.Process, "create_time", lambda of: 0.0)
    assert not process.is_gone(signed)


def test_a_process_that_ends_while_it_is_read_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(pid: int) -> str:
        raise ProcessLookupError(3, "No such process")

    signed = process.identity()
    monkeypatch.setattr(process, "_started", ended)
    assert process.is_gone(signed)
