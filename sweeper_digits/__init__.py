"""Hydra + Optuna sweeps for Keras classifiers of small images.

Reading order, each line after what it imports:
    errors, program, screen, sources, options, schema
                                               what a user can say, and what a user sees
    data                                       from a file to arrays
    runs                                       what a run leaves in its folder
    training                                   one run
    sweep                                      many runs
    results                                    decisions from runs that exist
    command_line, __main__                     `python train.py` and `python -m sweeper_digits`, or `sweeper-digits`
"""

__version__ = "0.1.0"
