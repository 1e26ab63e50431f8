"""Which parameters mattered, and which values the best runs have."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState
from scipy import stats
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import r2_score

from sweeper_digits.sweep.record import trials_of
from sweeper_digits.text import printable

# Of fewer finished runs nothing is said.
LEAST_RUNS = 10
TREES = 64
# The values of a parameter are shuffled so often that at least as many rows are predicted: few runs make a rough mean.
LEAST_ROWS = 2000
SHOWN = 6


class Importance(NamedTuple):
    """A parameter, the share of the variation between runs that it explains, 0-1, and its values in the best runs."""

    name: str
    share: float
    best: str


class Importances(NamedTuple):
    """The share of the variance of the ranks that the parameters explain together, and each, the largest share first.

    `explained` is None where nothing can be judged. Where it is not above 0, no parameter is named.
    """

    explained: float | None
    parameters: list[Importance]


def importances(study: optuna.Study) -> Importances:
    """Return how much of the ranks the parameters explain that all complete and pruned runs have.

    Finished runs rank by the first objective. Pruned ones follow: the later it was pruned, the better a run. Among the
    finished ones alone, a bad option would not matter: its runs were pruned.

    Args:
        study: The runs, as `as_study` gives them.
    """
    sign = -1 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else 1
    runs = [trial for trial in trials_of(study) if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    keys = [_place(trial, sign) for trial in runs]
    order = {key: place for place, key in enumerate(sorted(set(keys)))}
    ranks = stats.rankdata([order[key] for key in keys])
    shared = set.intersection(*({*trial.params} for trial in runs)) if runs else set()
    names = [name for name in sorted(shared) if len({str(trial.params[name]) for trial in runs}) > 1]
    if len(runs) < LEAST_RUNS or np.ptp(ranks) == 0 or not names:
        return Importances(None, [])
    explained, shares = _explain([_encode(runs, name) for name in names], ranks)
    if not shares:
        return Importances(explained, [])
    ranked = [runs[place] for place in np.argsort(ranks, kind="stable")]
    found = [Importance(name, share, _best_values(ranked, name)) for name, share in zip(names, shares, strict=True)]
    return Importances(explained, sorted(found, key=lambda one: -one.share)[:SHOWN])


def _place(trial: FrozenTrial, sign: float) -> tuple[float, float]:
    """Return what a run is sorted by: finished or not and how long it trained, then how good it was."""
    if trial.state == TrialState.COMPLETE:
        return -math.inf, sign * trial.values[0]
    return -len(trial.intermediate_values), min(trial.intermediate_values.values(), default=math.inf)


def _encode(runs: list[FrozenTrial], name: str) -> np.ndarray:
    """Return a parameter as float (runs, columns): a number in one column, a choice in one for each of its values."""
    values = [trial.params[name] for trial in runs]
    if not any(isinstance(trial.distributions[name], CategoricalDistribution) for trial in runs):
        return np.array(values, float)[:, np.newaxis]
    texts = np.array([str(value) for value in values])
    return (texts[:, np.newaxis] == np.unique(texts)).astype(float)


def _explain(columns: Sequence[np.ndarray], values: np.ndarray) -> tuple[float, list[float]]:
    """Return the out-of-bag R² of a random forest, and if it is above 0, what a shuffled parameter takes from it.

    A forest that is asked about the runs that it was fitted to, as fANOVA asks it, finds parameters in noise too. What
    is lost is covariance of values and predictions. Parameters that act together both lose what they explain together.

    Args:
        columns: Of each parameter, float (runs, columns).
        values: float (runs,), not all equal.
    """
    number = len(values)
    # A leaf of one run is that run's luck.
    forest = RandomForestRegressor(TREES, min_samples_leaf=2, random_state=0).fit(np.hstack(columns), values)
    unseen = np.stack([~np.isin(np.arange(number), drawn) for drawn in forest.estimators_samples_])

    def predict(rows: Sequence[np.ndarray]) -> np.ndarray:
        table = np.hstack(rows)
        asked = np.tile(unseen, len(table) // number)
        predicted = np.stack([tree.predict(table) for tree in forest.estimators_])
        return np.asarray((predicted * asked).sum(axis=0) / asked.sum(axis=0))

    plain = predict(columns)
    explained = float(r2_score(values, plain))
    if not explained > 0:
        return explained, []
    repeats = -(-LEAST_ROWS // number)
    deviations = values - values.mean()
    draw = np.random.default_rng(0)
    shares = []
    for place, own in enumerate(columns):
        rows = [np.tile(column, (repeats, 1)) for column in columns]
        rows[place] = own[np.concatenate([draw.permutation(number) for _ in range(repeats)])]
        kept = np.tile(deviations, repeats) @ predict(rows) / repeats
        shares.append(explained * float(np.clip(1 - kept / (deviations @ plain), 0, 1)))
    return explained, shares


def _best_values(ranked: list[FrozenTrial], name: str) -> str:
    """Return the range of a parameter in the best tenth of the runs, at least three; of choices, the commonest."""
    having = [trial for trial in ranked if name in trial.params]
    best = having[: max(3, len(having) // 10)]
    values = [trial.params[name] for trial in best]
    if any(isinstance(trial.distributions[name], CategoricalDistribution) for trial in best):
        (value, count), *_ = Counter(map(str, values)).most_common()
        return f"{printable(value)} in {count} of {len(values)}"
    return f"{min(values):.3g}" if min(values) == max(values) else f"{min(values):.3g} to {max(values):.3g}"
