"""Wall time until `python train.py` is as good as the notebook's own loop gets.

    python benchmarks/quality.py [--data digit-recognizer.zip] [--seeds 0 1 2] [--epochs 30] [--fidelity]

For each seed the notebook (its CNN, augmentation, optimizer and early stopping, in Keras as it
wrote them) runs to its end; then the plain default, timed until its val_loss is as low as the
notebook's best. With --fidelity, `experiment=notebook` follows: our training of the notebook's own
network, whose val_loss is compared with the notebook's epoch by epoch. Each is a process of its own,
timed from its start, imports and data included.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def notebook(data: str | None, seed: int, epochs: int, out: Path) -> None:
    """Train as the notebook did and write val_loss and seconds since the start of each epoch."""
    started = time.time()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    sys.path.insert(0, str(ROOT))
    from benchmarks.notebook import compile_as_notebook, generator, notebook_model
    from sweeper_digits.data.dataset import load_mnist_5k
    from sweeper_digits.data.split import splits
    from sweeper_digits.data.tables import load_kaggle
    from sweeper_digits.options import Holdout

    digits = load_kaggle(data) if data else load_mnist_5k()
    parts = next(splits(Holdout(test_size=0.0, seed=0, validation_size=0.15), digits.labels, digits.groups))
    keras.utils.set_random_seed(seed)
    model = notebook_model()
    compile_as_notebook(model)
    flow = generator(digits.images[parts.train], digits.labels[parts.train])
    labels = keras.utils.to_categorical(digits.labels[parts.validation], 10)
    with out.open("w") as stream:
        print("val_loss,seconds", file=stream, flush=True)
        write = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: print(
                f"{logs['val_loss']},{time.time() - started}", file=stream, flush=True
            )
        )
        stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=4, restore_best_weights=True)
        model.fit(
            flow,
            epochs=epochs,
            validation_data=(digits.images[parts.validation] / 255, labels),
            callbacks=[write, stop],
            verbose=0,
        )


def losses(history: Path) -> list[float]:
    """Return the val_losses that a history file has so far."""
    if not history.exists():
        return []
    with history.open() as stream:
        return [float(row["val_loss"]) for row in csv.DictReader(stream) if row.get("val_loss")]


def watched(command: list[str], history: Path, target: float) -> tuple[float | None, float, float]:
    """Run a command; return seconds until its history reaches the target, its best val_loss, all its seconds."""
    started, reached = time.perf_counter(), None
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.1)
            if reached is None and any(loss <= target for loss in losses(history)):
                reached = time.perf_counter() - started
    return reached, min(losses(history)), time.perf_counter() - started


def in_words(values: list[float]) -> str:
    """Return val_losses on one line."""
    return " ".join(f"{value:.4f}" for value in values)


def same_network(ours: list[str], run: Path) -> list[float]:
    """Train experiment=notebook, print its curve, and return it."""
    _, best, ended = watched([*ours, "experiment=notebook", f"hydra.run.dir={run}"], run / "history.csv", 0.0)
    curve = losses(run / "history.csv")
    print(f"       val_loss of experiment=notebook: {in_words(curve)}", flush=True)
    print(f"       experiment=notebook ended after {ended:.0f} s, best {best:.4f}", flush=True)
    return curve


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="Kaggle's zip or folder; default: the 5,000 digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30, help="of the notebook's loop and of experiment=notebook")
    parser.add_argument("--fidelity", action="store_true", help="train experiment=notebook too and compare the curves")
    parser.add_argument("--notebook", type=int, metavar="SEED", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.notebook is not None:
        notebook(arguments.data, arguments.notebook, arguments.epochs, arguments.out)
        return
    data = ["data=kaggle", f"data.path={Path(arguments.data).resolve()}"] if arguments.data else []
    ratios, pairs = [], []
    print("seed   notebook: best val_loss   reached after   ended after   ours: as good after   best val_loss   times")
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            history = Path(folder) / "notebook.csv"
            own = [sys.executable, __file__, "--notebook", str(seed), "--epochs", str(arguments.epochs)]
            own += ["--out", str(history), *(["--data", arguments.data] if arguments.data else [])]
            _, target, ended = watched(own, history, 0.0)
            with history.open() as stream:
                rows = list(csv.DictReader(stream))
            reached = next(float(row["seconds"]) for row in rows if float(row["val_loss"]) == target)
            ours = [sys.executable, str(ROOT / "train.py"), f"seed={seed}", "figures=false", *data]
            command = [*ours, f"hydra.run.dir={folder}/default"]
            seconds, best, _ = watched(command, Path(folder) / "default" / "history.csv", target)
            ratios.append(reached / seconds if seconds else 0.0)
            after = f"{seconds:.0f} s" if seconds else "never"
            line = f"{seed:4d}   {target:23.4f}   {reached:11.0f} s   {ended:9.0f} s"
            print(f"{line}   {after:>19s}   {best:13.4f}   {ratios[-1]:5.2f}", flush=True)
            theirs = [float(row["val_loss"]) for row in rows]
            print(f"       val_loss of the notebook's own loop: {in_words(theirs)}", flush=True)
            if arguments.fidelity:
                curve = same_network([*ours, f"epochs={arguments.epochs}"], Path(folder) / "notebook")
                pairs.append([a - b for a, b in zip(curve, theirs, strict=False)])
    print(
        f"\nas good as the notebook's best in 1/{statistics.median(ratios):.1f} of its time (median of "
        f"{len(ratios)} seeds), in 1/{min(ratios):.1f} with the slowest seed"
    )
    if pairs:
        differences = [statistics.mean(pair) for pair in pairs]
        spread = f" +- {statistics.stdev(differences):.4f} over the seeds" if len(differences) > 1 else ""
        mean = statistics.mean(differences)
        print(f"experiment=notebook minus the notebook's loop, mean over epochs: {mean:+.4f}{spread}")


if __name__ == "__main__":
    main()
