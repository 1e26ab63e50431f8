"""Callbacks that show runs in TensorBoard, MLflow and Weights & Biases."""

import importlib.util
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sweeper_digits.components import register
from sweeper_digits.errors import UserError
from sweeper_digits.url import has_password

if TYPE_CHECKING:
    import keras

    from sweeper_digits.training.context import RunContext  # imports Keras


@register("callback", watches=True)
def tensorboard(run: "RunContext", histogram_freq: int = 0) -> "keras.callbacks.Callback":
    """Write the run for TensorBoard, into the folder `tensorboard` of the run.

    The tab HParams compares the runs below a folder by their settings and by val_loss and val_accuracy of the best
    epoch.

    Args:
        run: The run that is watched.
        histogram_freq: Epochs between histograms of the weights; 0: none.

    Raises:
        UserError: The package tensorboard is missing.
    """
    _need("tensorboard")
    from sweeper_digits.training.trackers.tensorboard import HParamsTensorBoard  # imports Keras

    return HParamsTensorBoard(run, histogram_freq)


@register("callback", watches=True)
def mlflow(
    run: "RunContext", tracking_uri: str | None = None, experiment: str = "sweeper_digits", model: bool = True
) -> "keras.callbacks.Callback":
    """Record the run in MLflow; the trials of a sweep are children of one parent run.

    Args:
        run: The run that is watched.
        tracking_uri: Server or database; null: MLFLOW_TRACKING_URI, or else the file mlflow.db in the current folder.
            One with a password is refused, because the config is saved with the run.
        experiment: Name of the MLflow experiment. Sweeps of one name in one experiment share their parent run.
        model: Whether model.keras is stored too.

    Raises:
        UserError: The package mlflow is missing, or the URI holds a password.
    """
    if tracking_uri is not None:
        check_tracking_uri(tracking_uri)
    _need("mlflow")
    from sweeper_digits.training.trackers.mlflow import MlflowRun  # imports Keras

    return MlflowRun(run, tracking_uri, experiment, model)


@register("callback", watches=True)
def wandb(
    run: "RunContext", project: str = "sweeper_digits", entity: str | None = None, model: bool = False
) -> "keras.callbacks.Callback":
    """Record the run in Weights & Biases; the trials of a sweep are one group.

    The environment says how: WANDB_API_KEY, WANDB_BASE_URL, WANDB_MODE=offline.

    Args:
        run: The run that is watched.
        project: Name of the project.
        entity: User or team that owns the project; null: the one that is logged in.
        model: Whether model.keras is uploaded too.

    Raises:
        UserError: The package wandb is missing.
    """
    _need("wandb")
    from sweeper_digits.training.trackers.wandb import WandbRun  # imports Keras

    return WandbRun(run, project, entity, model)


def check_tracking_uri(uri: str) -> None:
    """Raise a UserError if a URI holds a password: the config is saved with the run."""
    try:
        urlsplit(uri)
    except ValueError as error:
        # Not what Python says: it may repeat the URI.
        raise UserError(
            "callbacks.mlflow.tracking_uri: not a URI; type one like http://127.0.0.1:5000 or sqlite:///mlflow.db"
        ) from error
    if has_password(uri):
        raise UserError(
            "callbacks.mlflow.tracking_uri: it holds a password, which would be saved with the run; leave it out, and "
            "put the URI into the environment: export MLFLOW_TRACKING_URI=..."
        )


def _need(package: str) -> None:
    """Raise a UserError if the package of a callback, which has the callback's name, is missing."""
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"callbacks=[{package}]: the package {package} is missing; pip install 'sweeper_digits[{package}]'"
        )
