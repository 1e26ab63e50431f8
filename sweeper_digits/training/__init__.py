"""One run, in three steps: prepare, fit, keep. This room does not import Optuna.

Reading order:
    run           one run or all its folds, and its metrics
    prepare       from a config to data, a model and a compiled optimizer
    fit           the epochs; returns what was measured
    keep          weights, scores and predictions into the run folder, then pictures
    feed          how images reach a training step
    network       what surrounds a model's function: pixels before it, probabilities behind it
    augmentation  random changes of images
    optimizers    optimizers and learning rate schedules
    validation    what is measured after each epoch on the validation images
    callbacks     history, best weights, checkpoint and clean epochs
    reporting     the trial that a training reports to
    context       what a callback may know of its run
    trackers      callbacks that record a run elsewhere
    continued     the earlier run that a run continues or repeats, and whether its images are these
    plan          what a run prints before and after its epochs
    device        device, precision and threads
    figures       the pictures
    export        the model in other formats
    provenance    versions and the commit of the code
"""
