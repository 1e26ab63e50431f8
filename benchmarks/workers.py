"""How idle workers are when trials take different times: ours against Hydra's own plugin.

    python benchmarks/workers.py [--trials 40] [--mean 1.0] [--workers 1 2 4 8]

A trial sleeps for a lognormal time instead of training. The idle share is the part of
workers x wall time, between the start of the first trial and the end of the last, in which a worker
slept no trial. Hydra's plugin runs its batches with the joblib launcher where that is installed.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import sleeper

SIGMA = 0.6  # of the logarithm: one trial in six takes twice the median or more


def idle(sweeper: list[str], workers: int, trials: int, mean: float) -> tuple[float, float]:
    """Return the idle share and the wall time of a sweep, imports included."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, sleeper.__file__, "-m", "epochs=1", "model.dropout=interval(0,0.5)", *sweeper]
        command += [f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.n_jobs={workers}"]
        environment = os.environ | {"SLEEPER_SECONDS": str(mean), "SLEEPER_SIGMA": str(SIGMA)}
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        wall = time.perf_counter() - started
        done = sleeper.read_metrics(Path(folder) / "multirun" / "sweep")
    busy = sum(trial["slept"] for trial in done)
    whole = max(trial["began"] + trial["slept"] for trial in done) - min(trial["began"] for trial in done)
    return 1 - busy / (workers * whole), wall


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--mean", type=float, default=1.0, help="seconds of a trial")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    joblib = importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is not None
    print("workers   idle: ours (least - most)   stock plugin    wall: ours   stock plugin")
    for workers in arguments.workers:
        stock = [
            "hydra/sweeper=optuna",
            *(["hydra/launcher=joblib", f"hydra.launcher.n_jobs={workers}"] if joblib else []),
        ]
        results = {
            name: [idle(sweeper, workers, arguments.trials, arguments.mean) for _ in range(arguments.repeats)]
            for name, sweeper in (
                ("ours", ["hydra/sweeper/pruner=none"]),
                *([("stock", stock)] if joblib or workers == 1 else []),
            )
        }
        ours, other = results["ours"], results.get("stock", [(float("nan"), float("nan"))])
        shares = [share for share, _ in ours]
        print(
            f"{workers:7d}   {statistics.median(shares):9.1%} ({min(shares):.1%} - {max(shares):.1%})"
            f"   {statistics.median(share for share, _ in other):12.1%}"
            f"   {statistics.median(wall for _, wall in ours):8.1f} s"
            f"   {statistics.median(wall for _, wall in other):10.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
