"""Which process wrote something: so that another can tell whether it still runs."""

import os
import socket
from pathlib import Path

import psutil

# Files of Linux: the id of this boot, the namespace of this process's ids, and what the kernel knows of a process.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/pid")
STATUS = "/proc/{}/stat"


def machine() -> str:
    """Return a name of the set of processes in which an id means one process.

    Host names do not tell it: containers share them, and each has ids of its own.
    """
    try:
        return f"{BOOT_ID.read_text()[:8]}-{NAMESPACE.stat().st_ino}"
    except OSError:  # not Linux
        return socket.gethostname().replace(":", "-")


def identity(pid: int | None = None) -> str:
    """Return the signature of a process of this machine: host, process id, machine, time of its start.

    Args:
        pid: Its id; None: this process.
    """
    pid = os.getpid() if pid is None else pid
    return f"{socket.gethostname()}:{pid}:{machine()}:{_started(pid)}"


def is_gone(signed: str) -> bool:
    """Return whether the process of a signature has ended; False where that cannot be known from here."""
    _, _, rest = signed.partition(":")
    pid, _, rest = rest.partition(":")
    where, _, started = rest.partition(":")
    if where != machine() or not pid.isdecimal():
        return False
    try:
        return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE or _started(int(pid)) != started
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):  # the last: it ends while it is read
        return True


def _started(pid: int) -> str:
    """Return when a process started: in ticks since boot, which no clock that is set changes; elsewhere in seconds."""
    try:
        text = Path(STATUS.format(pid)).read_text(errors="replace")
    except FileNotFoundError:
        return f"{psutil.Process(pid).create_time():.0f}"
    return text.rpartition(")")[2].split()[19]  # field 22, counted from 1; the command before it may have spaces
