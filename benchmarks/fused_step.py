"""K trainings of equal shape as one: Keras' own training step on JAX, over states that are stacked.

The step is `train_step` of the compiled trainee, the one that `fit` runs. On JAX it takes and returns its whole state,
so `jax.vmap` can run it over K states: weights, statistics of normalization, random generators, the augmentation's
strength, optimizer variables and metrics. The pixels are one array for all. What differs between members and is no
variable, the learning rate of each step and the weight decay, is given with each batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import keras
import numpy as np
from jax import numpy as jnp
from keras import layers, ops

from sweeper_digits.training.fit import Prepared

PIXELS = "pixels_by_index"  # name of the layer that holds them


class State(NamedTuple):
    """All that a training changes, each a list of arrays; of K members, each array has a first axis of K."""

    weights: list[Any]
    others: list[Any]  # variables that are not trained, without the pixels
    optimizer: list[Any]
    metrics: list[Any]


class Batches(NamedTuple):
    """The steps of an epoch; of K members, each array has a second axis of K."""

    indices: Any  # int32 (steps, batch_size)
    labels: Any  # int32 (steps, batch_size)
    rate: Any  # float32 (steps,), learning rates
    decay: Any  # float32 (steps,), weight decay


def build(prepared: Prepared) -> None:
    """Make the variables of the optimizer and of the metrics, as `fit` does when it begins."""
    indices, labels = (batches[0] for batches in prepared.feed.epoch(0))
    prepared.trainee._symbolic_build(data_batch=(indices, labels))


def state_of(prepared: Prepared) -> State:
    """Return the state of a training that is built, as copies: a buffer that is donated is gone."""
    trainee = prepared.trainee
    others = [variable for variable in trainee.non_trainable_variables if not _is_pixels(variable)]
    groups = (trainee.trainable_variables, others, trainee.optimizer.variables, trainee.metrics_variables)
    return State(*([jnp.array(variable.value) for variable in group] for group in groups))


def pixels_of(prepared: Prepared) -> Any:
    """Return all images as the trainee holds them, bfloat16 (m, height, width, channels)."""
    return prepared.trainee.non_trainable_variables[_place_of_pixels(prepared.trainee)].value


def batches_of(prepared: Prepared, epoch: int) -> Batches:
    """Return the batches of an epoch, counted from 0, with the rates of its steps."""
    feed, optimizer = prepared.feed, prepared.trainee.optimizer
    steps = np.arange(epoch * feed.steps, (epoch + 1) * feed.steps)
    rates = np.array([optimizer._learning_rate(step) for step in steps], np.float32)
    decay = np.full(feed.steps, optimizer.weight_decay or 0.0, np.float32)
    return Batches(*feed.epoch(epoch), rates, decay)


def stack_states(states: Sequence[State]) -> State:
    """Return the states of K trainings as the state of K members."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *states)


def stack_batches(batches: Sequence[Batches]) -> Batches:
    """Return the batches of K trainings as the batches of K members."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays, axis=1), *batches)


def state_of_member(state: State, place: int) -> State:
    """Return the state of one of K members."""
    return jax.tree.map(lambda array: array[place], state)


def epoch_of(prepared: Prepared, fused: bool) -> Any:
    """Return a jitted function (State, pixels, Batches) -> State: an epoch in one call, whose state is donated.

    Args:
        prepared: A training; of K members, any of them.
        fused: Whether the state and the batches are those of K members.
    """
    trainee = prepared.trainee
    place = _place_of_pixels(trainee)

    def step(state: State, pixels: Any, batch: Batches) -> State:
        others = [*state.others[:place], pixels, *state.others[place:]]
        variables = (state.weights, others, state.optimizer, state.metrics)
        with _rates(trainee.optimizer, batch.rate, batch.decay):
            _, (weights, others, *rest) = trainee.train_step(variables, (batch.indices, batch.labels))
        return State(weights, [*others[:place], *others[place + 1 :]], *rest)

    run = jax.vmap(step, in_axes=(0, None, 0)) if fused else step

    def epoch(state: State, pixels: Any, batches: Batches) -> State:
        return jax.lax.scan(lambda state, batch: (run(state, pixels, batch), None), state, batches)[0]

    return jax.jit(epoch, donate_argnums=0)


def convolve_by_patches(model: keras.Model) -> None:
    """Let each convolution of stride 1 be a matrix product over patches.

    Of K members it is a batched matrix product; vmap makes a grouped convolution of XLA's own, whose gradient is slow.

    Source: https://github.com/jax-ml/jax/issues/13800
    """
    for layer in model._flatten_layers():
        if type(layer) is layers.Conv2D and layer.strides == (1, 1):
            layer.convolution_op = partial(_by_patches, padding=layer.padding)


def _by_patches(inputs: Any, kernel: Any, padding: str) -> Any:
    """Convolve (n, height, width, channels) with (rows, columns, channels, filters); padding is `same` or `valid`."""
    rows, columns, channels, filters = kernel.shape
    if padding == "same":
        margins = [((side - 1) // 2, side // 2) for side in (rows, columns)]
        inputs = ops.pad(inputs, ((0, 0), *margins, (0, 0)))
    height, width = inputs.shape[1] - rows + 1, inputs.shape[2] - columns + 1
    shifted = [inputs[:, y : y + height, x : x + width] for y in range(rows) for x in range(columns)]
    patches = ops.concatenate(shifted, axis=-1)
    return ops.matmul(patches, ops.reshape(kernel, (rows * columns * channels, filters)))


@contextmanager
def _rates(optimizer: keras.optimizers.Optimizer, rate: Any, decay: Any) -> Iterator[None]:
    """Let an optimizer be traced with a learning rate and a weight decay that are arguments of the step."""
    schedule, fixed = optimizer._learning_rate, optimizer.weight_decay
    optimizer.learning_rate, optimizer.weight_decay = (lambda: rate), decay
    try:
        yield
    finally:
        optimizer.learning_rate, optimizer.weight_decay = schedule, fixed


def _place_of_pixels(trainee: keras.Model) -> int:
    return next(place for place, variable in enumerate(trainee.non_trainable_variables) if _is_pixels(variable))


def _is_pixels(variable: keras.Variable) -> bool:
    return PIXELS in variable.path
