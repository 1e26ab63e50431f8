"""Tasks for benchmarks/search.py: a search space, and a learning curve for each point of it.

`lcbench_tasks` reads YAHPO's surrogate of LCBench, the learning curves of 2,000 MLPs on each of 34 data sets: a folder
with model.onnx, encoding.json and config_space.json from https://github.com/slds-lmu/yahpo_data/tree/main/lcbench. It
needs `pip install onnxruntime`. `analytic_task` needs no file.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from benchmarks.replay.workers import Curve
from sweeper_digits.errors import UserError

Point = dict[str, Any]
Distribution = FloatDistribution | IntDistribution | CategoricalDistribution
# The inputs of the surrogate, in its order; the first, the epoch, comes from us.
LCBENCH_NAMES = (
    "batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout",
)  # fmt: skip
LCBENCH_EPOCHS = 51  # epoch 1 of the surrogate is the untrained network
TIME, CROSS_ENTROPY = 0, 2  # columns of the surrogate's output
RANDOM_POINTS = 5000
BATCH = 100  # curves in a call while the random points are read


@dataclass(frozen=True)
class Task:
    """What is searched.

    Attributes:
        name: What the results call it.
        epochs: Of a full training.
        space: Parameter -> its distribution.
        default: The point that a person would start with.
        curve: Gives the learning curve of a point; the generator draws the noise of the measurement, if there is any.
        best: Worth of the best known point.
        median: Worth of the median random point.
    """

    name: str
    epochs: int
    space: dict[str, Distribution]
    default: Point
    curve: Callable[[Point, np.random.Generator], Curve]
    best: float
    median: float


def draw(space: dict[str, Distribution], generator: np.random.Generator) -> Point:
    """Draw a random point, uniform in each distribution (in its logarithm where it says so)."""
    point: Point = {}
    for name, of in space.items():
        if isinstance(of, CategoricalDistribution):
            point[name] = of.choices[int(generator.integers(len(of.choices)))]
        elif isinstance(of, IntDistribution):
            # Half a step on each side, so that both ends are as likely as the rest.
            low, high = of.low - 0.5 * of.step, of.high + 0.5 * of.step
            value = np.exp(generator.uniform(np.log(low), np.log(high))) if of.log else generator.uniform(low, high)
            point[name] = int(np.clip(of.low + round((value - of.low) / of.step) * of.step, of.low, of.high))
        else:
            low, high = of.low, of.high
            value = np.exp(generator.uniform(np.log(low), np.log(high))) if of.log else generator.uniform(low, high)
            point[name] = float(np.clip(value, low, high))
    return point


class Surrogate:
    """YAHPO's surrogate of LCBench, on one thread.

    Args:
        folder: With model.onnx, encoding.json and config_space.json.

    Attributes:
        parameters: The entries of config_space.json by name.
        names: The tasks, sorted.

    Raises:
        UserError: The folder lacks a file, or onnxruntime is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError("--lcbench needs onnxruntime: pip install onnxruntime") from None
        for name in ("model.onnx", "encoding.json", "config_space.json"):
            if not (folder / name).is_file():
                raise UserError(
                    f"--lcbench {folder}: no {name} in that folder; download the folder lcbench of "
                    "https://github.com/slds-lmu/yahpo_data"
                )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the processes share the cores
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.codes = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
        listed = json.loads((folder / "config_space.json").read_text())["hyperparameters"]
        self.parameters = {entry["name"]: entry for entry in listed}
        self.names = sorted(self.parameters["OpenML_task_id"]["choices"])

    def space(self) -> dict[str, Distribution]:
        """Return the search space, which is the same for all tasks."""
        space: dict[str, Distribution] = {}
        for name in LCBENCH_NAMES:
            entry = self.parameters[name]
            kind = IntDistribution if entry["type"] == "uniform_int" else FloatDistribution
            space[name] = kind(entry["lower"], entry["upper"], log=entry["log"])
        return space

    def output(self, task: str, points: list[Point]) -> np.ndarray:
        """Return float32 (points, 51, 6): what the surrogate says of the trained epochs."""
        rows = np.array([[point[name] for name in LCBENCH_NAMES] for point in points], np.float32)
        epochs = np.arange(2, LCBENCH_EPOCHS + 2, dtype=np.float32)
        inputs = np.column_stack([np.tile(epochs, len(points)), np.repeat(rows, LCBENCH_EPOCHS, axis=0)])
        codes = np.full((len(inputs), 1), self.codes[task], np.int32)
        (output,) = self.session.run(None, {"x_cat": codes, "x_cont": inputs})
        return output.reshape(len(points), LCBENCH_EPOCHS, -1)

    def curve(self, task: str, point: Point, generator: np.random.Generator) -> Curve:
        """Return the learning curve of a point: validation cross entropy, without noise."""
        output = self.output(task, [point])[0].astype(np.float64)
        # The column adds up the time since the start. The surrogate lets it fall at times: no epoch takes less than a
        # tenth of the mean.
        total = output[:, TIME]
        seconds = np.diff(total, prepend=total[0] - (total[-1] - total[0]) / (LCBENCH_EPOCHS - 1))
        mean = max(float(seconds.mean()), 1e-3)
        return Curve(output[:, CROSS_ENTROPY], np.maximum(seconds, 0.1 * mean), output[:, CROSS_ENTROPY])

    def worths(self, task: str, count: int) -> np.ndarray:
        """Return float64 (count,): the worth of random points, the same at each call."""
        generator = np.random.default_rng(0)
        space = self.space()
        batches = [min(BATCH, count - first) for first in range(0, count, BATCH)]
        outputs = (self.output(task, [draw(space, generator) for _ in range(batch)]) for batch in batches)
        return np.concatenate([output[:, :, CROSS_ENTROPY].min(axis=1) for output in outputs]).astype(np.float64)


