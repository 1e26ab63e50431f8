"""What `--json` prints of runs, configurations, differences and scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sweeper_digits.results.images import Looked
from sweeper_digits.results.mixture import describe_mixture
from sweeper_digits.results.repetitions import Configuration
from sweeper_digits.results.statistics import Difference, judge_winner
from sweeper_digits.runs.noise import standard_error
from sweeper_digits.runs.predictions import accuracy, by_class, error_of_mean, log_loss, right_and_losses
from sweeper_digits.runs.record import Record, direction_of


def run_row(record: Record, objective: str) -> dict[str, Any]:
    """Return a run's folder and its value, with the standard error of the value over the validation images."""
    value, error = record.value(objective), standard_error(record, objective)
    return {"folder": record.run.folder, "value": value, "value_se": error}


def configuration_row(group: Configuration, objective: str) -> dict[str, Any]:
    """Return what is known of a configuration: its best run, and the mean over its seeds and folds.

    `interval` is half the width of a 95 % interval of the mean; null of one run, and of equal ones.
    """
    values = [{"seed": seed, "fold": fold, "value": value} for (seed, fold), value in group.samples.items()]
    return {
        **run_row(group.runs[0], objective),
        "mean": group.mean,
        "interval": group.interval,
        "covers": group.covers or None,
        "values": values,
    }


def difference_row(difference: Difference | None) -> dict[str, Any]:
    """Return how a configuration differs from the best: `apart` is null where nothing tells."""
    if difference is None:
        return {"apart": None, "worse_by": None, "worse_by_interval": None, "verdict": None}
    return {
        "apart": difference.differ,
        "worse_by": difference.worse,
        "worse_by_interval": difference.half,
        "verdict": difference.text,
    }


def verdict_of(found: list[Record], groups: list[Configuration], objective: str) -> dict[str, Any]:
    """Return how sure it is that the best configuration is the best; `compare --verdict --json` prints it.

    Args:
        found: The runs.
        groups: Their configurations, best first.
        objective: What they are ranked by.
    """
    winner = judge_winner(groups, objective)
    first, second = (configuration_row(groups[n], objective) if len(groups) > n else None for n in (0, 1))
    return {
        "objective": objective,
        "direction": direction_of(found, objective),
        "runs": len(found),
        "finished": sum(record.finished for record in found),
        "configurations": len(groups),
        "best": first,
        "second": second and second | difference_row(winner.second),
        "others_within_noise": winner.within,
        "others_not_judged": winner.unknown,
        "validation_images_needed": winner.needed,
        "lines": winner.lines,
        "warnings": describe_mixture(found),
    }


def model_rows(chosen: list[Record], weights: np.ndarray) -> list[dict[str, Any]]:
    """Return the runs that predict together, each with its weight and its val_loss."""
    rows = []
    for record, weight in zip(chosen, weights, strict=True):
        loss = run_row(record, "val_loss")
        rows.append(
            {"folder": loss["folder"], "weight": weight, "val_loss": loss["value"], "val_loss_se": loss["value_se"]}
        )
    return rows


def data_row(looked: Looked) -> dict[str, Any]:
    """Return which images were predicted, and how many of them the runs knew; null where it is not known."""
    return {
        "source": looked.dataset.source,
        "part": looked.part,
        "images": len(looked.dataset.images),
        "trained_on": looked.trained.sum() if looked.known else None,
        "validated_on": looked.validated.sum() if looked.known else None,
        "relabelled": looked.relabelled.sum() if looked.known else None,
        "locked_for_testing": looked.locked.any(axis=0).sum() if looked.known else None,
        "notes": list(looked.dataset.notes),
    }


def scores_row(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], caveat: str) -> dict[str, Any]:
    """Return accuracy and log loss, each with its standard error over the images, and what each class got.

    Args:
        probabilities: float (n, classes).
        labels: int (n,), places in the classes.
        classes: Their names.
        caveat: As `format_scores` takes it.
    """
    right, losses = right_and_losses(probabilities, labels)
    return {
        "accuracy": accuracy(probabilities, labels),
        "accuracy_se": error_of_mean(right),
        "log_loss": log_loss(probabilities, labels),
        "log_loss_se": error_of_mean(losses),
        "wrong": (~right).sum(),
        "caveat": caveat.removeprefix("; ") or None,
        "classes": list(classes),
        **by_class(probabilities, labels, classes),
    }
