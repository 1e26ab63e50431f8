"""Many runs: a study, its queue, its workers. This room does not import Keras.

Reading order:
    plugin         the sweeper that Hydra loads
    record         every attribute of a study and of a trial
    reading        what of a database is believed
    storage        the database of studies, with retries
    private        what is used of other packages beside their public interface
    grammar        the search space as a user types it
    space          the search space, the fixed overrides and the objectives of a sweep
    points         the points of a finite space, and those that a user lists
    comparable     what makes the values of trials comparable
    budget         how much a sweep may use: trials, seconds, epochs
    steering       the budget and the number of workers, as a person changes them
    pruning        the pruners and the scouts
    choose_pruner  which pruner a sweep has
    sampler        how a point is drawn
    queue          which trial runs next, and which is tried again
    owner          to which study a sweep's folder belongs
    frozen         the sweep's copy of conf/, and the check that the sweep is unchanged
    study          opens a study and checks that it is the same sweep
    loop           ask for a trial, launch it, tell how it ended; until the budget is used
    slots          where jobs run: warm processes here, a launcher elsewhere
    local          one warm process
    gpus           the GPUs of this machine, dealt out
    job            a job's connection to its trial, its reports and heartbeats
    ending         how a trial ends, and what is told of one whose process is gone
    show           the screen of a sweep
    results_file   the result files of a sweep
    dashboard      a trial's pictures and command, for Optuna's dashboard
    verbs          `status`, `enqueue`, `stop` and `change`
"""
