"""The program's own parts: what conf/ names. Nothing heavy is imported before a part is built."""

from sweeper_digits.parts import augmentations, callbacks, networks, objectives, optimizers, schedules, sources

__all__ = ["augmentations", "callbacks", "networks", "objectives", "optimizers", "schedules", "sources"]
