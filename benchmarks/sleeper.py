"""`python train.py` with trials that sleep: for benchmarks and tests of sweeps, without Keras.

    SLEEPER_SECONDS=1 python benchmarks/sleeper.py -m optimizer.learning_rate=tag(log,interval(1e-4,1e-1))

It takes the overrides of train.py. The environment says how long a trial lasts:
    SLEEPER_SECONDS  mean seconds of a trial, shared out over its epochs; default 0
    SLEEPER_SIGMA    standard deviation of the logarithm of these seconds; default 0
    SLEEPER_FAILS    seed with which trials fail; default none
"""

import contextlib
import json
import logging
import math
import os
import time
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from sweeper_digits import bad_input, command_line
from sweeper_digits.config import METRIC_OF, Config, is_study_sweeper, parse
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.sweep import job
from sweeper_digits.training import reporting

log = logging.getLogger(__name__)

BEST_LEARNING_RATE = 0.01


def val_loss(learning_rate: float, epochs: int) -> float:
    """Return the loss after so many epochs, at each epoch lower the nearer the rate is to BEST_LEARNING_RATE.

    It falls from epoch to epoch, except where the rate is ten times too high or too low: there it rises.
    """
    decades = abs(math.log10(learning_rate / BEST_LEARNING_RATE))
    return decades + (1 / epochs if decades < 1 else 2 - 1 / epochs)


def trial_seconds(number: int) -> float:
    """Return how long a trial lasts, by its number: lognormal, as the environment says."""
    sigma = float(os.environ.get("SLEEPER_SIGMA", "0"))
    factor = np.random.default_rng(number).lognormal(-(sigma**2) / 2, sigma) if sigma else 1.0
    return float(os.environ.get("SLEEPER_SECONDS", "0")) * factor


def sleep_through(config: Config, run: RunFolder, number: int) -> list[float] | None:
    """Sleep epoch by epoch, leave the files of a run, and return the objectives, or None if pruned.

    metrics.json has the process (`pid`), the time of the first epoch's begin (`began`), the seconds that were to be
    slept (`slept`), and the folder and the number of epochs that were continued (`resumed`).
    """
    if os.environ.get("SLEEPER_FAILS") == str(config.seed):
        raise ValueError(f"seed={config.seed} fails")
    trial, first = reporting.current_trial(), 0
    if config.resume:
        source = RunFolder(config.resume)
        first = int(source.read_checkpoint()["progress"][0])
        rows = source.read_history()[:first]
        run.write_history(rows)
        if trial:
            trial.restore([row["val_loss"] for row in rows], config.epochs)
    epoch_seconds = trial_seconds(number) / config.epochs
    began, state = time.time(), "finished"
    for epoch in range(first, config.epochs):
        # Until the epoch's end by the clock: what writing and reporting take is not slept on top of it.
        time.sleep(max(0.0, began + (epoch + 1 - first) * epoch_seconds - time.time()))
        loss = val_loss(config.optimizer.learning_rate, epoch + 1)
        run.append_history({"epoch": epoch + 1, "val_loss": loss, "val_accuracy": math.exp(-loss)})
        run.write_checkpoint({"progress": np.array([epoch + 1]), "pid": np.array([os.getpid()])})
        last = epoch + 1 == config.epochs
        if trial and trial.epoch(loss, epoch, config.epochs, last) | trial.tell(
            {"loss": loss, "val_loss": loss}, epoch, config.epochs, last
        ):
            state = "pruned"
            break
    rows = run.read_history()
    metrics = rows[-1] | {"parameters": config.model.filters}
    run.model.touch()
    objective = [float(metrics[METRIC_OF.get(name, name)]) for name in config.objective]
    about = {"state": state, "objective": objective, "epochs": len(rows), "seed": config.seed, "pid": os.getpid()}
    about |= {"began": began, "slept": epoch_seconds * (len(rows) - first)}
    run.write_metrics(metrics | about | {"resumed": [config.resume, first] if config.resume else None})
    return objective if state == "finished" else None


def read_metrics(sweep: Path) -> list[dict[str, float]]:
    """Return what the trials of a sweep's folder have left in their metrics.json."""
    return [json.loads(file.read_text()) for file in sweep.glob("*/metrics.json")]


def main(cfg: DictConfig) -> object:
    """Be one Hydra job."""
    with bad_input.job_errors():
        config = parse(cfg)
        hydra_config = HydraConfig.get()
        number = hydra_config.job.num if hydra_config.mode == RunMode.MULTIRUN else 0
        in_sweep = hydra_config.mode == RunMode.MULTIRUN and is_study_sweeper(hydra_config.sweeper)
        with job.attached() if in_sweep else contextlib.nullcontext():
            values = sleep_through(config, RunFolder(hydra_config.runtime.output_dir), number)
    return values[0] if values and len(values) == 1 else values


if __name__ == "__main__":
    command_line.start(main)
