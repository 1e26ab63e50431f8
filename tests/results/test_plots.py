"""Plots say what the runs say."""

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution

from sweeper_digits.results.plots import draw_plots


def test_importances_of_few_trials_name_what_matters() -> None:
    study = optuna.create_study()
    draw = np.random.default_rng(0)
    for number in range(12):
        depth, decay = number % 3 > 0, draw.uniform(0, 0.1)
        trial = optuna.create_trial(
            params={"depth": int(depth) + 1, "decay": decay},
            distributions={"depth": IntDistribution(1, 2), "decay": FloatDistribution(0, 0.1)},
            value=0.025 - 0.008 * depth + draw.normal(0, 0.0005),
        )
        study.add_trial(trial)
    drawn = {title: figure for title, _, figure in draw_plots(study, [], ["val_loss"], None, ())}
    (bars,) = drawn["Parameter importances"]["data"]
    shares = dict(zip(bars["y"], bars["x"], strict=True))
    assert shares["depth"] > 0.8 > 0.2 > shares["decay"]
