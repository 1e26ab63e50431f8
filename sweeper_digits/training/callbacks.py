"""Callbacks of a training: history, best weights, checkpoint, reports to the sweep."""

import functools
import logging
import math
import time
from collections.abc import Sequence

import keras
import numpy as np

from sweeper_digits.components import Component
from sweeper_digits.errors import Diverged, UserError
from sweeper_digits.live import ROW, Region, bar
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.text import counted, minutes
from sweeper_digits.training.feed import PixelsByIndex
from sweeper_digits.training.reporting import RunningTrial, better_of

log = logging.getLogger(__name__)

# Seconds between two looks of the progress within an epoch, and the columns of its bar.
SHOWN_SECONDS, BAR_WIDTH = 0.2, 20


class CleanEpochs(keras.callbacks.Callback):
    """Train the last epochs on unchanged images (He et al. 2019, https://arxiv.org/abs/1909.09148).

    Validation images are not augmented, and a network fits the statistics of the images that it is trained on.

    Args:
        strength: The augmentation's `strength`.
        first: Epoch, counted from 0, from which the strength is 0.
    """

    def __init__(self, strength: keras.Variable, first: int) -> None:
        super().__init__()
        self.strength, self.first = strength, first

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.strength.assign(0.0 if epoch >= self.first else 1.0)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Set the strength to 1 again, for the picture of the augmentation."""
        self.strength.assign(1.0)


class History(keras.callbacks.Callback):
    """Append each epoch to history.csv and to the log; show progress within it on a terminal.

    The progress is shown while `region` is set, five times a second at most. The seconds of an epoch are those of all
    that it does; its images per second are of training alone, without its checkpoint and its validation.

    Args:
        run: Where history.csv is.
        epochs: Planned epochs.
        images: Images that an epoch trains on.
        objectives: What else is in the logs after an epoch.

    Attributes:
        rows: A row per epoch so far, the same as in history.csv.
        region: Where the progress within an epoch is shown; None without a terminal.

    Raises:
        Diverged: The loss became NaN or infinite. The epoch is in history.csv.
    """

    def __init__(self, run: RunFolder, epochs: int, images: int, objectives: Sequence[Component] = ()) -> None:
        super().__init__()
        self.run, self.epochs, self.images, self.objectives = run, epochs, images, objectives
        self.rows: list[dict[str, float]] = []
        self.region: Region | None = None

    def begin_with(self, rows: list[dict[str, float]]) -> None:
        """Start with the rows of a resumed run, or with none; rows of another training in history.csv are removed."""
        self.rows = rows
        self.run.write_history(rows)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self.durations: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epoch, self.epoch_started, self.shown = epoch, time.perf_counter(), 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock of the speed, after the checkpoint."""
        if batch == 0:
            self.training_started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Stop the clock of the speed, before validation; show how far the epoch is."""
        self.trained_until = now = time.perf_counter()
        if self.region and logs and now - self.shown > SHOWN_SECONDS:
            self.shown = now
            done = (batch + 1) / self.params["steps"]
            seconds = now - self.training_started
            speed, left = done * self.images / seconds, minutes(seconds / done - seconds)
            line = bar(done, BAR_WIDTH).append(
                f" epoch {self.epoch + 1}/{self.epochs}  {done:4.0%}  loss {logs['loss']:.4f}"
                f"  {speed:,.0f} images/s  {left} left in this epoch"
            )
            line.truncate(self.region.size[0], overflow="ellipsis")
            self.region.update(line)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Append the epoch to the rows, to history.csv and to the log."""
        logs = logs or {}
        seconds = time.perf_counter() - self.epoch_started
        speed = self.images / (self.trained_until - self.training_started)
        self.durations.append(seconds)
        names = ("loss", "accuracy", "val_loss", "val_accuracy", *(component.name for component in self.objectives))
        metrics = {name: float(logs[name]) for name in names if name in logs}
        rates = {
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(seconds, 4),
            "images_per_second": round(speed, 1),
        }
        self.rows.append({"epoch": epoch + 1} | metrics | rates)
        self.run.append_history(self.rows[-1])
        values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        left = (self.epochs - epoch - 1) * float(np.median(self.durations))
        log.info(
            "epoch %3d/%d  %s  %s images/s  %s left",
            epoch + 1, self.epochs, values, f"{speed:,.0f}", minutes(left), extra=ROW,
        )  # fmt: skip
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"{name} became {value} in epoch {epoch + 1}: training diverged; lower "
                    f"optimizer.learning_rate or set optimizer.global_clipnorm=1 ({self.run.history} has the epochs)",
                    epoch,
                )


