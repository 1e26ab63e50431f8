"""A Python that has imported TensorFlow, of which processes are forked: each would take seconds to import it itself.

It is started once, and reads requests from its standard input, one a line. A process that is forked becomes what
`python ARGUMENTS` is: its arguments, folder, environment, search path and standard streams are its own, and no module
of the package is loaded before it begins. A process that it starts in turn with this Python is forked too, from a copy
of the first state that was set aside when it began, and is its direct child.
"""

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

# What a training or a search imports of others.
HEAVY = ["tensorflow", "keras", "optuna", "optuna.storages._rdb.models", "sqlalchemy.dialects.sqlite", "hydra.main"]
HEAVY += ["hydra._internal.hydra", "sklearn.metrics", "sklearn.model_selection", "scipy.stats", "pandas", "rich.live"]
LONGEST = 300  # seconds
# Beginnings of the settings that make another Python or another TensorFlow: of such a process none is a fork.
OWN = ("PYTHON", "KERAS_", "TF_", "XLA_", "LD_")
spares: list[tuple[int, socket.socket]] = []
_fork_exec = subprocess._fork_exec  # type: ignore[attr-defined]


def settings(environment: dict[str, str]) -> dict[str, str]:
    """What of an environment Python and TensorFlow read while they load, where it is not as usual."""
    usual = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": environment.get("PYTHONPATH")}
    return {name: value for name, value in environment.items() if name.startswith(OWN) and usual.get(name) != value}


def set_aside(number: int) -> None:
    """Fork the processes that this one may start."""
    spares.clear()
    for _ in range(number):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            ours.close()
            wait_to_become(theirs)
        theirs.close()
        spares.append((pid, ours))


def wait_to_become(theirs: socket.socket) -> NoReturn:
    """Wait until the process that set this one aside starts it, or ends."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_DFL)
    sent, streams, _, _ = socket.recv_fds(theirs, 1 << 20, 3)
    if not sent:
        os._exit(0)
    asked = json.loads(sent)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    if asked["session"]:
        os.setsid()
    elif asked["group"] >= 0:
        os.setpgid(0, asked["group"])
    theirs.send(b"1")
    theirs.close()
    # What a search starts is in a session of its own, and starts none.
    become(asked["arguments"], asked["folder"], asked["environment"], 0 if asked["session"] else 1)


def become(arguments: list[str], folder: str, environment: dict[str, str], number: int) -> NoReturn:
    """Be `python ARGUMENTS` to its end; of the processes that it starts, so many are forked."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    set_aside(number)
    subprocess._fork_exec = fork  # type: ignore[attr-defined]
    what, rest = arguments[0], arguments[1:]
    place = {"-m": folder, "-c": ""}.get(what, str(Path(what).resolve().parent))
    named = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [place, *(os.path.abspath(path) for path in named), *sys.path]  # noqa: PTH100 - not resolved
    sys.orig_argv[1:] = arguments
    sys.argv = [*rest] if what == "-m" else arguments
    if what == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif what == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], {"__name__": "__main__"})
    else:
        runpy.run_path(what, run_name="__main__")
    sys.exit()


def fork(*given: Any) -> int:
    """Start a process as subprocess does: of this Python, by a process that was set aside."""
    command, keep, folder, listed = given[0], given[3], given[4], given[5]
    streams = [given[place] if given[place] >= 0 else target for target, place in enumerate((6, 9, 11))]
    environment = dict(os.environ)
    if listed is not None:
        pairs = (os.fsdecode(pair).partition("=") for pair in listed)
        environment = {name: value for name, _, value in pairs}
    words = [os.fsdecode(word) for word in command]
    changed = settings(environment) != settings(dict(os.environ))
    if words[0] != sys.executable or not spares or changed or len(keep) > 1:
        return int(_fork_exec(*given))
    pid, ours = spares.pop()
    asked = {"arguments": words[1:], "folder": os.fsdecode(folder or Path.cwd()), "environment": environment}
    with ours:
        asked |= {"session": given[15], "group": given[16]}
        socket.send_fds(ours, [json.dumps(asked).encode()], streams)
        ours.recv(1)
    return pid


def serve() -> None:
    """Start what is asked for, one process after the other; say how each ended."""
    for name in HEAVY:
        __import__(name)
    gc.freeze()  # a search for garbage would copy the memory that the processes share
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    subprocess._fork_exec = fork  # type: ignore[attr-defined]
    while line := sys.stdin.readline():
        asked = json.loads(line)
        with Path(asked.pop("output")).open("wb") as output:
            set_aside(1)
            process = subprocess.Popen(
                [sys.executable, *asked["arguments"]],
                cwd=asked["folder"],
                env=asked["environment"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            for pid, ours in spares:
                ours.close()
                os.waitpid(pid, 0)
            try:
                status = process.wait(LONGEST)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
        answers.write(f"{status}\n")


class Python:
    """Runs `python ARGUMENTS` in processes that are forked."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> tuple[bytes, int]:
        """Run a process to its end; return what it printed, standard error included, and its exit status."""
        with tempfile.NamedTemporaryFile() as output:
            asked = {"arguments": arguments, "folder": str(folder), "environment": environment, "output": output.name}
            self.server.stdin.write(json.dumps(asked) + "\n")
            self.server.stdin.flush()
            status = int(self.server.stdout.readline())
            return output.read(), status

    def end(self) -> None:
        """End the first process, which waits for no other."""
        self.server.communicate()


if __name__ == "__main__":
    sys.path.pop(0)
    serve()
