"""Many workers on one database: trials that sleep, and what asking and telling cost as a study grows.

    OPTUNA_STORAGE=postgresql+psycopg://user:password@host/database python benchmarks/load.py
        [--workers 32] [--trials 1000] [--epochs 30] [--mean 20] [--sizes 100 1000 10000]

A trial reports its epochs, asks the pruner after each (which never agrees: all report the same) and sleeps
between them, a lognormal time in all. Idle: the share of workers x time that no trial slept, from when
every worker had begun its first trial until the last trial began.

The latencies are those of a fresh process, in a study filled with finished trials of as many epochs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import sleeper

SIGMA = 0.6  # of the logarithm: one trial in six takes twice the median or more
# Without the learning rate, by which a sleeping trial's loss differs.
SPACE = [
    "optimizer=adamw,rmsprop,nadam",
    "optimizer.weight_decay=tag(log,interval(1e-4,1e-2))",
    "model.dropout=interval(0,0.5)",
    "model.dense_units=range(32,256)",
]


def run_many(storage: str, workers: int, trials: int, epochs: int, mean: float) -> None:
    """Run the sweep and print what became of its trials."""
    import optuna

    name = f"load-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, sleeper.__file__, "-m", f"study={name}", *SPACE, f"epochs={epochs}"]
        command += ["optimizer.learning_rate=0.01", f"hydra.sweeper.n_trials={trials}"]
        command += [f"hydra.sweeper.n_jobs={workers}"]
        environment = os.environ | {"SLEEPER_SECONDS": str(mean), "SLEEPER_SIGMA": str(SIGMA)}
        started = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - started
        if done.returncode:
            sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
        finished = sleeper.read_metrics(Path(folder) / "multirun" / name)
        errors = sum(
            line.startswith("[") and "ERROR" in line
            for log in Path(folder).glob(f"multirun/{name}/worker-*.log")
            for line in log.read_text().splitlines()
        )
    spans = [(trial["pid"], trial["began"], trial["began"] + trial["slept"]) for trial in finished]
    first: dict[float, float] = {}
    for pid, begin, _ in spans:
        first[pid] = min(begin, first.get(pid, begin))
    left, right = max(first.values()), max(begin for _, begin, _ in spans)
    busy = sum(max(0.0, min(end, right) - max(begin, left)) for _, begin, end in spans)
    study = optuna.load_study(study_name=name, storage=storage)
    states = Counter(trial.state.name for trial in study.trials)
    short = sum(len(t.intermediate_values) != epochs for t in study.trials if t.state.name == "COMPLETE")
    print(f"{workers} workers, {trials} trials of {epochs} epochs and {mean:g} s: {wall:.0f} s")
    print(f"  states {dict(states)}; complete ones that miss an epoch: {short}; lines of errors: {errors}")
    print(f"  too many: {states['COMPLETE'] + states['PRUNED'] - trials}")
    steady = right - left  # 0 where the last worker began with the last trial
    idle = f"{1 - busy / (workers * steady):.1%} of {steady:.0f} s" if steady else "not known, for there was none"
    print(f"  idle in steady state: {idle}", flush=True)
    optuna.delete_study(study_name=name, storage=storage)


def latencies(storage_url: str, size: int, epochs: int) -> dict[str, float]:
    """Return the median milliseconds of each call in a study with so many finished trials."""
    import optuna

    from sweeper_digits.sweep.storage import open_storage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")  # heartbeats are meant for study.optimize
    name = f"latency-{os.getpid()}-{size}"

    def suggest(trial: optuna.Trial) -> None:
        trial.suggest_categorical("optimizer", ["adamw", "rmsprop", "nadam"])
        trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        trial.suggest_float("dropout", 0, 0.5)
        trial.suggest_int("dense_units", 32, 256)

    study = optuna.create_study(study_name=name, storage=open_storage(storage_url, 20))
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    memory = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = np.random.default_rng(0).uniform(size=(size, epochs))
    for row in values:
        drawn = memory.ask()
        suggest(drawn)
        for epoch, value in enumerate(row):
            drawn.report(value, epoch)
        study.add_trial(memory.tell(drawn, row[-1]))
    fresh = optuna.load_study(study_name=name, storage=open_storage(storage_url, 20))
    fresh.sampler = optuna.samplers.TPESampler(seed=1)
    fresh.pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3)
    taken: dict[str, list[float]] = {}

    def timed(label: str, call: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        result = call(*arguments)
        taken.setdefault(label, []).append(1000 * (time.perf_counter() - began))
        return result

    timed("load", fresh.get_trials, False)
    for _ in range(10):
        trial = timed("ask", fresh.ask)
        timed("suggest", suggest, trial)
        for epoch in range(3):
            timed("report", trial.report, 0.5, epoch + 5)
            timed("should_prune", trial.should_prune)
        timed("tell", fresh.tell, trial, 0.5)
    optuna.delete_study(study_name=name, storage=storage_url)
    return {label: statistics.median(milliseconds) for label, milliseconds in taken.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--trials", type=int, default=1000, help="0: latencies only")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--mean", type=float, default=20.0, help="seconds of a trial")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000, 10_000])
    arguments = parser.parse_args()
    storage = os.environ.get("OPTUNA_STORAGE")
    if not storage:
        sys.exit("set OPTUNA_STORAGE to the database to be measured, as postgresql+psycopg://user:password@host/name")
    if arguments.trials:
        run_many(storage, arguments.workers, arguments.trials, arguments.epochs, arguments.mean)
    for size in arguments.sizes:
        taken = latencies(storage, size, arguments.epochs)
        if size == arguments.sizes[0]:
            print("\nmilliseconds\n trials" + "".join(f"{label:>14}" for label in taken))
        print(f"{size:7d}" + "".join(f"{milliseconds:14.1f}" for milliseconds in taken.values()), flush=True)


if __name__ == "__main__":
    main()
