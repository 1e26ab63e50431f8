"""Whether a worker grows or slows down from trial to trial.

    python benchmarks/growth.py [--trials 300]

One worker trains that many trials of the small model, two epochs each, on 1,000 of the 5,000 digits. Its memory is
read when each trial ends, its time from the study; both are shown for the first and the last trials. The first ten of
more than 30 are left out, since what is loaded once is loaded then. What is outside of `fit` is the time from one
trial's begin to the next one's, without what `fit` took.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
from optuna.trial import TrialState

from sweeper_digits import command_line
from sweeper_digits.components import register
from sweeper_digits.data.dataset import load_mnist_5k
from sweeper_digits.training.context import RunContext

ROOT = Path(__file__).resolve().parents[1]
SHOWN = 20  # trials on each side
WARM_UP = 10  # trials
# Names the file for the times of `fit`.
CLOCK = "GROWTH_CLOCK"


@register("callback", watches=True)
def clock(run: RunContext) -> Any:
    """Write down how long each `fit` took, in seconds."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.started = time.perf_counter()

        def on_train_end(self, logs: Any = None) -> None:
            with Path(os.environ[CLOCK]).open("a") as stream:
                print(time.perf_counter() - self.started, file=stream)

    return Clock()


def worker_memory(supervisor: psutil.Process) -> float:
    """Return the MiB that the one worker holds, 0 before it has started."""
    try:
        return sum(child.memory_info().rss for child in supervisor.children()) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def main() -> None:
    """Measure and print."""
    if CLOCK in os.environ:  # the sweep is this program too
        command_line.main()
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    trials = parser.parse_args().trials

    with tempfile.TemporaryDirectory() as folder:
        digits = load_mnist_5k()
        np.savez(Path(folder) / "digits.npz", images=digits.images[::5], labels=digits.labels[::5])
        command = [sys.executable, str(Path(__file__).resolve()), "-m", "data=npz", f"data.path={folder}/digits.npz"]
        command += ["model=small", "epochs=2", f"hydra.sweeper.n_trials={trials}", "hydra/sweeper/sampler=random"]
        command += ["hydra/sweeper/pruner=none", "model.dropout=interval(0,0.5)", "callbacks=[clock]"]
        memory: dict[int, float] = {}
        times = Path(folder) / "fit.txt"
        environment = os.environ | {CLOCK: str(times), "TF_CPP_MIN_LOG_LEVEL": "3"}
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env=environment)
        supervisor = psutil.Process(process.pid)
        runs = Path(folder) / "multirun" / "sweep"
        while process.poll() is None:
            number = len(memory)
            if (runs / str(number) / "metrics.json").exists():
                memory[number] = worker_memory(supervisor)
            else:
                time.sleep(0.05)
        study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder}/multirun/sweep/study.db")
        finished = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
        seconds = [trial.duration.total_seconds() for trial in finished if trial.duration]
        begun = [trial.datetime_start.timestamp() for trial in finished if trial.datetime_start]
        fits = [float(line) for line in times.read_text().splitlines()]
    outside = [after - before - fit for before, after, fit in zip(begun, begun[1:], fits, strict=False)]
    held = [memory[number] for number in sorted(memory) if memory[number]]
    print(f"{len(finished)} trials complete, one worker")
    for name, values, unit in (
        ("memory", held, "MiB"),
        ("time of a trial", seconds, "s"),
        ("outside of fit", outside, "s"),
    ):
        skipped = WARM_UP if len(values) > WARM_UP + SHOWN else 0
        first, last = values[skipped : skipped + SHOWN], values[-SHOWN:]
        digits_shown = 0 if unit == "MiB" else 2
        print(
            f"{name:16s} trials {skipped} to {skipped + len(first)}: "
            f"{statistics.median(first):.{digits_shown}f} {unit}, "
            f"last {len(last)}: {statistics.median(last):.{digits_shown}f} {unit}, "
            f"{statistics.median(last) / statistics.median(first):.3f} times"
        )


if __name__ == "__main__":
    main()
