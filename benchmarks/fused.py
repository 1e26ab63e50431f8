"""Trials per hour of K trainings that JAX runs as one, against one training at a time.

    KERAS_BACKEND=jax python benchmarks/fused.py [--k 1 2 4 8 16] [--model small] [--images 35700] [--repeats 5]
        [--convolution xla patches] [--precision float32 bfloat16] [overrides]

It measures on the GPU if JAX sees one, else on the CPU. First it trains two members together and each alone by
Keras' `fit`: they differ in seed, learning rate, weight decay and strength of the augmentation. If their losses or
weights differ by more than rounding, it ends with an error.

Then, on random images, it times an epoch of `fit` on TensorFlow and on JAX, of the same step as one program
(benchmarks/fused_step.py), and of K members together. All take turns, `repeats` times over, after an epoch that
compiles. A trial is `epochs` of them (8 unless overridden), without validation. Convolutions are XLA's own, or matrix
products over patches. The memory is what the compiled program needs, with the images.
"""

import argparse
import logging
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # TensorFlow needs memory of the GPU, too
warnings.simplefilter("ignore")

import jax
import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import fused_step
from benchmarks.train import Digits, fit_epoch, prepared_of, random_digits
from sweeper_digits.training.device import choose_device, computing_in, describe_device
from sweeper_digits.training.fit import Prepared

CONVOLUTIONS = ("xla", "patches")
IMAGES = {"gpu": 35_700, "cpu": 1_600}
# Of the check. A large epsilon: else Adam makes steps of full size from gradients that are nothing but rounding, such
# as those of a bias before a normalization.
CHECKED = ["batch_size=16", "epochs=2", "optimizer=adamw", "optimizer.epsilon=0.001"]
MEMBERS = [(0, 0.001, 0.0, 1.0), (1, 0.01, 1.0, 0.5)]  # seed, learning rate, weight decay, strength of augmentation
# Two steps only, for rounding grows: with the last bit of each weight changed at the begin, a single training of
# model=batchnorm ended after 8 steps with another loss by 7e-4, and with weights apart by 2e-2 of their way.
CHECKED_IMAGES = 32
MOST_LOSS, MOST_WEIGHTS = 1e-4, 1e-2  # relative to the loss, and to the way that the weights went


@dataclass
class Contender:
    """A way to train.

    Attributes:
        name: Of its row.
        members: Trainings in it.
        epoch: Trains an epoch of each and returns the seconds.
        compiling: Seconds until it could begin; of `fit`, with its first epoch.
        memory: MiB, or None if nobody can say.
    """

    name: str
    members: int
    epoch: Callable[[], float]
    compiling: float
    memory: float | None = None


def convolved(digits: Digits, overrides: Sequence[str], convolution: str) -> Prepared:
    """Prepare a training whose convolutions are XLA's own, or products over patches."""
    prepared = prepared_of(digits, overrides)
    if convolution == "patches":
        fused_step.convolve_by_patches(prepared.trainee)
    return prepared


def timed_epoch(prepared: Prepared) -> float:
    """Train an epoch by Keras' `fit`; return the seconds."""
    started = time.perf_counter()
    fit_epoch(prepared)
    return time.perf_counter() - started


def differences(network: Sequence[str], convolution: str) -> tuple[float, float]:
    """Return how far members that were trained together are from those that `fit` trained alone, at most.

    Args:
        network: Overrides that say which.
        convolution: Of all of them.

    Returns:
        The difference of the losses, relative to the loss, and of the weights, relative to the way that training moved
        them.
    """
    members = []
    for seed, rate, decay, strength in MEMBERS:
        overrides = [f"seed={seed}", f"optimizer.learning_rate={rate}", f"optimizer.weight_decay={decay}"]
        digits = random_digits(CHECKED_IMAGES)
        members.append(convolved(digits, [*network, *CHECKED, *overrides], convolution))
        members[-1].augmentation.strength.assign(strength)
        fused_step.build(members[-1])
    begun = [fused_step.state_of(member) for member in members]
    batches = fused_step.stack_batches([fused_step.batches_of(member, 0) for member in members])
    epoch, pixels = fused_step.epoch_of(members[0], fused=True), fused_step.pixels_of(members[0])
    together = epoch(fused_step.stack_states(begun), pixels, batches)
    pairs = []
    for place, member in enumerate(members):
        fit_epoch(member)
        one, other = fused_step.state_of(member), fused_step.state_of_member(together, place)
        pairs.append(_difference(begun[place], one, other))
    return max(loss for loss, _ in pairs), max(weights for _, weights in pairs)


def _difference(begun: fused_step.State, one: fused_step.State, other: fused_step.State) -> tuple[float, float]:
    """Return how far the losses and the weights of two trainings from the same begin are apart."""
    start, end, end_of_other = (np.concatenate([np.ravel(w) for w in state.weights]) for state in (begun, one, other))
    loss, loss_of_other = (float(state.metrics[0] / state.metrics[1]) for state in (one, other))
    way = np.linalg.norm(end - start)
    return abs(loss - loss_of_other) / loss, float(np.linalg.norm(end - end_of_other) / way)


def check(network: Sequence[str], convolutions: Sequence[str]) -> None:
    """End the program unless members that are trained together equal those trained alone, within rounding."""
    for convolution in convolutions:
        loss, weights = differences(network, convolution)
        text = f"{len(MEMBERS)} fused, {convolution}: losses differ by {loss:.0e}, weights by {weights:.0e}"
        if not (loss < MOST_LOSS and weights < MOST_WEIGHTS):
            raise SystemExit(f"error: {text}; expected less than {MOST_LOSS:.0e} and {MOST_WEIGHTS:.0e}")
        print(f"fused equals single within rounding: {text}", flush=True)


