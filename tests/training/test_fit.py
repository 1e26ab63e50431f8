"""What fit knows of a metric before it trains."""

import math

import numpy as np

from sweeper_digits.training.fit import _guessing

LABELS = np.array([0, 0, 0, 1])
ENTROPY = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))


def test_guessing_is_what_the_shares_of_the_classes_give() -> None:
    cases = [
        ("val_loss", LABELS, 1.001 * ENTROPY, True),
        ("val_loss", LABELS, 0.9 * ENTROPY, False),
        ("val_loss", LABELS, math.nan, True),
        ("val_loss", np.zeros(4, int), 0.5, False),
        ("val_accuracy", LABELS, 0.75, True),
        ("val_accuracy", LABELS, 0.8, False),
        ("macro_f1", LABELS, 0.0, False),
        ("val_loss", LABELS[:0], 9.0, False),
    ]
    assert [bool(_guessing(metric, labels)(value)) for metric, labels, value, _ in cases] == [case[3] for case in cases]
