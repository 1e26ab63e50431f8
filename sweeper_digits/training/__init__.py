"""One run, in three steps: prepare, fit, keep. This room does not import Optuna.

Reading order:
    run           one run or all its folds, and its metrics
    prepare       from a config to data, a model and a compiled optimizer
    fit           the epochs; returns what was measured
    keep          weights, scores and predictions into the run folder, then pictures
    feed          how images reach a training step
    models        the network
    augmentation  random changes of images
    optimizers    optimizers and learning rate schedules
    callbacks     history, best weights, checkpoint and clean epochs
    reporting     the trial that a training reports to
    context       what a callback may know of its run
    trackers      callbacks that record a run elsewhere
    device        device, precision and threads
    figures       the pictures
    export        the model in other formats
    provenance    versions and the commit of the code
"""
