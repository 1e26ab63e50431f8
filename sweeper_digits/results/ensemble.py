"""Which runs predict together, and with which weights."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweeper_digits.errors import UserError
from sweeper_digits.options import Split
from sweeper_digits.runs.folder import FOLD, RunFolder
from sweeper_digits.runs.predictions import LEAST
from sweeper_digits.runs.record import Record, best_first, find_runs, objectives_of, saved_option


@dataclass
class Member:
    """One model of an ensemble.

    Attributes:
        record: The run that it belongs to.
        run: The folder with its model.keras: the run's, or that of a fold.
        split: Which images it trained on; of a fold, with the fold's number.
        weight: Its share of the average.
    """

    record: Record
    run: RunFolder
    split: Split
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
        if (ours := _data_of(record)) != (theirs := _data_of(chosen[0])):
            raise UserError(
                f"{record.run.folder}: trained on {ours}, but {chosen[0].run.folder} on {theirs}; choose one"
            )
        if record.classes != chosen[0].classes:
            raise UserError(
                f"{record.run.folder}: knows {len(record.classes)} classes, but {chosen[0].run.folder} "
                f"{len(chosen[0].classes)} others; choose one"
            )
    return chosen, candidates


def predict_together(first: Record, second: Record) -> bool:
    """Return whether the models of two runs can be averaged: they know the same data, and the same classes."""
    return _data_of(first) == _data_of(second) and first.classes == second.classes


def weigh_members(chosen: list[Record], how: str) -> np.ndarray:
    """Return each run's weight in the average, float64 (runs,), sum 1.

    Args:
        chosen: The runs.
        how: `equal`, `loss` (inverse validation loss) or `greedy` (chosen on validation predictions).

    Raises:
        UserError: `loss` with a run without val_loss; `greedy` with runs validated on different images.
    """
    if how == "equal" or len(chosen) == 1:
        return np.full(len(chosen), 1 / len(chosen))
    if how == "loss":
        losses = [record.value("val_loss") for record in chosen]
        if missing := [record for record, loss in zip(chosen, losses, strict=True) if loss is None]:
            raise UserError(f"--weights loss: {missing[0].run.folder} has no val_loss")
        return weights_by_loss([loss for loss in losses if loss is not None])
    saved = [record.run.read_validation() for record in chosen]
    orders = [np.argsort(one.images) for one in saved]  # folds come in another order
    for one, order, record in zip(saved, orders, chosen, strict=True):
        if not np.array_equal(one.images[order], saved[0].images[orders[0]]):
            raise UserError(f"--weights greedy: {record.run.folder} was validated on other images; use equal or loss")
    candidates = np.stack([one.probabilities[order] for one, order in zip(saved, orders, strict=True)])
    return greedy_weights(candidates, saved[0].labels[orders[0]])


def models_of(chosen: list[Record], weights: np.ndarray) -> list[Member]:
    """Return the models of runs with these weights; a run's folds share its weight, a run of weight 0 is left out."""
    members = []
    for record, weight in zip(chosen, weights, strict=True):
        runs = record.run.models() if weight else []
        for run in runs:
            split = saved_option(record, "split")
            if run is not record.run and (match := FOLD.fullmatch(run.folder.name)):
                split = dataclasses.replace(split, fold=int(match[1]))
            members.append(Member(record, run, split, float(weight) / len(runs)))
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


def _data_of(record: Record) -> str:
    names = sorted(name for name in record.settings if name.split(".")[0] == "data" and not name.endswith("_target_"))
    return " ".join(f"{name}={record.settings[name]}" for name in names if name != "data.part")
