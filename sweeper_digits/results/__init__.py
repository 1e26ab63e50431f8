"""Decisions from runs that exist: one module for each verb of `python -m sweeper_digits`, and its parts.

Reading order:
    compare      the table of runs: filter, sort and group
    grouping     which settings differ; the values of one, with the runs that did not finish
    repeat       the commands that repeat a run, and its recipe as an experiment
    watch        the report again, whenever runs go on
    repetitions  means and intervals of a configuration over its seeds and folds, and which is first
    statistics   whether two configurations differ, and how many may be the best
    mixture      runs whose values do not compare
    report       report.html
    plots        the figures of the report
    importance   which parameters mattered, and what their best values were
    suspects     labels that are probably wrong
    steps        what to do next, as commands
    confirm      the finalists of a sweep on new seeds or folds
    predict      scores and predictions of one model or several
    single       which of its paths are runs, and which are pictures
    adapt        data in the light and dark that a model was trained on
    images       which images are looked at, and what the runs did with them
    scores       accuracy and log loss, and the note that a locked image was looked at
    ensemble     which runs predict together, and with which weights
    submission   Kaggle's submission file
    replay       which pruner a sweep would have needed
    rows         what `--json` prints of runs, configurations and scores
    document     what `--json` prints, as text
    studies      studies in their database, for the verbs below
    doctor       what is stuck in a study, and its repair
    status       a sweep as its own terminal shows it
    enqueue      adds a point to a sweep that runs
    stop         ends a trial or the sweep
    change       changes the budget and the number of workers
"""
