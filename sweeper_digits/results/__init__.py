"""Decisions from runs that exist.

Reading order:
    compare      `compare`: the table, the verdict and the report
    table        the table of runs
    repeat       the commands that repeat a run, and its recipe as an experiment
    watch        the report again, whenever runs go on
    report       report.html
    plots        the figures of the report
    importance   which parameters mattered, and what their best values were
    suspects     labels that are probably wrong
    steps        what to do next, as commands
    confirm      `confirm`: the finalists of a sweep on new seeds or folds
    rows         what `--json` prints
    doctor       `doctor`: studies, their disk use, and what crashes and copies left in them
"""
