"""Python as a user starts it, but forked from a process that has the libraries: most of a short run is their import."""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIMIT = 300  # seconds
# What modules read when they are imported, and a program that is forked cannot have otherwise.
AT_IMPORT = {"HYDRA_FULL_ERROR": "0", "KERAS_BACKEND": "tensorflow"}


@functools.cache
def _server() -> subprocess.Popen[str]:
    """A process that forks; it ends with this one."""
    command, known = [sys.executable, "-m", "tests.warm"], os.environ | AT_IMPORT
    server = subprocess.Popen(command, cwd=ROOT, env=known, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)
    return server


def python(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> tuple[bytes, int]:
    """What `python ARGUMENTS` prints in a folder, its errors included, and its exit status."""
    server = _server()
    with tempfile.NamedTemporaryFile() as output:
        given = [arguments, str(folder), dict(environment), output.name]
        print(json.dumps(given), file=server.stdin, flush=True)
        status = int(server.stdout.readline())
        return output.read(), status


def _serve() -> None:
    from sweeper_digits.quiet import quiet_import

    with quiet_import():
        import keras  # noqa: F401 - its backend too, of which nothing is started by an import

        from sweeper_digits.training import run  # noqa: F401
    from tests.sweep.forked import Forked

    installed = sys.path[1:]
    for line in sys.stdin:
        arguments, folder, environment, output = json.loads(line)
        first = {"-m": folder, "-c": ""}.get(arguments[0]) or str(Path(arguments[0]).parent)
        paths = environment.get("PYTHONPATH", "")
        sys.path[:] = ["" if arguments[0] == "-c" else first, *filter(None, paths.split(os.pathsep)), *installed]
        with Path(output).open("ab") as stream:
            command = [sys.executable, *arguments]
            process = Forked(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
            )
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
        print(process.wait(), flush=True)


if __name__ == "__main__":
    _serve()