def lcbench_tasks(folder: Path, cache: Path) -> dict[str, Callable[[], Task]]:
    """Return what makes each task of LCBench, by name.

    Args:
        folder: Of the surrogate.
        cache: A JSON file, written if it is missing, with the best and the median of 5,000 random points of each task;
            they take 10 s to 20 s per task.

    Raises:
        UserError: The folder lacks a file, or onnxruntime is not installed.
    """
    surrogate = Surrogate(folder)
    return {f"lcbench-{code}": functools.partial(_lcbench_task, surrogate, code, cache) for code in surrogate.names}


def _lcbench_task(surrogate: Surrogate, code: str, cache: Path) -> Task:
    name = f"lcbench-{code}"
    known: dict[str, list[float]] = json.loads(cache.read_text()) if cache.is_file() else {}
    if name not in known:
        worths = surrogate.worths(code, RANDOM_POINTS)
        known[name] = [float(worths.min()), float(np.median(worths))]
        cache.parent.mkdir(parents=True, exist_ok=True)
        part = cache.with_suffix(".part")
        part.write_text(json.dumps(known, indent=1))
        part.replace(cache)
    default = {parameter: surrogate.parameters[parameter]["default"] for parameter in LCBENCH_NAMES}
    curve = functools.partial(surrogate.curve, code)
    return Task(name, LCBENCH_EPOCHS, surrogate.space(), default, curve, *known[name])


def analytic_curve(epochs: int, point: Point, generator: np.random.Generator) -> Curve:
    """Return a power law: its floor depends on rate and dropout, its speed on the rate, its seconds on the width."""
    steps = np.arange(1, epochs + 1)
    rate, width = np.log10(point["learning_rate"]), np.log2(point["width"])
    floor = 0.05 + 0.1 * (rate + 2.5) ** 2 + 0.2 * (point["dropout"] - 0.3) ** 2 + 0.02 * (6 - width)
    floor += 0.05 * (point["optimizer"] == "sgd")
    worth = floor + steps ** -(0.5 + 0.25 * (rate + 4))
    noise = generator.normal(0.0, 0.01, epochs)
    return Curve(worth + noise, np.full(epochs, 2.0 ** (width - 6)), worth)


def analytic_task(epochs: int = 27) -> Task:
    """Return a task that needs no file: power laws with noise, whose worth without noise is known."""
    space: dict[str, Distribution] = {
        "optimizer": CategoricalDistribution(["adamw", "sgd"]),
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
        "width": IntDistribution(8, 64, log=True),
    }
    curve = functools.partial(analytic_curve, epochs)
    generator = np.random.default_rng(0)
    worths = [float(curve(draw(space, generator), generator).worth.min()) for _ in range(RANDOM_POINTS)]
    default = {"optimizer": "adamw", "learning_rate": 1e-3, "dropout": 0.0, "width": 16}
    return Task("analytic", epochs, space, default, curve, min(worths), float(np.median(worths)))
