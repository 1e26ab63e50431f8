"""The trained model in the formats of other programs, each loaded back and compared before it counts."""

import contextlib
import importlib.util
import io
import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sweeper_digits.config import EXPORTS, Config
from sweeper_digits.errors import UserError
from sweeper_digits.quiet import quiet_import
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.training.network import build_network

log = logging.getLogger(__name__)

NAMES = {"saved_model": "saved_model", "onnx": "model.onnx", "tflite": "model.tflite"}
COMPARED = 256  # images whose predictions are compared
TOLERANCE = 1e-3  # largest allowed difference of a probability

Predict = Callable[[np.ndarray], np.ndarray]


def check_packages(formats: list[str]) -> None:
    """Raise a UserError unless what the formats need is installed; called before training."""
    for name in formats:
        if keras.backend.backend() != "tensorflow":
            raise UserError(f"export={name}: needs Keras on TensorFlow; this is {keras.backend.backend()}")
        for package in EXPORTS[name]:
            if importlib.util.find_spec(package) is None:
                raise UserError(
                    f"export={name}: the package {package} is missing; pip install 'sweeper_digits[export]'"
                )


def export(config: Config, run: RunFolder, images: np.ndarray) -> None:
    """Write a run's model in each format of `config.export` into its exports/.

    The exported model computes in float32, whatever the precision of the training.

    Args:
        config: The run's config.
        run: A run with a trained model.
        images: uint8 (n, height, width, channels), whose predictions are compared.

    Raises:
        UserError: The converter failed, or predictions differ from the model's by more than `TOLERANCE`.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    trained = keras.saving.load_model(run.model)
    exact = build_network(config.model, trained.input_shape[1:], trained.output_shape[-1]).model
    keras.config.set_dtype_policy(policy)
    exact.set_weights(trained.get_weights())
    expected = exact.predict(images, verbose=0)
    run.exports.mkdir(parents=True, exist_ok=True)
    for name in config.export:
        written = run.exports / f".new-{NAMES[name]}"
        try:
            with _quiet():
                predict = {"saved_model": _saved_model, "onnx": _onnx, "tflite": _tflite}[name](exact, written)
                found = predict(images)
        except Exception as error:  # each converter has its own exceptions
            raise UserError(f"export={name}: the converter failed: {type(error).__name__}: {error}") from error
        difference = float(np.abs(found - expected).max())
        if not difference <= TOLERANCE:
            raise UserError(f"export={name}: its probabilities differ by {difference:.2g} from the model's ({written})")
        final = run.exports / NAMES[name]
        if final.is_dir():
            shutil.rmtree(final)
        written.replace(final)
        log.info("exported   %s, probabilities within %.1g", final.name, difference)


def _saved_model(model: keras.Model, path: Path) -> Predict:
    import tensorflow as tf

    shutil.rmtree(path, ignore_errors=True)
    model.export(str(path), format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(path))  # must outlive its functions
    return lambda images: loaded.serve(images).numpy()


def _onnx(model: keras.Model, path: Path) -> Predict:
    import onnxruntime

    model.export(str(path), format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (argument,) = session.get_inputs()
    return lambda images: np.asarray(session.run(None, {argument.name: images})[0])


def _tflite(model: keras.Model, path: Path) -> Predict:
    import tensorflow as tf

    model.export(str(path), format="litert", verbose=False)
    interpreter = tf.lite.Interpreter(str(path))
    argument, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def predict(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(argument, images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(argument, images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(result))

    return predict


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep the converters' own reports off the screen: the comparison decides."""
    with (
        quiet_import(keep_optional_imports=True),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
