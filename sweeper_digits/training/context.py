"""The run, as a registered callback that watches it may know it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from sweeper_digits import components
from sweeper_digits.config import Config
from sweeper_digits.errors import UserError
from sweeper_digits.runs.folder import FOLD, RunFolder
from sweeper_digits.runs.record import read_run
from sweeper_digits.training import reporting

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunContext:
    """A run, as a callback that watches it may know it.

    Attributes:
        folder: The run's folder; of one fold, the fold's.
        settings: The config, flat: `optimizer` is the option, `optimizer.learning_rate` its value.
        study: Name of the sweep; None for a single run.
        trial: Number of the trial in its sweep; None for a single run.
        resumed: Whether the run goes on from a checkpoint of a killed one.
        drawn: Keys of the settings that the sweep has drawn for this trial.
    """

    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    study: str | None = None
    trial: int | None = None
    resumed: bool = False
    drawn: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Config, folder: RunFolder, resumed: bool) -> "RunContext":
        """Return the context of a training.

        Args:
            config: The run.
            folder: The folder of the training: the run's, or one of its folds'.
            resumed: Whether a checkpoint is continued.
        """
        running = reporting.current_trial()
        trial = getattr(running.trial, "number", None) if running else None
        whole = folder.folder.parent if FOLD.fullmatch(folder.folder.name) else folder.folder
        settings = read_run(whole).settings
        drawn = tuple(getattr(running.trial, "params", ())) if running else ()
        return cls(folder.folder, settings, None if trial is None else config.study, trial, resumed, drawn)


class Watch:
    """The callbacks and the clock of a run: the callbacks that its config names, and the time that it took over.

    Beside Keras' methods, a callback may have `on_run_end(state)`. It is called once all files of the run are written;
    the state is `finished`, `pruned`, `diverged`, `failed`, or `stopped` (by a person).

    Attributes:
        built: The callbacks, of all trainings.
        earlier_seconds: Time of the trainings, or their parts, that a resumed run took over.
    """

    def __init__(self) -> None:
        self.built: list[keras.callbacks.Callback] = []
        self.earlier_seconds = 0.0

    def begin(
        self, config: Config, folder: RunFolder, resumed: bool, earlier_seconds: float
    ) -> list[keras.callbacks.Callback]:
        """Build the callbacks of a training, in the order of the config, and add the time that it took over.

        The first arguments are those of `RunContext.of`.

        Raises:
            UserError: A registered function that returns something else.
        """
        self.earlier_seconds += earlier_seconds
        built = []
        for option in config.callbacks.values():
            component = components.find("callbacks", vars(option))
            callback = component.build(option, run=RunContext.of(config, folder, resumed))
            if not isinstance(callback, keras.callbacks.Callback):
                made = type(callback).__name__
                raise UserError(
                    f"{component.where}: {component.name}: it returns {made}; a keras.callbacks.Callback is expected"
                )
            built.append(callback)
        self.built += built
        return built

    def end(self, state: str) -> None:
        """Tell the callbacks how the run ended."""
        for callback in self.built:
            if hasattr(callback, "on_run_end"):
                try:
                    callback.on_run_end(state)
                except Exception as error:  # the run itself is whole
                    where, name = components.blame(error) or "callbacks", type(error).__name__
                    log.warning("%s: on_run_end: %s: %s", where, name, " ".join(str(error).split()))
