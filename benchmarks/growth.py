"""Whether a worker grows or slows down from trial to trial.

    python benchmarks/growth.py [--trials 300]

One worker trains that many trials of the small model, two epochs each, on 1,000 of the 5,000 digits. Its memory is
read when each trial ends, its time from the study; both are shown for the first and the last trials.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import psutil
from optuna.trial import TrialState

ROOT = Path(__file__).resolve().parents[1]
SHOWN = 20  # trials on each side; the first ten are left out, since what is loaded once is loaded then


def worker_memory(supervisor: psutil.Process) -> float:
    """Return the MiB that the one worker holds, 0 before it has started."""
    try:
        return sum(child.memory_info().rss for child in supervisor.children()) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    trials = parser.parse_args().trials
    from sweeper_digits.data import load_mnist_5k

    with tempfile.TemporaryDirectory() as folder:
        digits = load_mnist_5k()
        np.savez(Path(folder) / "digits.npz", images=digits.images[::5], labels=digits.labels[::5])
        command = [sys.executable, str(ROOT / "train.py"), "-m", "data=npz", f"data.path={folder}/digits.npz"]
        command += ["model=small", "epochs=2", f"hydra.sweeper.n_trials={trials}", "hydra/sweeper/sampler=random"]
        command += ["hydra/sweeper/pruner=none", "model.dropout=interval(0,0.5)"]
        memory: dict[int, float] = {}
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env=os.environ)
        supervisor = psutil.Process(process.pid)
        runs = Path(folder) / "multirun" / "sweep"
        while process.poll() is None:
            number = len(memory)
            if (runs / str(number) / "metrics.json").exists():
                memory[number] = worker_memory(supervisor)
            else:
                time.sleep(0.05)
        study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder}/multirun/optuna.db")
        finished = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
        seconds = [trial.duration.total_seconds() for trial in finished if trial.duration]
    held = [memory[number] for number in sorted(memory) if memory[number]]
    print(f"{len(finished)} trials complete, one worker")
    for name, values, unit in (("memory", held, "MiB"), ("time of a trial", seconds, "s")):
        first, last = values[10 : 10 + SHOWN], values[-SHOWN:]
        digits_shown = 0 if unit == "MiB" else 2
        print(
            f"{name:16s} trials 10 to {10 + SHOWN}: {statistics.median(first):.{digits_shown}f} {unit}, "
            f"last {SHOWN}: {statistics.median(last):.{digits_shown}f} {unit}, "
            f"{statistics.median(last) / statistics.median(first):.3f} times"
        )


if __name__ == "__main__":
    main()
