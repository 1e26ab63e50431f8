"""What a run was made with: versions and the commit of the code."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import keras

import sweeper_digits
from sweeper_digits import program


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the packages that numbers depend on."""
    packages = ("keras", keras.backend.backend(), "numpy", "hydra-core")
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    return versions | {"sweeper_digits": sweeper_digits.__version__}


@functools.cache
def git_commit() -> str | None:
    """Return the commit of the code, with `+changes` if the work tree differs, or None outside a checkout.

    Variables and settings that make git run other programs, or look at another repository, are not passed on: a config
    can set variables.
    """
    if not program.is_checkout():  # an installed package may stand in the repository of another project
        return None
    folder = Path(__file__).parent
    command = ["git", "-c", "core.fsmonitor=false", "describe", "--always", "--abbrev=40", "--exclude=*"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            [*command, "--dirty=+changes"],
            cwd=folder,
            env=clean,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
