"""Hydra + Optuna sweeps for Keras classifiers of small images.

Reading order, each line after what it imports:
    errors, text, quiet, program, imports  what all others need
    overrides, schema, components          what a user can say, and what can be registered
    config, url, habits                    the whole config
    screen, bad_input, live                what a user sees
    data                                   from a file to arrays
    runs                                   what a run leaves in its folder
    training                               one run
    sweep                                  many runs
    help_text, command_line                `python train.py`
    results, predict                       decisions and predictions from runs that exist
    editors, __main__                      the other verbs
    notebook                               `from sweeper_digits import train`
"""

import importlib
from typing import TYPE_CHECKING, Any

from sweeper_digits.components import register

if TYPE_CHECKING:
    from sweeper_digits.notebook import Run, compare, compose, search, train

__all__ = ["Run", "compare", "compose", "register", "search", "train"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the calls from Python only when one is used: whoever registers a component needs none of them."""
    if name in __all__:
        return getattr(importlib.import_module("sweeper_digits.notebook"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
