"""`predict`: what finished runs, alone or averaged, say of images: scores, a submission, single pictures."""

import argparse
import json
import time
from datetime import datetime
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from sklearn.metrics import classification_report

from sweeper_digits import command_line
from sweeper_digits.data.digits import CLASSES, Digits, load
from sweeper_digits.data.pictures import read_pictures
from sweeper_digits.data.split import split_test, splits
from sweeper_digits.errors import UserError
from sweeper_digits.options import Kaggle
from sweeper_digits.results.ensemble import choose_members, weigh_members
from sweeper_digits.results.submission import read_sample_ids, write_predictions
from sweeper_digits.runs import recipe
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.predictions import accuracy, confusion_matrix, log_loss
from sweeper_digits.runs.record import Record
from sweeper_digits.schema import Config, parse
from sweeper_digits.training.augmentation import RandomWarp
from sweeper_digits.training.device import choose_device, forget_models
from sweeper_digits.training.models import from_float

BATCH = 1000  # images


def main(arguments: argparse.Namespace) -> None:
    """Print what the runs predict; write it where `--out` says."""
    pictures = [Path(path) for path in arguments.paths if path.lower().endswith((".png", ".jpg", ".jpeg"))]
    runs = [path for path in arguments.paths if Path(path) not in pictures]
    _check(arguments, runs, pictures)
    compose = recipe.composer(command_line.CONF)
    chosen = choose_members(runs, arguments.top)
    weights = weigh_members(chosen, arguments.weights)
    configs = configs_of(chosen, compose)
    for record, weight in zip(chosen, weights, strict=True):
        loss = record.value("val_loss")
        shown = "" if loss is None else f"  val_loss {loss:.5f}"
        print(f"model      {record.run.folder}  weight {weight:.3f}{shown}")
    if pictures:
        probabilities = average_probabilities(chosen, weights, read_pictures(pictures), arguments.tta, compose)
        for path, row in zip(pictures, probabilities, strict=True):
            print(f"{path}  {row.argmax()}  {row.max():.1%}")
        return
    sample = None
    if arguments.data:
        option = compose_config(data_overrides(arguments.data, configs[0]), compose).data
        digits, part, sample = load(option), "all", read_sample_ids(option)
    else:
        digits, part = load_part(configs, arguments.part)
    _show_data(digits, part, configs)
    started = time.perf_counter()
    probabilities = average_probabilities(chosen, weights, digits.images, arguments.tta, compose)
    seconds = time.perf_counter() - started
    print(f"predicted  in {seconds:.1f} s, {len(digits.images) / seconds:,.0f} images/s\n")
    if digits.labels is not None:
        print(format_scores(probabilities, digits.labels))
        if part == "test":
            note_test(chosen, probabilities, digits.labels)
    if out := arguments.out or (Path("submission.csv") if digits.labels is None else None):
        write_predictions(out, probabilities, sample)
        print(f"written    {out}")


def _check(arguments: argparse.Namespace, runs: list[str], pictures: list[Path]) -> None:
    if not runs:
        raise UserError("predict: name a run or a sweep, for example predict multirun/quick 7.png")
    if arguments.out and arguments.out.suffix not in (".csv", ".npz"):
        raise UserError(f"--out {arguments.out}: the suffix must be .csv (labels) or .npz (probabilities)")
    if pictures and (arguments.data or arguments.part or arguments.out):
        raise UserError("predict: labels of pictures are printed; leave out --data, --part and --out, or the pictures")
    if arguments.data and arguments.part:
        raise UserError("--part is a part of the run's own data; leave out --part or --data")


def _show_data(digits: Digits, part: str, configs: list[Config]) -> None:
    print(f"data       {digits.source}: {len(digits.images):,} images ({part})")
    seen = seen_in_training(configs, digits.images)
    known = "the training data is not at hand: not known how many of them were trained on" if seen is None else None
    print(f"           {known or f'{seen:,} of them occur in the training data'}")


def config_of(record: Record, compose: recipe.Compose) -> Config:
    """Return a run's config."""
    return compose_config(recipe.as_overrides(recipe.recipe_of(record, compose)), compose)


def configs_of(chosen: list[Record], compose: recipe.Compose) -> list[Config]:
    """Return a config for each way in which the runs split their data; the first run's first."""
    by_split: dict[str, Record] = {}
    for record in chosen:
        split = {name: value for name, value in record.settings.items() if name.split(".")[0] == "split"}
        by_split.setdefault(json.dumps(split, sort_keys=True), record)
    return [config_of(record, compose) for record in by_split.values()]


def compose_config(overrides: list[str], compose: recipe.Compose) -> Config:
    """Compose and check a config outside of a run."""
    return parse(recipe.without_hydra(compose(overrides)))


def load_part(configs: list[Config], part: str | None) -> tuple[Digits, str]:
    """Return a part of the runs' own data, and the part's name.

    Args:
        configs: Of the runs; the validation part is that of the first.
        part: `test` (locked away by split.test_size), `validation` or `all`; None: test if there is one.

    Raises:
        UserError: No such part, or runs that locked different images away.
    """
    config = configs[0]
    digits = load(config.data)
    if digits.labels is None or part == "all":
        return digits, "all"
    part = part or ("test" if config.split.test_size else "validation")
    if part == "test":
        if not config.split.test_size:
            raise UserError("--part test: this run locked no test part away (split.test_size=0)")
        if len({(one.split.test_size, one.split.seed) for one in configs}) > 1:
            raise UserError("--part test: these runs locked different images away; choose runs of one split")
        _, chosen = split_test(config.split, digits.labels)
    else:
        parts = list(splits(config.split, digits.labels))
        chosen = np.sort(np.concatenate([one.validation for one in parts]))
        if len(chosen) == 0:
            raise UserError("--part validation: this run has none (split=all); use --data or --part all")
    return Digits(digits.images[chosen], digits.labels[chosen], digits.source), part


