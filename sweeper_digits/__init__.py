"""Hydra + Optuna sweeps for Keras classifiers of small images.

Reading order, each line after what it imports:
    errors, overrides, program, passwords, quiet, options  what all others need
    imports, signature, registry                           what a user's own code brings
    screen, live, schema, json_schema                      what a user can say, and what a user sees
    data                                                   from a file to arrays
    runs                                                   what a run leaves in its folder
    training                                               one run
    parts                                                  what a config can name
    sweep, arguments, help_text, command_line              many runs, and `python train.py`
    replay                                                 searches without their trainings
    editors, results, __main__                             decisions from runs that exist: `sweeper-digits`
    surroundings, interactive                              `from sweeper_digits import train`
"""

import importlib
from typing import TYPE_CHECKING, Any

from sweeper_digits.registry import register
from sweeper_digits.signature import Range

if TYPE_CHECKING:
    from sweeper_digits.interactive import Run, compare, compose, search, train

__all__ = ["Range", "Run", "compare", "compose", "register", "search", "train"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the calls from Python only when one is used: whoever registers a part needs none of them."""
    if name in __all__:
        return getattr(importlib.import_module("sweeper_digits.interactive"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
