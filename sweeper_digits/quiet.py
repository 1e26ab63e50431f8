"""Imports of Keras that print nothing."""

import contextlib
import importlib.util
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from sweeper_digits.errors import UserError

KERAS_BACKENDS = ("tensorflow", "jax", "torch")
# The module of Keras that reads ~/.keras/keras.json when it is imported.
KERAS_SETTINGS_READER = str(Path("keras", "src", "backend", "config.py"))


@contextlib.contextmanager
def quiet_import(users: bool = False) -> Iterator[None]:
    """Hide what TensorFlow's libraries print to file descriptor 2 while they load.

    They print before any log level applies. If the import fails, their output is shown. Afterwards TensorFlow logs
    errors only: it would warn that each new model is a retracing.

    The backend is KERAS_BACKEND, or TensorFlow; what ~/.keras/keras.json says does not count.

    Args:
        users: Whether modules of the user's are imported. Only they find JAX beside another backend: TensorFlow would
            load it for a converter that nothing here calls, an eighth of its own import.

    Raises:
        UserError: KERAS_BACKEND names no backend that is installed here, or Keras cannot read its own settings.
    """
    if (backend := os.environ.get("KERAS_BACKEND") or "tensorflow") not in KERAS_BACKENDS:
        raise UserError(f"KERAS_BACKEND={backend}: no such backend; choose from {', '.join(KERAS_BACKENDS)}")
    if importlib.util.find_spec(backend) is None:
        raise UserError(f"KERAS_BACKEND={backend}: the package {backend} is not installed; pip install {backend}")
    os.environ["KERAS_BACKEND"] = backend
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    screen = os.dup(2)
    alone = contextlib.nullcontext() if users or backend == "jax" else _without("jax")
    with alone, tempfile.TemporaryFile() as captured:
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
def _without(package: str) -> Iterator[None]:
    """Let imports of a package fail as if it were not installed, unless it is loaded already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


def _keras_settings() -> Path:
    """Return the file of Keras' own settings, by Keras' own rule."""
    home = Path("~").expanduser()
    folder = os.environ.get("KERAS_HOME", (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras")
    return Path(folder).expanduser() / "keras.json"
