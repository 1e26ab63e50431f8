"""Weights of an ensemble."""

import numpy as np
import pytest

from sweeper_digits.predict.ensemble import greedy_weights, weights_by_loss
from sweeper_digits.runs.predictions import log_loss


def test_greedy_selection_finds_the_models_that_complement_each_other() -> None:
    labels = np.zeros(100, int)

    def model(good: slice) -> np.ndarray:
        table = np.full((100, 10), 0.1)
        table[good] = [0.91, *[0.01] * 9]
        return table

    halves = np.stack([model(slice(0, 50)), model(slice(0, 40)), model(slice(50, 100))])
    weights = greedy_weights(halves, labels)
    assert weights[1] == 0 and weights[0] == pytest.approx(0.5, abs=0.02) and weights.sum() == pytest.approx(1)

    def loss(weights: np.ndarray) -> float:
        return log_loss(np.tensordot(weights, halves, 1), labels)

    assert loss(weights) < min(loss(np.eye(3)[i]) for i in range(3))
    assert weights_by_loss([0.1, 0.3]).tolist() == pytest.approx([0.75, 0.25])
