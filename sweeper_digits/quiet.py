"""Imports of Keras that print nothing."""

import contextlib
import importlib.util
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from sweeper_digits.errors import UserError

KERAS_BACKENDS = ("tensorflow", "jax", "torch")
# TensorFlow imports JAX for a converter, and Keras imports Matplotlib for galleries of images, if they are installed.
# Nothing here calls either, and they take 0.8 and 0.3 s of processor time.
UNNEEDED = {"jax", "matplotlib"}
# The module of Keras that reads ~/.keras/keras.json when it is imported.
KERAS_SETTINGS_READER = str(Path("keras", "src", "backend", "config.py"))


def chosen_backend() -> str:
    """Return the name of the backend that Keras has, or will have once it is loaded."""
    return os.environ.get("KERAS_BACKEND") or "tensorflow"


@contextlib.contextmanager
def quiet_import(keep_optional_imports: bool = False) -> Iterator[None]:
    """Hide what TensorFlow's libraries print to file descriptor 2 while they load.

    They print before any log level applies. If the import fails, their output is shown. Afterwards TensorFlow logs
    errors only: it would warn that each new model is a retracing.

    The backend is KERAS_BACKEND, or TensorFlow; what ~/.keras/keras.json says does not count.

    Args:
        keep_optional_imports: Whether the user's modules are imported or will use Keras, or the process is the user's.
            Otherwise the packages of UNNEEDED are not found meanwhile.

    Raises:
        UserError: KERAS_BACKEND names no backend that is installed here, or Keras cannot read its own settings.
    """
    if (backend := chosen_backend()) not in KERAS_BACKENDS:
        raise UserError(f"KERAS_BACKEND={backend}: no such backend; choose from {', '.join(KERAS_BACKENDS)}")
    if importlib.util.find_spec(backend) is None:
        wanted = backend if backend == "tensorflow" else f"'sweeper_digits[{backend}]'"
        raise UserError(f"KERAS_BACKEND={backend}: the package {backend} is not installed; pip install {wanted}")
    os.environ["KERAS_BACKEND"] = backend
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    screen = os.dup(2)
    with _without(() if keep_optional_imports else UNNEEDED - {backend}), tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            if any(frame.filename.endswith(KERAS_SETTINGS_READER) for frame in frames):
                cause = " ".join(str(error).split())
                raise UserError(
                    f"{_keras_settings()}: Keras cannot use these settings ({cause}); correct or delete the file"
                ) from error
            if not isinstance(error, UserError):
                captured.seek(0)
                os.write(screen, captured.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)


@contextlib.contextmanager
def _without(packages: Iterable[str]) -> Iterator[None]:
    """Let imports of packages fail as if they were not installed, unless they are loaded already."""
    hidden = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


def _keras_settings() -> Path:
    """Return the file of Keras' own settings, by Keras' own rule."""
    home = Path("~").expanduser()
    folder = os.environ.get("KERAS_HOME", (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras")
    return Path(folder).expanduser() / "keras.json"
