"""Which parameters mattered, and which values the best runs have."""

import warnings
from collections import Counter
from typing import NamedTuple

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeper_digits.screen import printable
from sweeper_digits.sweep.trials import best_first, trials_of

# Of fewer finished runs nothing is said.
LEAST_RUNS = 10
# Of more, as many are taken, spread evenly: fANOVA's time grows faster than their number.
MOST_RUNS = 400
TREES = 64  # fANOVA's own default
SHOWN = 6


class Importance(NamedTuple):
    """A parameter, the share of the variation between runs that it explains, 0-1, and its values in the best runs."""

    name: str
    share: float
    best: str


def importances(study: optuna.Study) -> list[Importance]:
    """Return the parameters that mattered most, the first objective counts; nothing of too few runs, or of equal ones.

    Args:
        study: The runs, as `as_study` gives them.
    """
    complete = [trial for trial in trials_of(study) if trial.state == TrialState.COMPLETE]
    if len(complete) < LEAST_RUNS or len({trial.values[0] for trial in complete}) < 2:
        return []
    step = -(-len(complete) // MOST_RUNS)
    single = optuna.create_study(direction=study.directions[0])
    single.add_trials([_with_one_value(trial) for trial in complete[::step]])
    # Not Optuna's default, PED-ANOVA, which looks at the best tenth: of 12 finished trials, at one or two.
    fanova = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES // 4 if step > 1 else TREES, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna's, of importances that stand on few trials
        try:
            shares = optuna.importance.get_param_importances(single, evaluator=fanova)
        except RuntimeError:  # "zero total variance in all trees"
            return []
    single.add_trials([_with_one_value(trial) for place, trial in enumerate(complete) if place % step])
    ranked = best_first(single)
    found = [Importance(name, share, _best_values(ranked, name)) for name, share in shares.items()]
    return sorted(found, key=lambda one: -one.share)[:SHOWN]


def _with_one_value(trial: FrozenTrial) -> FrozenTrial:
    return optuna.create_trial(params=trial.params, distributions=trial.distributions, value=trial.values[0])


def _best_values(ranked: list[FrozenTrial], name: str) -> str:
    """Return the range of a parameter in the best tenth of the runs, at least three; of choices, the commonest."""
    having = [trial for trial in ranked if name in trial.params]
    best = having[: max(3, len(having) // 10)]
    values = [trial.params[name] for trial in best]
    if any(isinstance(trial.distributions[name], CategoricalDistribution) for trial in best):
        (value, count), *_ = Counter(map(str, values)).most_common()
        return f"{printable(value)} in {count} of {len(values)}"
    return f"{min(values):.3g}" if min(values) == max(values) else f"{min(values):.3g} to {max(values):.3g}"