class BestWeights(keras.callbacks.Callback):
    """Keep the weights of the best epoch by one metric, and stop after `patience` epochs that are not better.

    Keras' EarlyStopping loses its count and its weights when the process is killed. The first of equal epochs is the
    best. Without validation the last epoch is the best.

    Args:
        kept: The model whose weights are kept.
        metric: val_loss, val_accuracy or a registered objective.
        patience: Epochs, or None to never stop.
        first: Epoch, counted from 0, from which patience is counted: clean epochs always get their chance.

    Attributes:
        value: Best value of the metric so far.
        epoch: The epoch with this value, counted from 0.
        weights: The weights after this epoch.
    """

    def __init__(self, kept: keras.Model, metric: str, patience: int | None, first: int) -> None:
        super().__init__()
        self.kept, self.metric, self.patience, self.first = kept, metric, patience, first
        self.better = better_of(metric)
        self.value, self.epoch = -self.better(-math.inf, math.inf), 0
        self.weights: list[np.ndarray] = kept.get_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keep the weights of a better epoch; stop after `patience` epochs that are not better."""
        value = (logs or {}).get(self.metric)
        if value is None or self.better(self.value, value) != self.value:
            self.value = self.value if value is None else value
            self.epoch, self.weights = epoch, self.kept.get_weights()
        elif self.patience is not None and epoch - max(self.epoch, self.first - 1) >= self.patience:
            self.model.stop_training = True
            log.info("stopped: no better %s for %s", self.metric, counted(self.patience, "epoch"))

    def restore(self) -> None:
        """Give the model its best weights."""
        self.kept.set_weights(self.weights)


class Report(keras.callbacks.Callback):
    """Report each epoch to the sweep, and stop where its pruner says so.

    Args:
        trial: The trial.
        epochs: Planned epochs.
        metric: What chooses the best epoch; without other objectives, what the pruner compares.
        history: The epochs so far; it has its row of an epoch before this callback is called.
    """

    def __init__(self, trial: RunningTrial, epochs: int, metric: str, history: History) -> None:
        super().__init__()
        self.trial, self.epochs, self.metric, self.history = trial, epochs, metric, history

    def restore(self) -> None:
        """Report the epochs that a resumed training took over."""
        self.trial.restore([row[self.metric] for row in self.history.rows], self.epochs)
        if self.trial.front:
            for number in range(len(self.history.rows)):
                self.trial.front.report(self._measured(number + 1))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Report the epoch and ask the pruner."""
        last = self.model.stop_training or epoch + 1 == self.epochs
        if self.trial.front:
            stop = self.trial.epoch_of_several(self._measured(epoch + 1), last)
        else:
            stop = self.trial.epoch(float((logs or {})[self.metric]), epoch, self.epochs, last)
        row = self.history.rows[-1]
        measured = {name: row[name] for name in ("loss", "val_loss", self.metric, "images_per_second")}
        stopped = self.trial.tell(measured, epoch, self.epochs, last)
        if stop or stopped:
            # Not by an exception: the other callbacks still see the end of the training.
            self.model.stop_training = True
            log.info("pruned" if stop else "stopped by a person")

    def _measured(self, epochs: int) -> dict[str, float]:
        """Return what the first epochs measured: their best one, their seconds, and the parameters of the model."""
        rows = self.history.rows[:epochs]
        better = better_of(self.metric)
        best = next(row for row in rows if row[self.metric] == functools.reduce(better, (r[self.metric] for r in rows)))
        costs = {"seconds": sum(row["seconds"] for row in rows), "params": float(self.model.count_params())}
        return best | costs


