"""What a callback may know of the run that it watches."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunContext:
    """What a callback may know of the run that it watches.

    Attributes:
        folder: The run's folder; of one fold: the fold's folder.
        settings: The config, flat: "optimizer" -> "adamw", "optimizer.learning_rate" -> 0.001.
        study: Name of the sweep, None for a single run.
        trial: Number of the trial in its sweep.
        resumed: Whether the run continues a killed one.
    """

    folder: Path
    settings: dict[str, Any]
    study: str | None
    trial: int | None
    resumed: bool
