"""Does val_loss of averaged weights say sooner how a training ends?

    python benchmarks/averaged.py [--points 60] [--momentum 0.9] [--jobs 2] [overrides]

The first recorded points of benchmarks/curves.py are trained again, with the same seed and with optimizer.use_ema: the
steps are the same, but each epoch is validated with the averaged weights, which is what a pruner then sees. For both,
it prints the rank correlation (Spearman) of the best val_loss up to an epoch with the best of the whole training.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.curves import Training, load, record, trained


def correlations(trainings: list[Training], epochs: int) -> list[float]:
    """Return the rank correlation of each epoch with the end; a training that diverged stays at its best."""
    losses = np.full((len(trainings), epochs), np.inf)
    for row, training in zip(losses, trainings, strict=True):
        row[: len(training["val_loss"])] = training["val_loss"]
    best = np.minimum.accumulate(losses, axis=1)
    best[np.isinf(best)] = 1e9  # below all others
    return [float(spearmanr(best[:, epoch], best[:, -1]).statistic) for epoch in range(epochs)]


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument(
        "--momentum", type=float, default=0.9, help="of the average; its last 1 / (1 - momentum) steps count"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("multirun/averaged"), help="of the sweep")
    parser.add_argument("overrides", nargs="*", help="more overrides of the trainings")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    plain = [training for training in load() if training["seed"] == 0][: arguments.points]
    epochs = max(len(training["val_loss"]) for training in plain)
    options = ["optimizer.use_ema=true", f"optimizer.ema_momentum={arguments.momentum}"]
    record(plain, epochs, arguments.jobs, folder, *options, *arguments.overrides)
    averaged = trained(folder)
    there = [training["point"] for training in averaged]
    pairs = {"plain weights": [one for one in plain if one["point"] in there], "averaged weights": averaged}
    print(f"{len(averaged)} points; epoch: rank correlation with the end")
    for name, trainings in pairs.items():
        found = correlations(trainings, epochs)
        print(f"{name:17}", "  ".join(f"{epoch}: {value:.2f}" for epoch, value in enumerate(found, 1)))
    pairs_of = zip(pairs["plain weights"], averaged, strict=True)
    gains = [np.log(min(one["val_loss"], default=1e9) / min(other["val_loss"], default=1e9)) for one, other in pairs_of]
    print(
        f"best val_loss of the averaged weights: {np.exp(-np.median(gains)):.2f} times that of the plain ones (median)"
    )


if __name__ == "__main__":
    main()
