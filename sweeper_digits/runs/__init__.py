"""What a run leaves in its folder. This room imports neither Keras nor Optuna.

Reading order:
    folder       every file of a run: its name, its writer, its reader
    claim        a folder belongs to one run
    process      which process wrote something, and whether it still runs
    predictions  a run's validation predictions and their scores
    damage       what its files may hold, and what makes a run unreadable
    record       a run that exists: read whole, or marked unreadable
    noise        standard errors over validation images, and the runs that they tell apart
    origin       what a command composes from beside conf/
    begun        what a run was begun with, which holds where it goes on
    upgrade      options of runs of earlier versions, as today's runs have them
    recipe       the overrides that repeat a run, or continue it
"""
