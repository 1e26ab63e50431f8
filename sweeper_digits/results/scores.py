"""Scores of labelled images as text, and the note that a locked image was looked at."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report

from sweeper_digits.results.images import Looked
from sweeper_digits.runs.predictions import accuracy, confusion_matrix, error_of_mean, log_loss, right_and_losses
from sweeper_digits.runs.record import Record

WIDEST = 100  # columns of a terminal
MOST_CONFUSIONS = 20


def format_scores(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], caveat: str = "") -> str:
    """Return accuracy, log loss, figures for each label and the confusion matrix as text.

    A value behind ± is one standard error over the images.

    Args:
        probabilities: float (n, classes).
        labels: int (n,), places in the classes.
        classes: Their names.
        caveat: What the lines of accuracy and log loss say beside the value, with a semicolon in front.
    """
    predicted = probabilities.argmax(axis=1)
    right, losses = right_and_losses(probabilities, labels)
    report = classification_report(
        labels, predicted, labels=range(len(classes)), target_names=classes, digits=4, zero_division=np.nan
    )
    return "\n".join(
        [
            f"accuracy   {accuracy(probabilities, labels):.5f}{_error(right)} "
            f"({(~right).sum():,} of {len(labels):,} wrong{caveat})",
            f"log loss   {log_loss(probabilities, labels):.5f}{_error(losses)}{caveat and f' ({caveat[2:]})'}",
            "",
            report,
            _format_confusions(confusion_matrix(probabilities, labels), classes),
        ]
    )


def _format_confusions(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Return the matrix, or the most frequent confusions where the matrix is too wide for a terminal."""
    table = pd.DataFrame(matrix, classes, classes).rename_axis(index="true", columns="predicted")
    text: str = table.replace(0, ".").to_string()
    if max(map(len, text.splitlines())) <= WIDEST:
        return text
    mistakes = table.stack().rename("images").reset_index()
    mistakes = mistakes[(mistakes["true"] != mistakes["predicted"]) & (mistakes["images"] > 0)]
    if mistakes.empty:
        return "no confusions"
    most = mistakes.sort_values("images", ascending=False, kind="stable").head(MOST_CONFUSIONS)
    return f"the most frequent of {len(mistakes)} confusions\n{most.to_string(index=False)}"


def note_looks(chosen: list[Record], looked: Looked, probabilities: np.ndarray) -> None:
    """Write into the folder of each run that its locked images were looked at, with their scores if they have labels.

    Args:
        chosen: The runs.
        looked: The images.
        probabilities: float (n, classes).
    """
    for record, locked in zip(chosen, looked.locked, strict=True):
        if not locked.any():
            continue
        row = {
            "when": datetime.now().isoformat(timespec="seconds"),
            "models": len(chosen),
            "images": int(locked.sum()),
            "accuracy": "",
            "log_loss": "",
        }
        if (labels := looked.dataset.labels) is not None:
            row["accuracy"] = round(accuracy(probabilities[locked], labels[locked]), 6)
            row["log_loss"] = round(log_loss(probabilities[locked], labels[locked]), 6)
        record.run.append_test(row)
        if looked.part != "test":
            print(f"noted      {locked.sum():,} of the images are locked for testing: {record.run.tests}")


def _error(values: np.ndarray) -> str:
    return f" ± {error_of_mean(values):.5f}" if len(values) > 1 else ""
