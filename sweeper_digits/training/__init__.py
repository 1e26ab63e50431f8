"""One run. This room does not import Optuna.

Reading order:
    run           one run or all its folds, and its metrics
    continued     the earlier run that a run continues or repeats, and whether its images are these
    fit           a training: prepared, fitted, and kept in the run folder
    feed          how images reach a training step
    networks      the models that conf/ names
    network       what surrounds a model's function: pixels before it, probabilities behind it
    registered    the augmentations, optimizers, schedules and objectives that conf/ names
    augmentation  random changes of images
    optimizers    optimizers and learning rate schedules
    validation    what is measured after each epoch on the validation images
    callbacks     history, best weights, checkpoint and clean epochs
    reporting     the trial that a training reports to
    context       what a callback may know of its run
    trackers      callbacks that record a run elsewhere
    device        device, precision and threads
    figures       the pictures
    export        the model in other formats
"""