def by_fit(digits: Digits, overrides: Sequence[str], precision: str) -> Contender:
    """Return Keras' `fit` in this process."""
    with computing_in(precision):
        prepared = prepared_of(digits, overrides)
        return Contender(f"{keras.backend.backend()}, fit", 1, partial(timed_epoch, prepared), timed_epoch(prepared))


def by_tensorflow(digits: Digits, overrides: Sequence[str], precision: str) -> Contender:
    """Return Keras' `fit` on TensorFlow, in a process of its own that waits between its turns."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    before = os.environ["KERAS_BACKEND"]
    os.environ["KERAS_BACKEND"] = "tensorflow"  # which the process inherits
    context.Process(target=_serve, args=(there, digits, list(overrides), precision), daemon=True).start()
    os.environ["KERAS_BACKEND"] = before
    there.close()

    def epoch() -> float:
        here.send("epoch")
        return here.recv()

    return Contender("tensorflow, fit", 1, epoch, here.recv())


def _serve(connection: Any, digits: Digits, overrides: list[str], precision: str) -> None:
    logging.disable(logging.WARNING)
    with keras.device(choose_device("auto")):
        contender = by_fit(digits, overrides, precision)
        connection.send(contender.compiling)
        with suppress(EOFError):  # when the other process ends
            while connection.recv():
                connection.send(contender.epoch())


def by_program(
    digits: Digits, overrides: Sequence[str], precision: str, convolution: str, members: int, fused: bool
) -> Contender:
    """Return an epoch as one program: of one training, or of members that are trained together."""
    states, batches = [], []
    with computing_in(precision):
        for seed in range(members):
            prepared = convolved(digits, [*overrides, f"seed={seed}"], convolution)
            fused_step.build(prepared)
            states.append(fused_step.state_of(prepared))
            batches.append(fused_step.batches_of(prepared, 0))
        pixels = fused_step.pixels_of(prepared)
        state = fused_step.stack_states(states) if fused else states[0]
        steps = jax.device_put(fused_step.stack_batches(batches) if fused else batches[0])
        started = time.perf_counter()
        program = fused_step.epoch_of(prepared, fused).lower(state, pixels, steps).compile()
        compiling = time.perf_counter() - started
    sizes = program.memory_analysis()
    needed = sizes.argument_size_in_bytes + sizes.temp_size_in_bytes + sizes.output_size_in_bytes
    held = [state]

    def epoch() -> float:
        started = time.perf_counter()
        held[0] = jax.block_until_ready(program(held[0], pixels, steps))
        return time.perf_counter() - started

    epoch()
    name = f"jax, {f'{members} fused' if fused else 'one program'}, {convolution}"
    return Contender(name, members, epoch, compiling, (needed - sizes.alias_size_in_bytes) / 2**20)


def show(contenders: Sequence[Contender], times: Sequence[Sequence[float]], images: int, epochs: int) -> None:
    """Print a row for each contender: median (least - most) over the rounds."""
    base = next(place for place, contender in enumerate(contenders) if contender.name == "jax, fit")
    print(f"{'':28s} s/epoch (least - most)      images/s  trials/h   times jax, fit (least - most)  compile s   MiB")
    for contender, found in zip(contenders, times, strict=True):
        middle, members = statistics.median(found), contender.members
        ratios = [members * one / other for one, other in zip(times[base], found, strict=True)]
        spread = f"({min(found):.3f} - {max(found):.3f})"
        gain = f"{statistics.median(ratios):6.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
        memory = "" if contender.memory is None else f"{contender.memory:,.0f}"
        print(
            f"{contender.name:28s} {middle:7.3f} {spread:19s} {members * images / middle:9,.0f} "
            f"{3600 * members / (epochs * middle):9,.0f}   {gain:30s} {contender.compiling:9.1f} {memory:>5s}",
            flush=True,
        )


def main() -> None:
    """Check, measure and print a table for each precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--k", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="members of a program")
    parser.add_argument("--model", default="small", help="option of the config group model")
    parser.add_argument("--images", type=int, help="in an epoch; 35,700 on a GPU, 1,600 on a CPU")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--convolution", nargs="+", choices=CONVOLUTIONS, default=CONVOLUTIONS)
    parser.add_argument("--precision", nargs="+", choices=("float32", "bfloat16"), default=("float32", "bfloat16"))
    parser.add_argument("overrides", nargs="*", help="more overrides of the training")
    arguments = parser.parse_intermixed_args()
    if keras.backend.backend() != "jax":
        raise SystemExit(f"error: KERAS_BACKEND={keras.backend.backend()}: only JAX fuses; type KERAS_BACKEND=jax")
    logging.disable(logging.WARNING)
    device = choose_device("auto")
    print(f"{describe_device(device)}, keras {keras.__version__}, jax {jax.__version__}, model={arguments.model}")
    overrides = [f"model={arguments.model}", *arguments.overrides]
    check([one for one in overrides if one.startswith("model")], arguments.convolution)
    digits = random_digits(arguments.images or IMAGES[device[:3]])
    trained = prepared_of(digits, overrides)
    images, epochs = trained.feed.steps * trained.feed.batch_size, trained.config.epochs
    for precision in arguments.precision:
        run = (digits, overrides, precision)
        contenders = [by_tensorflow(*run), by_fit(*run)]
        for convolution in arguments.convolution:
            contenders.append(by_program(*run, convolution, 1, fused=False))
            contenders += [by_program(*run, convolution, members, fused=True) for members in arguments.k]
        rounds = [[contender.epoch() for contender in contenders] for _ in range(arguments.repeats)]
        print(f"\n{precision}, epochs of {images:,} images, trials of {epochs} epochs")
        show(contenders, list(zip(*rounds, strict=True)), images, epochs)


if __name__ == "__main__":
    main()
