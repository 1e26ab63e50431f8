"""The second step of a training: all epochs, with their callbacks."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from sweeper_digits import live
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.schema import epoch_metric
from sweeper_digits.training import reporting
from sweeper_digits.training.callbacks import BestWeights, Checkpoint, CleanEpochs, History, Report
from sweeper_digits.training.context import Watch
from sweeper_digits.training.feed import prediction_batches
from sweeper_digits.training.optimizers import unwrapped
from sweeper_digits.training.prepare import Prepared
from sweeper_digits.training.validation import Validation, objectives_of

log = logging.getLogger(__name__)

# A loss above this share of the labels' entropy is as good as guessing.
NEARLY = 0.99


@dataclass(frozen=True)
class Fitted:
    """What a training measured.

    Attributes:
        history: A row per epoch, the same as in history.csv, with the rows that a resumed run took over.
        best_epoch: Counted from 0.
        pruned: Whether the sweep's pruner stopped the training.
        probabilities: float32 (n, classes), of the validation images, by the best epoch's weights; n = 0 without a
            validation part, and for a pruned training.
        earlier_seconds: Time of the parts of the training that a resumed run took over.
    """

    history: list[dict[str, float]]
    best_epoch: int
    pruned: bool
    probabilities: np.ndarray
    earlier_seconds: float


def fit(prepared: Prepared, folder: RunFolder, source: RunFolder | None = None, watch: Watch | None = None) -> Fitted:
    """Train all epochs, and leave the best epoch's weights in the model unless the training was pruned.

    Args:
        prepared: The training.
        folder: Where history.csv and the checkpoint go; a history that is there is replaced.
        source: The run whose checkpoint is continued, if any.
        watch: Keeps the callbacks that the config names, and the time that was taken over.

    Raises:
        Diverged: The loss became NaN or infinite; history.csv stays.
        UserError: There is no checkpoint to continue, or it is of another model. A trial starts over then.
    """
    config, feed, trainee = prepared.config, prepared.feed, prepared.trainee
    trial, metric = reporting.current_trial(), epoch_metric(config.objective)
    clean = clean_epochs(config.clean_fraction, config.epochs)
    first_clean = config.epochs - clean
    best = BestWeights(prepared.model, metric, config.patience, first_clean if clean else 0)
    checkpoint = Checkpoint(folder, trainee, best, prepared.started, prepared.division)
    first_epoch, rows = _continue(source, checkpoint)
    history = History(folder, config.epochs, feed.steps * feed.batch_size, objectives_of(config))
    history.begin_with(rows)
    validation = _validation(prepared)
    given = (watch or Watch()).begin(config, folder, first_epoch > 0, checkpoint.earlier_seconds)
    callbacks = [*([validation] if validation else []), history, best, checkpoint, *given]
    if trial:
        callbacks.append(_report_to(trial, metric, prepared, history))
    if clean:
        callbacks.append(CleanEpochs(prepared.augmentation.strength, first_clean))
    if unwrapped(trainee.optimizer).use_ema:  # first, so that validation and the best weights are the averaged ones
        callbacks.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    log.info("")
    if first_epoch < config.epochs:
        with live.region() as history.region:
            trainee.fit(
                feed.epochs(first_epoch, config.epochs),
                steps_per_epoch=feed.steps,
                shuffle=False,
                initial_epoch=first_epoch,
                epochs=config.epochs,
                callbacks=callbacks,
                verbose=0,
            )
    probabilities = np.zeros((0, len(prepared.dataset.classes)), np.float32)
    pruned = trial is not None and trial.pruned
    if not pruned:
        best.restore()
        if validation:
            probabilities = np.exp(validation.log_probabilities())
    return Fitted(history.rows, best.epoch, pruned, probabilities, checkpoint.earlier_seconds)


def _report_to(trial: reporting.RunningTrial, metric: str, prepared: Prepared, history: History) -> Report:
    """Return the callback that reports to a trial, which is told first what a resumed training took over."""
    trial.no_better_than_guessing = _guessing(metric, prepared.feed.labels[prepared.parts.validation])
    report = Report(trial, prepared.config.epochs, metric, history)
    report.restore()
    return report


def _continue(source: RunFolder | None, checkpoint: Checkpoint) -> tuple[int, list[dict[str, float]]]:
    """Return the epoch, from 0, to begin with and the rows before it; restore the checkpoint of the source, if any."""
    if source is None:
        return 0, []
    try:
        return checkpoint.restore(source)
    except UserError as error:
        reporting.start_over(error)
        return 0, []


def clean_epochs(fraction: float, epochs: int) -> int:
    """Return how many of the epochs are clean: the share, rounded half up; at least one of a share that is not 0."""
    return max(1, math.floor(fraction * epochs + 0.5)) if fraction else 0


def _guessing(metric: str, labels: np.ndarray) -> Callable[[float], bool]:
    """Return a function that says whether a value is one that needs no image: of the shares of the classes alone."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    if len(shares) < 2:  # guessing is always right
        return lambda value: False
    entropy = -float(np.sum(shares * np.log(shares)))
    if metric == "val_loss":
        return lambda value: not value < NEARLY * entropy
    if metric == "val_accuracy":
        return lambda value: not value > shares.max()
    return lambda value: False


def _validation(prepared: Prepared) -> Validation | None:
    images = prepared.parts.validation
    if not len(images):
        return None
    # A model of its own: for the trained one, predict would unroll as many steps as fit makes in a call.
    predictor = keras.Model(prepared.trainee.inputs, prepared.trainee.outputs)
    return Validation(
        predictor, *prediction_batches(images), prepared.feed.labels[images], objectives_of(prepared.config)
    )
