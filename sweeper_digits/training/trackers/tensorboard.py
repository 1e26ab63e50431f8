"""Keras' TensorBoard, and what TensorBoard's tab HParams compares runs by."""

import logging
from typing import Any

import keras
from tensorboard.plugins.hparams import api_pb2, summary, summary_v2

from sweeper_digits.runs.folder import FOLD, RunFolder
from sweeper_digits.training.context import RunContext
from sweeper_digits.training.trackers.tracker import compared_settings, without_secrets

log = logging.getLogger(__name__)

# HParams knows no pruned or stopped session; their status is unknown.
STATUS = {
    "finished": api_pb2.STATUS_SUCCESS,
    "pruned": api_pb2.STATUS_UNKNOWN,
    "stopped": api_pb2.STATUS_UNKNOWN,
}  # any other: STATUS_FAILURE
# As it orders the columns by their names, these stand before the curves, epoch_loss and so on.
METRICS = {"val_loss": "best_val_loss", "val_accuracy": "best_val_accuracy"}


class HParamsTensorBoard(keras.callbacks.TensorBoard):
    """Write the folder `tensorboard` of a run: the curves, the settings, and the METRICS at the end.

    The values at the end are of the best epoch. Curves and values have different tags, because the tab HParams shows
    the last value of a tag.

    Args:
        run: The run that is watched.
        histogram_freq: Epochs between histograms of the weights; 0: none.
    """

    def __init__(self, run: RunContext, histogram_freq: int) -> None:
        self.run, self.run_folder = run, RunFolder(run.folder)
        super().__init__(str(self.run_folder.tensorboard), histogram_freq=histogram_freq, write_graph=False)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        super().on_train_begin(logs)
        # One group of sessions for each folder: runs that differ in nothing but the seed stay apart, too. The column is
        # narrow: what differs comes first.
        folder = self.run.folder.resolve()
        below = folder.parent.parent if FOLD.fullmatch(folder.name) else folder.parent
        trial_id = f"{folder.relative_to(below)} in {below}"
        self._write([summary_v2.hparams_pb(self._settings(), trial_id=trial_id)])

    def on_run_end(self, state: str) -> None:
        """Write the best epoch's values and how the run ended; called when all its files are written.

        Args:
            state: finished, pruned, stopped (by a person), diverged or failed.
        """
        try:
            metrics = self.run_folder.read_metrics() or {}
            values = {tag: metrics[name] for name, tag in METRICS.items() if name in metrics}
            self._write([summary.session_end_pb(STATUS.get(state, api_pb2.STATUS_FAILURE))], values)
        except Exception as error:  # a full disk, for example; the run itself has ended well
            log.warning("%-10s not whole: %s", "tensorboard", without_secrets(error))

    def _settings(self) -> dict[str, bool | int | float | str]:
        """Return the settings to compare by, without those that follow from an option that the sweep has drawn.

        Of many that differ, the tab shows the first five.
        """
        drawn = self.run.drawn
        settings = compared_settings(self.run)
        return {key: one for key, one in settings.items() if key in drawn or key.partition(".")[0] not in drawn}

    def _write(self, sessions: list[Any], values: dict[str, float] | None = None) -> None:
        """Append to the event files of the folder itself, where HParams looks."""
        writer = self.summary.create_file_writer(self.log_dir)
        with writer.as_default(step=0):
            for session in sessions:
                self.summary.experimental.write_raw_pb(session.SerializeToString())
            for name, value in (values or {}).items():
                self.summary.scalar(name, value)
        writer.close()