def data_overrides(given: list[str], config: Config) -> list[str]:
    """Return what `--data` says as overrides: an option with its values, or just a path.

    `kaggle part=test` takes the path from the run, if the run was trained on Kaggle's data too.
    """
    name, *values = given
    path = Path(name)
    if path.exists():
        option = "npz" if path.suffix == ".npz" else "kaggle"
        if path.is_dir() and not (path / "test.csv").exists():
            option = "idx"
        values = [f"path={name}", *(["part=test"] if option == "kaggle" else []), *values]
        name = option
    if name == "kaggle" and isinstance(config.data, Kaggle) and not any(v.startswith("path=") for v in values):
        values = [f"path={config.data.path}", *values]
    keyed = [value if value.startswith("data.") else f"data.{value}" for value in values]
    pairs = [value.partition("=") for value in keyed]
    return [f"data={name}", *(f"{key}={recipe.override_text(value)}" for key, _, value in pairs)]


def average_probabilities(
    chosen: list[Record], weights: np.ndarray, images: np.ndarray, tta: int, compose: recipe.Compose
) -> np.ndarray:
    """Return averaged probabilities, float64 (n, 10), with one model in memory at a time.

    A run with folds counts as the mean of its models.

    Args:
        chosen: The runs.
        weights: Of each.
        images: uint8 (n, 28, 28, 1).
        tta: How many randomly changed copies of each image are predicted too; the changes are
            those that the run was trained with.
        compose: Composes from conf/.

    Raises:
        UserError: A model file that cannot be read; tta with a run without augmentation.
    """
    total = np.zeros((len(images), CLASSES))
    device = choose_device("auto")
    for record, weight in zip(chosen, weights, strict=True):
        if weight == 0:
            continue
        augmentation = RandomWarp(**vars(config_of(record, compose).augmentation), seed=0) if tta else None
        if augmentation and not (augmentation.moves or augmentation.erase):
            raise UserError(f"--tta {tta}: {record.run.folder} was trained with augmentation=none; leave it out")
        runs = record.run.models()
        for run in runs:
            forget_models()
            with keras.device(device):
                total += weight / len(runs) * _predict(_load_model(run), images, augmentation, tta)
    return total


def format_scores(probabilities: np.ndarray, labels: np.ndarray) -> str:
    """Return accuracy, log loss, figures for each label and the confusion matrix as text.

    Args:
        probabilities: float (n, 10).
        labels: int (n,), 0-9.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = int((predicted != labels).sum())
    report = classification_report(labels, predicted, labels=range(CLASSES), digits=4, zero_division=np.nan)
    matrix = pd.DataFrame(confusion_matrix(probabilities, labels)).rename_axis(index="true", columns="predicted")
    return "\n".join(
        [
            f"accuracy   {accuracy(probabilities, labels):.5f} ({wrong:,} of {len(labels):,} wrong)",
            f"log loss   {log_loss(probabilities, labels):.5f}",
            "",
            report,
            matrix.replace(0, ".").to_string(),
        ]
    )


def seen_in_training(configs: list[Config], images: np.ndarray) -> int | None:
    """Count the images that occur, pixel for pixel, among the runs' training images; None if these are not at hand."""
    try:
        digits = load(configs[0].data)
    except (UserError, OSError):
        return None
    if digits.labels is None:
        return None
    parts = [part for config in configs for part in splits(config.split, digits.labels)]
    used = np.unique(np.concatenate([part.train for part in parts]))
    known = {image.tobytes() for image in digits.images[used]}
    return sum(image.tobytes() in known for image in images)


def note_test(chosen: list[Record], probabilities: np.ndarray, labels: np.ndarray) -> None:
    """Write into each run's folder that its locked test part was scored."""
    for record in chosen:
        record.run.append_test(
            {
                "when": datetime.now().isoformat(timespec="seconds"),
                "models": len(chosen),
                "images": len(labels),
                "accuracy": round(accuracy(probabilities, labels), 6),
                "log_loss": round(log_loss(probabilities, labels), 6),
            }
        )


def _load_model(run: RunFolder) -> keras.Model:
    try:
        return keras.saving.load_model(run.model, compile=False)
    except Exception as error:  # zip, JSON, HDF5 and Keras errors
        raise UserError(f"{run.model}: no readable model ({str(error).splitlines()[0]})") from error


def _predict(model: keras.Model, images: np.ndarray, augmentation: RandomWarp | None, copies: int) -> np.ndarray:
    total = np.asarray(model.predict(images, batch_size=BATCH, verbose=0), np.float64)
    if augmentation is None:
        return total
    model = from_float(model, "probabilities")
    for _ in range(copies):
        for start in range(0, len(images), BATCH):
            changed = augmentation(images[start : start + BATCH], training=True)
            total[start : start + BATCH] += keras.ops.convert_to_numpy(model.predict_on_batch(changed))
    return total / (copies + 1)
