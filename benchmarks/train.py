"""Training images per second of the notebook's CNN and augmentation: its own loop, plain Keras, ours.

    python benchmarks/train.py [--images 8600] [--repeats 3]

All are trained in one process, one after the other, `repeats` times over, on random images: speed
does not depend on what is in them. An epoch is timed after one that compiles; no validation. The
peak is the best of as many rounds.
"""

import argparse
import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.simplefilter("ignore")

import keras
import numpy as np
from keras import layers, ops

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.notebook import BATCH, compile_as_notebook, generator, notebook_model
from sweeper_digits import command_line
from sweeper_digits.config import parse
from sweeper_digits.data.dataset import Dataset
from sweeper_digits.data.split import Subsets
from sweeper_digits.runs import recipe
from sweeper_digits.training.device import choose_device, describe_device
from sweeper_digits.training.fit import Prepared, prepare

# Multiply-adds of a forward pass of the notebook's CNN, per image: convolutions, then dense layers.
FORWARD = 28 * 28 * 25 * 32 * (1 + 32) + 14 * 14 * 9 * 64 * (32 + 64) + 7 * 7 * 64 * 256 + 256 * 10
# Backward: once for the inputs' and once for the weights' gradients.
FLOPS = 2 * 3 * FORWARD
Epoch = Callable[[], None]
Digits = tuple[np.ndarray, np.ndarray]  # uint8 (n, 28, 28, 1), labels int32 (n,)


def random_digits(count: int) -> Digits:
    """Return random images with labels: speed does not depend on what is in them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    return images, rng.integers(0, 10, count).astype(np.int32)


def prepared_of(digits: Digits, overrides: Sequence[str]) -> Prepared:
    """Prepare what `python train.py` with these overrides trains, on all images."""
    config = parse(recipe.without_hydra(recipe.composer(command_line.CONF)(list(overrides))))
    dataset = Dataset(*digits, "random", tuple(map(str, range(10))))
    everything = np.arange(len(dataset.images))
    return prepare(config, dataset, Subsets(everything, everything[:0]))


def fit_epoch(prepared: Prepared) -> None:
    """Train an epoch by Keras' `fit`, as `python train.py` does."""
    feed = prepared.feed
    prepared.trainee.fit(feed.epochs(0, 1), steps_per_epoch=feed.steps, shuffle=False, verbose=0)


def notebook(images: np.ndarray, labels: np.ndarray) -> Epoch:
    """ImageDataGenerator and fit, float32."""
    model, flow = notebook_model(), generator(images, labels)
    compile_as_notebook(model)
    return lambda: model.fit(flow, epochs=1, steps_per_epoch=len(images) // BATCH, verbose=0)


def plain_keras(images: np.ndarray, labels: np.ndarray) -> Epoch:
    """Fit on arrays, with Keras' own augmentation layers in the model."""
    changes = keras.Sequential(
        [layers.RandomRotation(10 / 360, fill_mode="constant"), layers.RandomZoom(0.1, 0.1, fill_mode="constant"),
         layers.RandomTranslation(0.1, 0.1, fill_mode="constant")]
    )  # fmt: skip
    model = keras.Sequential([keras.Input((28, 28, 1)), changes, notebook_model()])
    compile_as_notebook(model)
    x, y = (images / 255).astype("float32"), keras.utils.to_categorical(labels, 10)
    n = len(x) // BATCH * BATCH
    return lambda: model.fit(x[:n], y[:n], batch_size=BATCH, epochs=1, verbose=0)


def ours(images: np.ndarray, labels: np.ndarray) -> Epoch:
    """What `python train.py experiment=notebook` trains."""
    return partial(fit_epoch, prepared_of((images, labels), ["experiment=notebook"]))


def convolution_peak(precision: str, rounds: int) -> float:
    """Return the most GFLOP/s that a 3x3 convolution of 64 to 64 channels reaches here."""
    import tensorflow as tf

    kind = "bfloat16" if precision == "bfloat16" else "float32"
    best = 0.0
    for batch, side, channels in ((86, 28, 64), (64, 56, 64), (32, 28, 256)):
        x, w = ops.ones((batch, side, side, channels), kind), ops.ones((3, 3, channels, channels), kind)
        run = tf.function(lambda x, w: tf.reduce_sum(tf.nn.conv2d(x, w, 1, "SAME")[0, 0, 0]))
        float(run(x, w))
        for _ in range(rounds):
            started = time.perf_counter()
            for _ in range(3):
                float(run(x, w))
            best = max(best, 3 * 2 * 9 * batch * side**2 * channels**2 / (time.perf_counter() - started))
    return best / 1e9


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8600)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    images, labels = random_digits(arguments.images)
    count = arguments.images // BATCH * BATCH
    kinds = [
        ("the notebook's loop, float32", notebook, "float32"),
        ("plain Keras fit, float32", plain_keras, "float32"),
        ("plain Keras fit, bfloat16", plain_keras, "bfloat16"),
        ("ours, float32", ours, "float32"),
        ("ours, bfloat16", ours, "bfloat16"),
    ]
    device = choose_device("auto")
    with keras.device(device):
        loops = []
        for name, build, precision in kinds:
            keras.config.set_dtype_policy("float32" if precision == "float32" else "mixed_bfloat16")
            keras.utils.set_random_seed(0)
            loops.append((name, build(images, labels), precision))
            loops[-1][1]()
        speeds: dict[str, list[float]] = {name: [] for name, _, _ in loops}
        for _ in range(arguments.repeats):
            for name, epoch, _ in loops:
                started = time.perf_counter()
                epoch()
                speeds[name].append(count / (time.perf_counter() - started))
        cpu = device.startswith("cpu") and keras.backend.backend() == "tensorflow"
        precisions = ("float32", "bfloat16") if cpu else ()
        peaks = {precision: convolution_peak(precision, arguments.repeats) for precision in precisions}
    base = statistics.median(speeds[loops[0][0]])
    print(f"{describe_device(device)}, keras {keras.__version__} on {keras.backend.backend()}")
    if peaks:
        print("convolution peak: " + ", ".join(f"{value:,.0f} GFLOP/s in {name}" for name, value in peaks.items()))
    print(f"\n{'':30s} images/s  (least - most)     times   share of the peak")
    for name, _, precision in loops:
        found = speeds[name]
        middle = statistics.median(found)
        share = f"{middle * FLOPS / peaks[precision] / 1e9:.0%}" if peaks else ""
        print(
            f"{name:30s} {middle:8,.0f}  ({min(found):,.0f} - {max(found):,.0f})".ljust(58)
            + f"{middle / base:5.2f} x  {share}"
        )


if __name__ == "__main__":
    main()
