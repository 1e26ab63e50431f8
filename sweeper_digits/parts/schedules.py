"""The learning-rate schedules: linear warm-up to the optimizer's learning rate, then a decay."""

from typing import TYPE_CHECKING, Annotated

from sweeper_digits.errors import INFINITY
from sweeper_digits.registry import register
from sweeper_digits.signature import Range

if TYPE_CHECKING:
    from sweeper_digits.training.optimizers import WarmupDecay

Epochs = Annotated[float, Range(0, INFINITY, open_high=True)]


@register("schedule")
def constant(peak: float, steps: int, steps_per_epoch: int, warmup_epochs: Epochs) -> "WarmupDecay":
    """No decay.

    Args:
        peak: The optimizer's learning rate.
        steps: Of the whole training.
        steps_per_epoch: Of one epoch.
        warmup_epochs: Epochs in which the rate rises to the peak.
    """
    return _decay("constant", peak, steps, steps_per_epoch, warmup_epochs, 1.0)


@register("schedule")
def cosine(
    peak: float, steps: int, steps_per_epoch: int, warmup_epochs: Epochs, final_fraction: Annotated[float, Range(0, 1)]
) -> "WarmupDecay":
    """Half a cosine.

    Args:
        peak: The optimizer's learning rate.
        steps: Of the whole training.
        steps_per_epoch: Of one epoch.
        warmup_epochs: Epochs in which the rate rises to the peak.
        final_fraction: Share of the peak that is left at the end.
    """
    return _decay("cosine", peak, steps, steps_per_epoch, warmup_epochs, final_fraction)


@register("schedule")
def exponential(
    peak: float,
    steps: int,
    steps_per_epoch: int,
    warmup_epochs: Epochs,
    final_fraction: Annotated[float, Range(0, 1, open_low=True)],
) -> "WarmupDecay":
    """Exponential decay.

    Args:
        peak: The optimizer's learning rate.
        steps: Of the whole training.
        steps_per_epoch: Of one epoch.
        warmup_epochs: Epochs in which the rate rises to the peak.
        final_fraction: Share of the peak that is left at the end.
    """
    return _decay("exponential", peak, steps, steps_per_epoch, warmup_epochs, final_fraction)


def _decay(shape: str, peak: float, steps: int, per_epoch: int, warmup: float, final_fraction: float) -> "WarmupDecay":
    from sweeper_digits.training.optimizers import WarmupDecay

    return WarmupDecay(peak, steps, round(warmup * per_epoch), shape, final_fraction)
