"""Hydra + Optuna sweeps for Keras digit classifiers.

Reading order:
    what can be said    schema, command_line, errors
    one run             data, split, augmentation, models, optimizers, device, callbacks, training, run, figures
    a sweep             sweeper, space, storage, study, trial, life, worker, remote, supervisor
    runs that exist     records, recipe, predictions, compare, report, confirm, predict, exporting, doctor, __main__
"""

__version__ = "0.1.0"
