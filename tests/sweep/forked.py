"""Programs that are forked from this process instead of started: Python's imports cost most of a short process."""

import contextlib
import gc
import io
import logging
import os
import runpy
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hydra.core.global_hydra import GlobalHydra

from sweeper_digits.results import confirm
from sweeper_digits.sweep import local


class Forked(subprocess.Popen[Any]):
    """A process that goes on from here as if `python SCRIPT`, `python -m MODULE` or `python -c CODE` had been typed.

    Only its start differs.

    Args:
        args: The command: the interpreter, the script, its arguments.
        options: Of `subprocess.Popen`; `cwd`, `env`, `start_new_session` and the three streams are heeded.
    """

    def _execute_child(self, args: list[str], *rest: Any) -> None:
        kept, cwd, env, new_session = rest[3], rest[4], rest[5], rest[20]
        pipes = rest[9:15]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks of several threads: the child needs no other
            self.pid = os.fork()
        if self.pid == 0:
            _be(args, cwd, env, (pipes[0], pipes[3], pipes[5]), new_session, kept)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _be(
    args: list[str],
    cwd: str | None,
    env: Mapping[str, str] | None,
    streams: tuple[int, ...],
    new_session: bool,
    kept: Iterable[int],
) -> None:
    """Be the program of a command until it ends, and end with its status."""
    status = 1
    try:
        gc.freeze()  # what belongs to the parent, such as its connections, is never touched here
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as Python starts
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        for ends in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(ends, signal.SIG_DFL)
        if new_session:
            os.setsid()
        for number, stream in enumerate(streams):
            if stream != -1:
                os.dup2(stream, number)
        for logger in (logging.root, *logging.Logger.manager.loggerDict.values()):
            getattr(logger, "handlers", []).clear()
        logging._handlerList.clear()  # type: ignore[attr-defined]
        logging._handlers.clear()  # type: ignore[attr-defined]
        for descriptor in set(range(3, 4096)) - set(kept):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - until the end
        sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False))  # noqa: SIM115
        sys.stderr = io.TextIOWrapper(open(2, "wb", closefd=False), line_buffering=True)  # noqa: SIM115
        if cwd is not None:
            os.chdir(cwd)
        if env is not None:
            os.environ.clear()
            os.environ.update(env)
        sys.orig_argv[:], sys.argv = list(args), list(args[1:])
        status = _status_of(lambda: _run(args[1:]))
    except BaseException:  # of what is above; nothing may reach the parent's frames
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(status)


def _run(args: list[str]) -> None:
    """Do what Python does with its arguments; what the program starts for its jobs is forked too."""
    local.subprocess = confirm.subprocess = _Processes()  # type: ignore[assignment, attr-defined]
    GlobalHydra.instance().clear()
    if args[0] == "-c":
        sys.argv = ["-c", *args[2:]]
        exec(args[1], {"__name__": "__main__"})
    elif args[0] == "-m":
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    elif args[0].endswith("sleeper.py"):
        from benchmarks import sleeper
        from sweeper_digits import command_line

        command_line.start(sleeper.main)
    else:
        runpy.run_path(args[0], run_name="__main__")


def _status_of(program: Callable[[], None]) -> int:
    """The exit status of a program, as Python's interpreter would have it."""
    try:
        program()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


class _Processes:
    """The module `subprocess` for the supervisor, whose workers are forked too."""

    Popen = Forked

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)
