"""The same search with KerasTuner, with Hydra's own Optuna plugin, and with ours.

    pip install keras-tuner tensorboard
    python benchmarks/sweep.py [--data digit-recognizer.zip] [--trials 20] [--epochs 8]

Space: optimizer (AdamW, RMSprop), learning rate (log, 5e-4 to 1e-2), dropout (0 to 0.4). Model
`small`, batches of 100, the same split, seed 0, no augmentation (KerasTuner's loop has none of
ours), the machine's best precision. Each search is a process of its own, timed as a whole.
KerasTuner's Hyperband decides itself how many trials its brackets have.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("KerasTuner Hyperband", "KerasTuner BayesianOptimization", "hydra-optuna-sweeper", "ours", "ours, 2 workers")


def keras_tuner(kind: str, data: str | None, trials: int, epochs: int, folder: Path) -> None:
    """Search with KerasTuner and write result.json."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import keras_tuner

    from sweeper_digits import command_line
    from sweeper_digits.components import Option
    from sweeper_digits.config import parse
    from sweeper_digits.data.dataset import load_mnist_5k
    from sweeper_digits.data.file import load_file
    from sweeper_digits.data.split import splits
    from sweeper_digits.runs import recipe
    from sweeper_digits.training import device as hardware
    from sweeper_digits.training.network import build_network

    config = parse(recipe.without_hydra(recipe.composer(command_line.CONF)(["model=small"])))
    digits = load_file(data) if data else load_mnist_5k()
    parts = next(splits(config.split, digits.labels, digits.groups))
    precision = hardware.choose_precision("auto", "cpu:0")
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")

    def build(hp: Any) -> keras.Model:
        option = Option(**vars(config.model) | {"dropout": hp.Float("dropout", 0.0, 0.4)})
        model = build_network(option, (28, 28, 1), 10).model
        choices = {"adamw": keras.optimizers.AdamW, "rmsprop": keras.optimizers.RMSprop}
        optimizer = choices[hp.Choice("optimizer", list(choices))]
        model.compile(
            optimizer(hp.Float("learning_rate", 5e-4, 1e-2, sampling="log")),
            keras.losses.SparseCategoricalCrossentropy(),
            metrics=["accuracy"],
        )
        return model

    class Clock(keras.callbacks.Callback):
        seconds = 0.0
        fits = 0

        def on_train_begin(self, logs: Any = None) -> None:
            Clock.begun = time.perf_counter()

        def on_train_end(self, logs: Any = None) -> None:
            Clock.seconds += time.perf_counter() - Clock.begun
            Clock.fits += 1

    common: dict[str, Any] = {"objective": "val_loss", "directory": str(folder), "project_name": "kt", "seed": 0}
    if kind == "Hyperband":
        tuner = keras_tuner.Hyperband(build, max_epochs=epochs, factor=3, **common)
    else:
        tuner = keras_tuner.BayesianOptimization(build, max_trials=trials, **common)
    tuner.search(
        digits.images[parts.train],
        digits.labels[parts.train],
        batch_size=100,
        epochs=epochs,
        validation_data=(digits.images[parts.validation], digits.labels[parts.validation]),
        callbacks=[Clock()],
        verbose=0,
    )
    best = tuner.oracle.get_best_trials(1)[0].score
    result = {"best": best, "trials": len(tuner.oracle.trials), "fit": Clock.seconds}
    (folder / "result.json").write_text(json.dumps(result))


def hydra_sweep(kind: str, data: str | None, trials: int, epochs: int, folder: Path) -> dict[str, Any]:
    """Search with `python train.py --multirun` and return the result."""
    source = ["data=kaggle", f"data.path={Path(data).resolve()}"] if data else []
    space = [
        "optimizer=adamw,rmsprop",
        "optimizer.learning_rate=tag(log,interval(5e-4,1e-2))",
        "model.dropout=interval(0,0.4)",
    ]
    options = [
        "model=small",
        "augmentation=none",
        f"epochs={epochs}",
        "figures=false",
        f"hydra.sweeper.n_trials={trials}",
    ]
    if kind == "hydra-optuna-sweeper":
        options += ["hydra/sweeper=optuna", "hydra.sweeper.direction=minimize", "hydra.sweeper.n_jobs=1"]
    if kind == "ours, 2 workers":
        options += ["hydra.sweeper.n_jobs=2"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", *source, *options, *space]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    results = yaml.safe_load((folder / "multirun/sweep/optimization_results.yaml").read_text())
    histories = [path.read_text().splitlines()[1:] for path in folder.glob("multirun/sweep/*/history.csv")]
    fit = sum(float(row.split(",")[6]) for rows in histories for row in rows)
    return {"best": results["best_value"], "trials": len(histories), "fit": fit}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="Kaggle's zip or folder; default: the 5,000 digits")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--only", nargs="+", default=KINDS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        keras_tuner(arguments.child, arguments.data, arguments.trials, arguments.epochs, arguments.folder)
        return
    print(f"{'':34s} best val_loss   trials   wall    trials/hour   outside of epochs, per trial")
    for kind in arguments.only:
        with tempfile.TemporaryDirectory() as name:
            folder, started = Path(name), time.perf_counter()
            if kind.startswith("KerasTuner"):
                command = [sys.executable, __file__, "--child", kind.split()[1], "--folder", name]
                command += ["--trials", str(arguments.trials), "--epochs", str(arguments.epochs)]
                command += ["--data", arguments.data] if arguments.data else []
                subprocess.run(command, check=True, capture_output=True)
                result = json.loads((folder / "result.json").read_text())
            else:
                result = hydra_sweep(kind, arguments.data, arguments.trials, arguments.epochs, folder)
            wall = time.perf_counter() - started
        jobs = 2 if kind.endswith("2 workers") else 1
        outside = (wall * jobs - result["fit"]) / result["trials"]
        hourly = 3600 * result["trials"] / wall
        line = f"{kind:34s} {result['best']:13.5f}   {result['trials']:6d}   {wall:4.0f} s"
        print(f"{line}   {hourly:11.0f}   {outside:.2f} s", flush=True)


if __name__ == "__main__":
    main()
