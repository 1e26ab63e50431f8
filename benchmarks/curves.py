"""Record learning curves of a search space, for replaying searches: benchmarks/curves.json.gz.

    python benchmarks/curves.py [--points 300] [--epochs 12] [--jobs 2]

The points are drawn at random from a space like that of search=full, with narrower networks. Each is trained twice,
with two seeds, without pruning and without early stopping, on 3,000 of the packaged 5,000 digits; the other 2,000
validate. The trainings are one sweep of listed runs: the same command continues it after a kill. Trainings that the
file has are not done again.
"""

import argparse
import gzip
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.tasks import Distribution, Point, draw
from sweeper_digits.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
CURVES = Path(__file__).with_name("curves.json.gz")
SEEDS = (0, 1)
SPACE: dict[str, Distribution] = {
    "optimizer": CategoricalDistribution(["adamw", "nadam", "rmsprop", "sgd", "muon"]),
    "optimizer.learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "optimizer.weight_decay": FloatDistribution(1e-5, 1e-1, log=True),
    "optimizer.momentum": FloatDistribution(0.7, 0.97),
    "schedule": CategoricalDistribution(["constant", "cosine", "exponential"]),
    "schedule.warmup_epochs": FloatDistribution(0.0, 2.0),
    "augmentation": CategoricalDistribution(["none", "light", "medium", "strong", "elastic"]),
    "clean_fraction": FloatDistribution(0.0, 0.4),
    "batch_size": CategoricalDistribution([50, 100, 200]),
    "model.filters": CategoricalDistribution([8, 12, 16, 24]),
    "model.first_kernel_size": CategoricalDistribution([3, 5]),
    "model.stages": CategoricalDistribution([2, 3]),
    "model.depth": CategoricalDistribution([1, 2]),
    "model.normalization": CategoricalDistribution([True, False]),
    "model.dense_units": CategoricalDistribution([0, 64, 128]),
    "model.dropout": FloatDistribution(0.0, 0.4),
    "model.dense_dropout": FloatDistribution(0.0, 0.6),
}
# Optimizers that have no momentum.
WITHOUT_MOMENTUM = ("adamw", "nadam")
# A training as the file has it: its point, seed, and val_loss and seconds of each epoch.
Training = dict[str, Any]


def draw_rounded(generator: np.random.Generator) -> Point:
    """Draw a point, its numbers with six digits; momentum only for the optimizers that have it."""
    drawn = draw(SPACE, generator).items()
    point = {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in drawn}
    if point["optimizer"] in WITHOUT_MOMENTUM:
        del point["optimizer.momentum"]
    return point


def load(file: Path = CURVES) -> list[Training]:
    """Return the recorded trainings; none if there is no file."""
    if not file.exists():
        return []
    with gzip.open(file, "rt") as stream:
        found: list[Training] = json.load(stream)
    return found


def record(missing: list[Training], epochs: int, jobs: int, folder: Path, *more: str) -> None:
    """Train each point with its seed, in a sweep of listed runs, with more overrides."""
    listed = folder / "points.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    listed.write_text(yaml.safe_dump([one["point"] | {"seed": one["seed"]} for one in missing], sort_keys=False))
    options = ["study=curves", f"search.points={listed}", f"epochs={epochs}", "patience=null", "figures=false"]
    # The recorded curves are of networks that pad, the default until 2026-11-28.
    options += ["hydra/sweeper/pruner=none", "split.validation_size=0.4", "model.padding=same"]
    options += [f"hydra.sweeper.n_jobs={jobs}", "hydra.sweeper.keep_models=1", *more]
    subprocess.run([sys.executable, str(ROOT / "train.py"), "-m", *options], cwd=folder, check=True)


def trained(folder: Path) -> list[Training]:
    """Return the trainings of the sweep that have ended, with their curves; one that diverged has fewer epochs."""
    found = []
    for number, point in enumerate(yaml.safe_load((folder / "points.yaml").read_text())):
        run = RunFolder(folder / f"multirun/curves/{number}")
        rows = run.read_history() if run.metrics.exists() else []
        losses = [round(row["val_loss"], 5) for row in rows if math.isfinite(row["val_loss"])]
        if rows:
            one: Training = {"point": {name: value for name, value in point.items() if name != "seed"}}
            one |= {"seed": point["seed"], "val_loss": losses, "seconds": [round(row["seconds"], 3) for row in rows]}
            found.append(one)
    return found


def main() -> None:
    """Train what is missing, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("multirun/curves"), help="of the sweep")
    parser.add_argument("--to", type=Path, default=CURVES, help="the file")
    parser.add_argument("--pack", action="store_true", help="only write what the sweep has trained so far")
    arguments = parser.parse_args()
    folder, known = arguments.folder.resolve(), load(arguments.to)
    generator = np.random.default_rng(0)
    drawn = [draw_rounded(generator) for _ in range(arguments.points)]
    there = [(one["point"], one["seed"]) for one in known]
    missing = [{"point": point, "seed": seed} for seed in SEEDS for point in drawn if (point, seed) not in there]
    if missing and not arguments.pack:
        record(missing, arguments.epochs, arguments.jobs, folder)
    whole = known + [one for one in trained(folder) if (one["point"], one["seed"]) not in there]
    with gzip.GzipFile(arguments.to, "wb", mtime=0) as stream:
        stream.write(json.dumps(whole, separators=(",", ":")).encode())
    print(f"{arguments.to}: {len(whole)} trainings of {len(SEEDS) * len(drawn)}")


if __name__ == "__main__":
    main()
