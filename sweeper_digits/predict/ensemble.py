"""Which runs predict together, and with which weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import FOLD, RunFolder
from sweeper_digits.runs.predictions import LEAST
from sweeper_digits.runs.record import Record, best_first, find_runs, objectives_of


@dataclass
class Member:
    """One model of an ensemble.

    Attributes:
        record: The run that it belongs to.
        run: The folder with its model.keras: the run's, or that of a fold.
        fold: The fold that it was validated on, of a run with several; else None.
        weight: Its share of the average.
    """

    record: Record
    run: RunFolder
    fold: int | None
    weight: float


def choose_members(paths: Sequence[str | Path], top: int) -> tuple[list[Record], int]:
    """Return the best finished runs below the paths that have weights, best first, and from how many they are chosen.

    Those without weights count too: a sweep keeps the weights of its best runs only.

    Raises:
        UserError: None, or runs of different data.
    """
    found = find_runs(paths)
    ranked = best_first(found, objectives_of(found)[0])
    candidates = len(ranked)
    ranked += [record for record in found if record.finished and record not in ranked]  # without val_loss: split=all
    chosen = [record for record in ranked if record.run.models()][:top]
    if not chosen:
        raise UserError(f"{', '.join(map(str, paths))}: no finished run with a model.keras in it")
    for record in chosen[1:]:
        if not _same_data(record, chosen[0]):
            raise UserError(
                f"{record.run.folder}: trained on {_data_of(record)}, but {chosen[0].run.folder} on "
                f"{_data_of(chosen[0])}; choose one"
            )
        if record.classes != chosen[0].classes:
            raise UserError(
                f"{record.run.folder}: knows {len(record.classes)} classes, but {chosen[0].run.folder} "
                f"{len(chosen[0].classes)} others; choose one"
            )
    return chosen, candidates


def predict_together(first: Record, second: Record) -> bool:
    """Return whether the models of two runs can be averaged: they know the same data, and the same classes."""
    return _same_data(first, second) and first.classes == second.classes


def weigh_members(chosen: list[Record], how: str) -> np.ndarray:
    """Return each run's weight in the average, float64 (runs,), sum 1.

    Args:
        chosen: The runs.
        how: `equal`, `loss` (inverse validation loss) or `greedy` (chosen on validation predictions).

    Raises:
        UserError: `loss` with a run without val_loss; `greedy` with runs that were validated on different images, or
            did not keep which.
    """
    if how == "equal" or len(chosen) == 1:
        return np.full(len(chosen), 1 / len(chosen))
    if how == "loss":
        losses = [record.value("val_loss") for record in chosen]
        if missing := [record for record, loss in zip(chosen, losses, strict=True) if loss is None]:
            raise UserError(f"--weights loss: {missing[0].run.folder} has no val_loss")
        return weights_by_loss([loss for loss in losses if loss is not None])
    found = [record.run.read_by_content() for record in chosen]
    for one, record in zip(found, chosen, strict=True):
        if one.key is None or one.key != found[0].key:
            cause = "was validated on other images" if one.key else "did not keep which images it was validated on"
            raise UserError(f"--weights greedy: {record.run.folder} {cause}; use equal or loss")
    candidates = np.stack([one.saved.probabilities[one.order] for one in found])
    return greedy_weights(candidates, found[0].saved.labels[found[0].order])


def models_of(chosen: list[Record], weights: np.ndarray) -> list[Member]:
    """Return the models of runs with these weights; a run's folds share its weight, a run of weight 0 is left out."""
    members = []
    for record, weight in zip(chosen, weights, strict=True):
        runs = record.run.models() if weight else []
        for run in runs:
            match = FOLD.fullmatch(run.folder.name) if run is not record.run else None
            members.append(Member(record, run, int(match[1]) if match else None, float(weight) / len(runs)))
    return members


def weights_by_loss(losses: Sequence[float]) -> np.ndarray:
    """Return weights, sum 1, inversely proportional to validation losses."""
    inverse = 1 / np.maximum(losses, 1e-12)
    return inverse / inverse.sum()


def greedy_weights(candidates: np.ndarray, labels: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Choose an ensemble on validation predictions: add, with replacement, the model that helps most.

    Source: Caruana et al., Ensemble selection from libraries of models, ICML 2004.

    Args:
        candidates: float (models, n, classes), probabilities.
        labels: int (n,).
        rounds: Models added; the ensemble of the best round is taken.

    Returns:
        Weights, sum 1; 0 for a model that is not chosen.
    """
    truth = candidates[:, np.arange(len(labels)), labels]  # only the true label's probability matters
    chosen = np.zeros(len(candidates))
    total = np.zeros(len(labels))
    best, best_loss = chosen, np.inf
    for size in range(1, rounds + 1):
        losses = -np.log(np.maximum((total + truth) / size, np.exp(LEAST))).mean(axis=1)
        model = int(losses.argmin())
        total = total + truth[model]
        chosen = chosen.copy()
        chosen[model] += 1
        if losses[model] < best_loss - 1e-12:
            best, best_loss = chosen, losses[model]
    return best / best.sum()


def _same_data(first: Record, second: Record) -> bool:
    """Return whether two runs read the same images, or other subsets or states of the same file."""
    same_content = first.fingerprint is not None and first.fingerprint == second.fingerprint
    return same_content or _data_of(first) == _data_of(second)


def _data_of(record: Record) -> str:
    names = sorted(name for name in record.settings if name.split(".")[0] == "data" and not name.endswith("_target_"))
    return " ".join(f"{name}={record.settings[name]}" for name in names if name != "data.part")
