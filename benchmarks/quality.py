"""Wall time until `python train.py` is as good as the notebook's own loop gets.

    python benchmarks/quality.py [overrides] [--data digit-recognizer.zip] [--seeds 0 1 2] [--epochs 30] [--fidelity]

For each seed the notebook (its CNN, augmentation, optimizer and early stopping, in Keras as it wrote them) runs to its
end; then the plain default, or what overrides such as `epochs=3` make of it, timed until its val_loss is as low as the
notebook's best. With --fidelity, `experiment=notebook` follows: our training of the notebook's own network, whose
val_loss is compared with the notebook's epoch by epoch. Each is a process of its own, timed from its start, imports and
data included.
"""

import argparse
import csv
import itertools
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
    from sweeper_digits.config import Holdout
    from sweeper_digits.data.dataset import load_mnist_5k
    from sweeper_digits.data.file import load_file
    from sweeper_digits.data.split import splits

    digits = load_file(data) if data else load_mnist_5k()
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


def column(history: Path, name: str = "val_loss") -> list[float]:
    """Return what a history file has of a column so far."""
    if not history.exists():
        return []
    with history.open() as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row.get(name)]


def watched(command: list[str], history: Path, target: float) -> tuple[float | None, float, float]:
    """Run a command; return seconds until its history reaches the target, its best val_loss, all its seconds."""
    started, reached = time.perf_counter(), None
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.1)
            if reached is None and any(loss <= target for loss in column(history)):
                reached = time.perf_counter() - started
    return reached, min(column(history)), time.perf_counter() - started


def steady_seconds(seconds: list[float], epoch: int) -> float:
    """Return when an epoch would have ended if each after the first had taken as long as the quickest one.

    Keras' input pipeline lets the notebook's loop wait in some epochs, for half a minute, with both cores idle.
    """
    lengths = [after - before for before, after in itertools.pairwise(seconds)]
    return seconds[0] + epoch * min(lengths, default=0.0)


def in_words(values: list[float]) -> str:
    """Return val_losses on one line."""
    return " ".join(f"{value:.4f}" for value in values)


def compare(seed: int, arguments: argparse.Namespace, folder: Path) -> tuple[float, float, float | None]:
    """Run the processes of one seed and print what they reached.

    Returns:
        By how many times ours is sooner as good as the notebook's best epoch; the same where none of the notebook's
        epochs waits; and the mean difference of the curves of one network, None without --fidelity.
    """
    history = folder / "notebook.csv"
    own = [sys.executable, __file__, "--notebook", str(seed), "--epochs", str(arguments.epochs), "--out", str(history)]
    _, target, ended = watched([*own, *(["--data", arguments.data] if arguments.data else [])], history, 0.0)
    theirs, clock = column(history), column(history, "seconds")
    reached = [clock[theirs.index(target)], steady_seconds(clock, theirs.index(target))]
    data = ["data=kaggle", f"data.path={Path(arguments.data).resolve()}"] if arguments.data else []
    ours = [sys.executable, str(ROOT / "train.py"), f"seed={seed}", "figures=false", *data]
    command = [*ours, *arguments.overrides, f"hydra.run.dir={folder}/ours"]
    seconds, best, _ = watched(command, folder / "ours" / "history.csv", target)
    times, steady = (value / seconds if seconds else 0.0 for value in reached)
    after = f"{seconds:.0f} s" if seconds else "never"
    line = f"{seed:4d}   {target:23.4f}   {reached[0]:11.0f} s   {reached[1]:6.0f} s   {ended:9.0f} s"
    print(f"{line}   {after:>19s}   {best:13.4f}   {times:5.2f}   {steady:6.2f}", flush=True)
    print(f"       val_loss of the notebook's own loop: {in_words(theirs)}", flush=True)
    if not arguments.fidelity:
        return times, steady, None
    same = [*ours, "experiment=notebook", f"epochs={arguments.epochs}", f"hydra.run.dir={folder}/same"]
    _, best, ended = watched(same, folder / "same" / "history.csv", 0.0)
    curve = column(folder / "same" / "history.csv")
    print(f"       val_loss of experiment=notebook: {in_words(curve)}", flush=True)
    print(f"       experiment=notebook ended after {ended:.0f} s, best {best:.4f}", flush=True)
    return times, steady, statistics.mean(a - b for a, b in zip(curve, theirs, strict=False))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="Kaggle's zip or folder; default: the 5,000 digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30, help="of the notebook's loop and of experiment=notebook")
    parser.add_argument("--fidelity", action="store_true", help="train experiment=notebook too and compare the curves")
    parser.add_argument("overrides", nargs="*", help="of our training")
    parser.add_argument("--notebook", type=int, metavar="SEED", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.notebook is not None:
        notebook(arguments.data, arguments.notebook, arguments.epochs, arguments.out)
        return
    print("seed   notebook: best val_loss   reached after   steady   ended after", end="   ")
    print("ours: as good after   best val_loss   times   steady")
    found = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            found.append(compare(seed, arguments, Path(folder)))
    print()
    for name, ratios in (("", [one[0] for one in found]), (", without its waiting", [one[1] for one in found])):
        print(
            f"as good as the notebook's best in 1/{statistics.median(ratios):.1f} of its time{name} "
            f"(median of {len(ratios)} seeds), in 1/{min(ratios):.1f} with the slowest seed"
        )
    if differences := [one[2] for one in found if one[2] is not None]:
        spread = f" +- {statistics.stdev(differences):.4f} over the seeds" if len(differences) > 1 else ""
        mean = statistics.mean(differences)
        print(f"experiment=notebook minus the notebook's loop, mean over epochs: {mean:+.4f}{spread}")


if __name__ == "__main__":
    main()
