"""Optimizer and learning-rate schedule."""

import math

import keras
from hydra.utils import instantiate
from keras import ops

from sweeper_digits import options


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
    optimizer: options.Optimizer, schedule: options.Schedule, steps_per_epoch: int, epochs: int
) -> keras.optimizers.Optimizer:
    """Build the optimizer with its schedule; weight decay spares biases and normalization."""
    built = instantiate(optimizer, _execution_whitelist_=options.TARGETS)
    if optimizer.weight_decay == 0:
        built.weight_decay = None  # else Keras multiplies every weight by 1 at every step
    built.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # Assigned, not passed: Hydra checks arguments against the declared type, float.
    built.learning_rate = WarmupDecay(
        optimizer.learning_rate,
        steps=steps_per_epoch * epochs,
        warmup_steps=round(schedule.warmup_epochs * steps_per_epoch),
        shape=schedule.shape,
        final_fraction=getattr(schedule, "final_fraction", 1.0),
    )
    return built


def muon(**options: float) -> keras.optimizers.Optimizer:
    """Muon for the hidden dense layers; AdamW, with the same decay, for the output and the rest.

    Source: https://kellerjordan.github.io/posts/muon/
    """
    return keras.optimizers.Muon(exclude_layers=["logits"], adam_weight_decay=options["weight_decay"], **options)
