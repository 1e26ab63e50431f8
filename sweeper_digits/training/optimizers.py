"""Optimizer and learning-rate schedule."""

import math
from typing import Any

import keras
from keras import ops

from sweeper_digits import components
from sweeper_digits.errors import UserError


class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to the peak, then constant, cosine or exponential decay.

    Args:
        peak: Highest learning rate.
        steps: Steps of the whole training.
        warmup_steps: Steps in which the rate rises from peak / warmup_steps to the peak.
        shape: `constant`, `cosine` (Loshchilov & Hutter 2016, https://arxiv.org/abs/1608.03983) or `exponential`.
        final_fraction: Share of the peak that is reached at the last step, in [0, 1]; above 0 for `exponential`.
    """

    def __init__(self, peak: float, steps: int, warmup_steps: int, shape: str, final_fraction: float) -> None:
        self.peak, self.steps, self.warmup_steps = peak, steps, warmup_steps
        self.shape, self.final_fraction = shape, final_fraction

    def __call__(self, step):  # type: ignore[no-untyped-def]
        """Return the learning rate, float32, of a step counted from 0."""
        step = ops.cast(step, "float32")
        warmup = ops.minimum(1.0, (step + 1) / max(self.warmup_steps, 1))
        done = ops.clip((step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1), 0.0, 1.0)
        if self.shape == "cosine":
            decay = self.final_fraction + (1 - self.final_fraction) * (1 + ops.cos(math.pi * done)) / 2
        elif self.shape == "exponential":
            decay = self.final_fraction**done
        else:
            decay = ops.ones_like(done)
        return self.peak * warmup * decay


def build_optimizer(
    optimizer: Any, schedule: Any, steps_per_epoch: int, epochs: int, output_layer: str
) -> keras.optimizers.Optimizer:
    """Build the optimizer with its schedule; weight decay spares biases and normalization.

    Args:
        optimizer: An option of the config group `optimizer`.
        schedule: An option of the config group `schedule`.
        steps_per_epoch: The steps per epoch of the training.
        epochs: The epochs of the training.
        output_layer: Name of the layer that makes the logits.

    Raises:
        UserError: A registered function that returns something else.
    """
    component = components.find("optimizer", vars(optimizer))
    built = component.build(optimizer, output_layer=output_layer)
    if not isinstance(built, keras.optimizers.Optimizer):
        raise UserError(
            f"{component.where}: {component.name}: it returns {type(built).__name__}; a Keras optimizer is expected"
        )
    inner = unwrapped(built)
    if not inner.weight_decay:
        inner.weight_decay = None  # else Keras multiplies every weight by 1 at every step
    inner.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    component = components.find("schedule", vars(schedule))
    steps = steps_per_epoch * epochs
    rate = component.build(schedule, peak=optimizer.learning_rate, steps=steps, steps_per_epoch=steps_per_epoch)
    if not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        made = type(rate).__name__
        raise UserError(
            f"{component.where}: {component.name}: it returns {made}; one of keras.optimizers.schedules is expected"
        )
    built.learning_rate = rate
    return built


def unwrapped(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the optimizer that makes the steps.

    For float16, Keras wraps it in one that scales the loss. That one hands on the learning rate and the iterations, but
    has a `use_ema` and a `weight_decay` of its own, which say nothing.
    """
    return getattr(optimizer, "inner_optimizer", optimizer)