class Checkpoint(keras.callbacks.Callback):
    """Save, when an epoch begins, all that is needed to begin it again after a kill.

    Saved are the weights, the optimizer's state, the states of all random generators, and the best weights so far.

    Args:
        run: Where the checkpoint is.
        trainee: What is trained, compiled.
        best: The best weights, which are saved and restored too.
        started: `time.perf_counter()` when the training began; the time since then is saved too.
        division: Tells which images train and which validate, see `Content.division`; it is saved too.

    Attributes:
        earlier_seconds: Time of the parts of the training that were restored, or 0.
    """

    def __init__(self, run: RunFolder, trainee: keras.Model, best: BestWeights, started: float, division: str) -> None:
        super().__init__()
        self.run, self.best, self.started, self.earlier_seconds = run, best, started, 0.0
        self.division = division
        # Not the optimizer as built: for float16, Keras has wrapped it in one with a loss scale, which is state too.
        optimizer = trainee.optimizer
        optimizer.build(trainee.trainable_variables)
        # The images themselves are variables too; they do not belong into a checkpoint.
        images = [id(v) for layer in trainee.layers if isinstance(layer, PixelsByIndex) for v in layer.variables]
        self.variables = [v for v in trainee.variables if id(v) not in images] + optimizer.variables

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch == 0:
            return
        state = {f"variable_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(self.variables)}
        state |= {f"best_{i}": weights for i, weights in enumerate(self.best.weights)}
        state["seconds"] = np.array(self.earlier_seconds + time.perf_counter() - self.started)
        state["division"] = np.array(self.division)
        self.run.write_checkpoint(state | {"progress": np.array([epoch, self.best.epoch, self.best.value])})

    def restore(self, source: RunFolder) -> tuple[int, list[dict[str, float]]]:
        """Take over the state of a killed run; return the epoch, from 0, to begin with, and the rows before it.

        Raises:
            UserError: There is no checkpoint, it is of other images, another model or optimizer, or rows are missing.
                Nothing is changed then.
        """
        state = source.read_checkpoint()
        shapes = {f"variable_{i}": tuple(variable.shape) for i, variable in enumerate(self.variables)}
        shapes |= {f"best_{i}": weights.shape for i, weights in enumerate(self.best.weights)} | {"progress": (3,)}
        if str(state.get("division", self.division)) != self.division:
            raise UserError(f"resume={source.folder}: its checkpoint is of other images, or of another fold")
        beside = ("seconds", "division")
        if {name: values.shape for name, values in state.items() if name not in beside} != shapes:
            raise UserError(f"resume={source.folder}: its checkpoint is of another model, optimizer or schedule")
        epoch, best_epoch, best_value = state["progress"].tolist()
        rows = _rows(source, int(epoch))
        for i, variable in enumerate(self.variables):
            variable.assign(state[f"variable_{i}"])
        self.best.weights = [state[f"best_{i}"] for i in range(len(self.best.weights))]
        self.best.epoch, self.best.value = int(best_epoch), best_value
        self.earlier_seconds = float(state.get("seconds", 0.0))
        log.info("resumed    %s after epoch %d", source.folder, len(rows))
        return len(rows), rows


def _rows(source: RunFolder, epochs: int) -> list[dict[str, float]]:
    """Return the history of the epochs before a checkpoint; the best epoch's numbers are found by their place in it."""
    rows = source.read_history()[:epochs]
    if [row.get("epoch") for row in rows] != list(range(1, epochs + 1)):
        missing = f"{source.history.name} has not each epoch up to {epochs}"
        raise UserError(f"resume={source.folder}: {missing}; train it again")
    return rows
