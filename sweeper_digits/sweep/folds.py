"""Pruning in a sweep whose trials train all folds."""

import copy

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

# Pruners that compare the best value of all of a trial's steps so far with the other trials' values at its last step.
BEST_OF_ALL_STEPS = ("MedianPruner", "PercentilePruner", "PatientPruner", "PeerPruner")


class FoldPruner(BasePruner):
    """Show a pruner only those steps of a trial that belong to its current fold.

    The steps go on counting over the folds. Of all steps, the best value would stay that of an easy first fold, and no
    trial would be pruned in a harder one.

    Args:
        wrapped_pruner: The pruner that judges.
        epochs: Steps of a fold, unless the sweep searches them.
        n_warmup_steps: Epochs at the beginning of each fold in which no trial is pruned; at most all but one.
    """

    def __init__(self, wrapped_pruner: BasePruner, epochs: int, n_warmup_steps: int) -> None:
        self.wrapped, self.epochs, self.warmup = wrapped_pruner, epochs, min(n_warmup_steps, epochs - 1)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether the trial is to stop, after the last value that it reported."""
        if trial.last_step is None:
            return False
        epoch = trial.last_step % int(trial.params.get("epochs", self.epochs))
        if epoch < self.warmup:
            return False
        shown, first = copy.copy(trial), trial.last_step - epoch
        shown.intermediate_values = {step: v for step, v in trial.intermediate_values.items() if step >= first}
        return self.wrapped.prune(study, shown)
