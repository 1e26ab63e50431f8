"""Many runs: a study, its queue, its workers. This room does not import Keras.

Reading order:
    plugin      the sweeper that Hydra loads
    space       the search space, the fixed overrides and the objectives of a sweep
    branches    the options of a space, and which parameters each has
    comparable  what all trials share, so that their values compare
    finite      the points of a finite space, and which were tried
    listed      the points of search.points
    hopeless    values that no run can have
    grammar     the search space as a user types it
    url         the URL of the database, without its password
    storage     the database of studies, with retries
    attributes  what is kept with a study and its trials, and of which kind it is
    reading     what of a database is believed
    study       opens a study and checks that it is the same sweep; the sampler
    pruners     the pruner, made for the sweep's epochs, folds and objectives
    peers       the default pruner: a trial among all others at its epoch
    front       the same with several objectives
    folds       pruning where a trial trains all folds
    prior       draws near the best point so far, the recipe at first
    scouts      first trials that stop early, the best of which begins anew
    budget      how much a sweep may use: trials, seconds, epochs
    queue       which trial runs next, and which is tried again
    trials      what the trials of a study say
    supervisor  starts workers, watches them and ends the sweep
    crew        worker processes and their cores
    gpus        the GPUs of this machine, dealt out to workers
    following   what a trial tells while it runs, and whether a person stops it
    steering    the budget and the number of workers, as a person changes them
    view        what a study says of its sweep at this moment
    table       the same on the screen: rows, a table, a summary
    dashboard   a trial's pictures and command, for Optuna's dashboard
    progress    the screen and the result files of a sweep
    claim       to which study a sweep's folder belongs
    content     what the data of a study is, and the check that it is unchanged
    frozen      the sweep's copy of conf/, and the check that the sweep is unchanged
    worker      the loop of one worker process
    private     what is used of other packages beside their public interface
    job         a trial that a launcher runs on another machine, and its heartbeats
"""
