"""What a run leaves in its folder. This room imports neither Keras nor Optuna.

Reading order:
    folder       every file of a run: its name, its writer, its reader
    own_folder   a folder belongs to one run
    process      which process wrote something, and whether it still runs
    predictions  a run's validation predictions and their scores
    record       a run that exists: read whole, or marked unreadable
    judge        how sure it is that one run or configuration is better than another
    begun        what a run was begun with, which holds where it goes on
    origin       what a command composes from beside conf/
    recipe       the overrides that repeat a run, or continue it
"""
