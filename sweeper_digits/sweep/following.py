"""What a trial tells of itself while it runs, and whether a person has stopped it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweeper_digits.data.fingerprint import Content
from sweeper_digits.options import Data
from sweeper_digits.sweep import attributes
from sweeper_digits.sweep.content import check_data

if TYPE_CHECKING:  # a single run does without Optuna
    from optuna.trial import FrozenTrial

    from sweeper_digits.sweep.queue import Queue

# What the progress of a trial has beside what the last epoch measured.
BESIDE = ("worker", "trained", "taken_over", "epoch", "epochs")


def _is_progress(value: Any) -> bool:
    kinds = {name: attributes.COUNT for name in BESIDE} | {"worker": attributes.TEXT}
    return isinstance(value, dict) and all(kinds.get(name, attributes.NUMBER).fits(one) for name, one in value.items())


# System attributes of a trial, which the dashboard does not list: how far it is, and that a person stops it.
PROGRESS = attributes.kept("sweeper_digits:progress", attributes.Kind("epochs and numbers by name", _is_progress))
STOP = "sweeper_digits:stop"


class Follower:
    """Tells the study of a trial how far the trial is.

    Args:
        queue: The queue of the study.
        number: Of the trial.
        worker: Names the worker for a person: its number, or the machine of a job.

    Attributes:
        trained: Epochs that the trial trained itself.
        taken_over: Epochs that it took over from a trial that was cut off.
    """

    def __init__(self, queue: "Queue", number: int, worker: str) -> None:
        self.queue, self.number, self.worker = queue, number, worker
        self.trained = self.taken_over = 0

    def begin(self) -> None:
        """Tell the study which worker has the trial."""
        self._write({})

    def take_over(self, epochs: int) -> None:
        """Tell the study of epochs that the trial took over."""
        self.taken_over += epochs
        self._write({})

    def check_data(self, option: Data, content: Content) -> None:
        """Compare what the trial has read with what earlier trials of the study have; see `content.check_data`."""
        check_data(self.queue, option, content)

    def tell(self, progress: Mapping[str, float]) -> bool:
        """Tell the study of an epoch; return whether a person has stopped the trial.

        Args:
            progress: `epoch`, counted from 1, `epochs`, and what the epoch measured.
        """
        self.trained += 1
        self._write(progress)
        return STOP in self.queue.read(self.number).system_attrs

    def _write(self, progress: Mapping[str, float]) -> None:
        about = {"worker": self.worker, "trained": self.trained, "taken_over": self.taken_over}
        self.queue.set_system_attr(self.number, PROGRESS, {**about, **progress})


def progress_of(trial: "FrozenTrial") -> dict[str, Any]:
    """Return what a trial has told of itself last; empty before it has begun, no `epoch` before its first."""
    return dict(trial.system_attrs.get(PROGRESS, {}))
