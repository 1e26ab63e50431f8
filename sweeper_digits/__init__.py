"""Hydra + Optuna sweeps for Keras classifiers of small images.

Reading order, each line after what it imports:
    errors, program, options, signature, registry, screen, schema
                                                           what a user can say, and what a user sees
    data                                                   from a file to arrays
    runs                                                   what a run leaves in its folder
    training                                               one run
    parts                                                  what a config can name
    sweep                                                  many runs
    results                                                decisions from runs that exist
    command_line, json_schema, editors, __main__           `python train.py`, `sweeper-digits`
"""

from sweeper_digits.registry import register
from sweeper_digits.signature import Range

__all__ = ["Range", "register"]
__version__ = "0.1.0"
