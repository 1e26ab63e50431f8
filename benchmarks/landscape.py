"""The recorded curves as a function of any point: what a search that draws its own points can be replayed on.

A Gaussian process on the logarithm of val_loss, one for all epochs, gives the mean curve of a point; the difference of
two seeds at one of the nearest recorded points, with a random sign, gives its noise. `python benchmarks/landscape.py`
says how well it predicts points that it has not seen.
"""

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.model_selection import KFold

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.curves import SPACE, WITHOUT_MOMENTUM, Training, load
from benchmarks.replay.workers import Curve
from benchmarks.tasks import Point, Task, draw

# The default recipe of conf/ until 2026-11-28, in this space.
RECIPE: dict[str, Any] = {
    "optimizer": "adamw",
    "optimizer.learning_rate": 0.003,
    "optimizer.weight_decay": 0.01,
    "optimizer.momentum": 0.9,
    "schedule": "cosine",
    "schedule.warmup_epochs": 1.0,
    "augmentation": "light",
    "clean_fraction": 0.0,
    "batch_size": 100,
    "model.filters": 24,
    "model.first_kernel_size": 3,
    "model.stages": 2,
    "model.depth": 2,
    "model.normalization": True,
    "model.dense_units": 128,
    "model.dropout": 0.1,
    "model.dense_dropout": 0.2,
}
# A loss above this is as bad as any: guessing is at 2.3.
WORST = 4.0
# The noise of a point is that of one of so many recorded neighbours.
NEIGHBOURS = 5
# Random points by which regret is scaled.
SCALED_BY = 20_000


def features(point: Point) -> list[float]:
    """Return a point as numbers from 0 to 1; a choice without order is a number for each of its values."""
    found: list[float] = []
    for name, of in SPACE.items():
        value = point.get(name)
        if isinstance(of, CategoricalDistribution) and type(of.choices[0]) is int:
            found.append(of.choices.index(value) / (len(of.choices) - 1))
        elif isinstance(of, CategoricalDistribution):
            found += [float(value == one) for one in of.choices]
        elif value is None or (name == "optimizer.momentum" and point["optimizer"] in WITHOUT_MOMENTUM):
            found.append(0.5)
        elif of.log:
            found.append(float(np.log(value / of.low) / np.log(of.high / of.low)))
        else:
            found.append((value - of.low) / (of.high - of.low))
    return found


def fitted(inputs: np.ndarray, targets: np.ndarray, theta: list[float] | None = None) -> GaussianProcessRegressor:
    """Return a Gaussian process whose lengths are as given, or else those that make the recorded values likely."""
    kernel = ConstantKernel(1.0) * Matern(np.full(inputs.shape[1], 2.0), (0.1, 50.0), nu=2.5) + WhiteKernel(0.1)
    if theta is not None:
        kernel = kernel.clone_with_theta(np.array(theta))
    optimizer = "fmin_l_bfgs_b" if theta is None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianProcessRegressor(kernel, normalize_y=True, optimizer=optimizer).fit(inputs, targets)


