"""Plots say what the runs say."""

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution

from sweeper_digits.results.importance import importances
from sweeper_digits.results.plots import draw_plots
from sweeper_digits.runs.predictions import Predictions


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
    shares = {name: share for name, share, _ in importances(study)}
    assert shares["depth"] > 0.8 > 0.2 > shares["decay"]


def test_a_confusion_matrix_names_the_classes_and_writes_no_zeros() -> None:
    labels, logs = np.array([0, 0, 1, 2]), np.log(np.full((4, 3), 0.1) + 0.7 * np.eye(3)[[0, 1, 1, 2]])
    saved = Predictions.of(np.arange(4), labels, np.exp(logs), np.zeros((4, 8, 8, 1), np.uint8))
    plots = draw_plots(optuna.create_study(), [], ["val_loss"], saved, ("a", "<b>", "10-12"))
    (drawn,) = [figure for title, _, figure in plots if title.startswith("Confusion")]
    assert drawn["layout"]["xaxis"]["ticktext"] == ["a", "&lt;b&gt;", "10-12"]
    assert np.array(drawn["data"][0]["text"]).tolist() == [["1", "1", ""], ["", "1", ""], ["", "", "1"]]