class Landscape:
    """The recorded curves as a function of the point.

    Args:
        recorded: Of `benchmarks/curves.py`.
        cache: A JSON file with the lengths of the Gaussian processes, which take a minute; written if it is missing.

    Attributes:
        epochs: Of a training.
        inputs: float64 (points, features), the recorded points.
        final: float64 (points,), logarithm of their best val_loss, the mean over the seeds.
        noise: float64 (pairs, epochs), what a seed adds to the logarithm of val_loss.
    """

    def __init__(self, recorded: list[Training], cache: Path) -> None:
        self.epochs = max(len(one["val_loss"]) for one in recorded)
        by_point: dict[str, list[Training]] = {}
        for one in recorded:
            by_point.setdefault(repr(one["point"]), []).append(one)
        groups = list(by_point.values())
        self.inputs = np.array([features(group[0]["point"]) for group in groups])
        logs = [np.array([self._logs(one["val_loss"]) for one in group]) for group in groups]
        means = np.array([one.mean(axis=0) for one in logs])
        self.final = means.min(axis=1)
        seconds = np.log([min(np.median(one["seconds"]) for one in group) for group in groups])
        thetas: dict[str, list[float]] = json.loads(cache.read_text()) if cache.is_file() else {}
        processes = {
            name: fitted(self.inputs, targets, thetas.get(name))
            for name, targets in (("final", self.final), ("seconds", seconds))
        }
        cache.write_text(json.dumps({name: process.kernel_.theta.tolist() for name, process in processes.items()}))
        self.mean = _Mean(processes["final"], means)
        self.pace = _Mean(processes["seconds"], seconds[:, None])
        self.noise = np.array([(one[0] - one[1]) / np.sqrt(2) for one in logs if len(one) > 1])
        self.noisy = self.inputs[[len(one) > 1 for one in logs]]

    def _logs(self, losses: list[float]) -> np.ndarray:
        padded = [*losses, *[WORST] * (self.epochs - len(losses))]  # of a training that diverged
        return np.log(np.minimum(padded, WORST))

    def curve(self, point: Point, generator: np.random.Generator) -> Curve:
        """Return a training of a point, with the noise of its seed."""
        place = np.array([features(point)])
        mean = self.mean(place)[0]
        near = np.argsort(np.sum((self.noisy - place) ** 2, axis=1))[:NEIGHBOURS]
        noise = self.noise[generator.choice(near)] * generator.choice([-1.0, 1.0])
        seconds = np.full(self.epochs, float(np.exp(self.pace(place)[0, 0])))
        return Curve(np.exp(mean + noise), seconds, np.exp(mean))


def digits_task(cache: Path) -> Task:
    """Return the task of the recorded digits; `cache` is that of `Landscape`."""
    landscape = Landscape(load(), cache)
    generator = np.random.default_rng(0)
    points = np.array([features(draw(SPACE, generator)) for _ in range(SCALED_BY)])
    worth = np.exp(landscape.mean(points).min(axis=1))
    best, median = float(worth.min()), float(np.median(worth))
    return Task("digits", landscape.epochs, SPACE, RECIPE, landscape.curve, best, median)


class _Mean:
    """The mean of a Gaussian process with given lengths, for several targets, in one product of matrices."""

    def __init__(self, process: GaussianProcessRegressor, targets: np.ndarray) -> None:
        self.kernel, self.inputs = process.kernel_.k1, process.X_train_
        self.level, self.scale = targets.mean(axis=0), targets.std(axis=0)
        self.weights = np.linalg.solve(process.kernel_(self.inputs), (targets - self.level) / self.scale)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self.kernel(inputs, self.inputs) @ self.weights * self.scale + self.level)


def main() -> None:
    """Say how well points that were left out are predicted, in ten parts."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "landscape.json"
        landscape, task = Landscape(load(), cache), digits_task(cache)
    inputs, targets = landscape.inputs, landscape.final
    predicted = np.zeros(len(targets))
    for train, left_out in KFold(10, shuffle=True, random_state=0).split(inputs):
        predicted[left_out] = fitted(inputs[train], targets[train]).predict(inputs[left_out])
    better = targets < np.median(targets)
    share = 1 - np.sum((predicted - targets) ** 2) / np.sum((targets - targets.mean()) ** 2)
    recipe = task.curve(RECIPE, np.random.default_rng(0)).worth.min()
    noise = landscape.noise.std(axis=0)
    print(f"{len(targets)} points; variance of log val_loss explained {share:.2f}")
    print(f"rank correlation {spearmanr(predicted, targets).statistic:.2f}", end="")
    print(f"; in the better half {spearmanr(predicted[better], targets[better]).statistic:.2f}")
    print(f"seed noise of log val_loss: {noise[2]:.3f} at the third epoch, {noise[-1]:.3f} at the last")
    print(f"val_loss: best {task.best:.4f}, median {task.median:.4f}, recipe {recipe:.4f}")


if __name__ == "__main__":
    main()
