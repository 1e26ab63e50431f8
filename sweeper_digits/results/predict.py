"""Predictions of finished runs, alone or averaged: scores, Kaggle's submission, single pictures."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sweeper_digits.data.digits import CLASSES, SIDE, Digits
from sweeper_digits.data.split import split_test, splits
from sweeper_digits.data.tables import read_kaggle_file
from sweeper_digits.errors import UserError
from sweeper_digits.options import Kaggle
from sweeper_digits.runs import predictions
from sweeper_digits.runs import recipe as recipes
from sweeper_digits.runs import record as records
from sweeper_digits.runs.folder import Run, replacing
from sweeper_digits.runs.record import Record
from sweeper_digits.schema import Config, parse
from sweeper_digits.training import device as hardware
from sweeper_digits.training import run as training
from sweeper_digits.training.augmentation import RandomWarp
from sweeper_digits.training.models import from_float

BATCH = 1000  # images


def members(paths: Sequence[str | Path], top: int) -> list[Record]:
    """Return the best finished runs below the paths that have weights, best first.

    Raises:
        UserError: None, or runs of different data.
    """
    found = records.find(paths)
    ranked = records.best_first(found, records.objectives_of(found)[0])
    ranked += [record for record in found if record.finished and record not in ranked]  # split=all has no val_loss
    chosen = [record for record in ranked if record.run.models()][:top]
    if not chosen:
        raise UserError(f"{', '.join(map(str, paths))}: no finished run with a model.keras in it")
    for record in chosen[1:]:
        if (ours := _data_of(record)) != (theirs := _data_of(chosen[0])):
            raise UserError(
                f"{record.run.folder}: trained on {ours}, but {chosen[0].run.folder} on {theirs}; choose one"
            )
    return chosen


def weights_of(chosen: list[Record], how: str) -> np.ndarray:
    """Return each run's weight, sum 1.

    Args:
        chosen: The runs.
        how: `equal`, `loss` (inverse validation loss) or `greedy` (chosen on validation predictions).

    Raises:
        UserError: Runs validated on different images.
    """
    if how == "equal" or len(chosen) == 1:
        return np.full(len(chosen), 1 / len(chosen))
    if how == "loss":
        losses = [record.value("val_loss") for record in chosen]
        if missing := [record for record, loss in zip(chosen, losses, strict=True) if loss is None]:
            raise UserError(f"--weights loss: {missing[0].run.folder} has no val_loss")
        return predictions.weights_by_loss([loss for loss in losses if loss is not None])
    saved = [record.run.read_validation() for record in chosen]
    orders = [np.argsort(one.images) for one in saved]  # folds come in another order
    for one, order, record in zip(saved, orders, chosen, strict=True):
        if not np.array_equal(one.images[order], saved[0].images[orders[0]]):
            raise UserError(f"--weights greedy: {record.run.folder} was validated on other images; use equal or loss")
    candidates = np.stack([one.probabilities[order] for one, order in zip(saved, orders, strict=True)])
    return predictions.greedy_weights(candidates, saved[0].labels[orders[0]])


def config_of(record: Record, compose: recipes.Compose) -> Config:
    """Return a run's config."""
    return compose_config(recipes.overrides(recipes.recipe_of(record, compose)), compose)


def configs_of(chosen: list[Record], compose: recipes.Compose) -> list[Config]:
    """Return a config for each way in which the runs split their data; the first run's first."""
    by_split: dict[str, Record] = {}
    for record in chosen:
        split = {name: value for name, value in record.settings.items() if name.split(".")[0] == "split"}
        by_split.setdefault(json.dumps(split, sort_keys=True), record)
    return [config_of(record, compose) for record in by_split.values()]


def compose_config(overrides: list[str], compose: recipes.Compose) -> Config:
    """Compose and check a config outside of a run."""
    composed = compose(overrides)
    return parse(recipes.without_hydra(composed))


def images_of(configs: list[Config], part: str | None) -> tuple[Digits, str]:
    """Return a part of the runs' own data, and what it is, for people.

    Args:
        configs: Of the runs; a validation part is the first one's.
        part: `test` (locked away by split.test_size), `validation` or `all`; None: test if there is one.

    Raises:
        UserError: No such part, or runs that locked different images away.
    """
    config = configs[0]
    digits = training.load(config.data)
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

    `kaggle part=test` takes the path from the run, if that was trained on Kaggle's data too.
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
    split_at = [value.partition("=") for value in keyed]
    return [f"data={name}", *(f"{key}={recipes.text(value)}" for key, _, value in split_at)]


def predict(
    chosen: list[Record], weights: np.ndarray, images: np.ndarray, tta: int, compose: recipes.Compose
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
    device = hardware.choose_device("auto")
    for record, weight in zip(chosen, weights, strict=True):
        if weight == 0:
            continue
        augmentation = RandomWarp(**vars(config_of(record, compose).augmentation), seed=0) if tta else None
        if augmentation and not (augmentation.moves or augmentation.erase):
            raise UserError(f"--tta {tta}: {record.run.folder} was trained with augmentation=none; leave it out")
        runs = record.run.models()
        for run in runs:
            hardware.forget_models()
            with keras.device(device):
                total += weight / len(runs) * _predict(_load(run), images, augmentation, tta)
    return total


def scores(probabilities: np.ndarray, labels: np.ndarray) -> str:
    """Return accuracy, log loss, per-class figures and the confusion matrix as text."""
    matrix = predictions.confusion_matrix(probabilities, labels)
    right, true, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    lines = [
        f"accuracy   {predictions.accuracy(probabilities, labels):.5f} "
        f"({len(labels) - right.sum():,} of {len(labels):,} wrong)",
        f"log loss   {predictions.log_loss(probabilities, labels):.5f}",
        "",
        "label  precision  recall  images  predicted as" + "".join(f"{c:6d}" for c in range(CLASSES)),
    ]
    for c in range(CLASSES):
        precision = f"{right[c] / predicted[c]:.4f}" if predicted[c] else ""
        recall = f"{right[c] / true[c]:.4f}" if true[c] else ""
        counts = "".join(f"{count or '.':>6}" for count in matrix[c])
        lines.append(f"{c:5d}  {precision:>9s}  {recall:>6s}  {true[c]:6d}              {counts}")
    return "\n".join(lines)


def write(path: Path, probabilities: np.ndarray, sample: np.ndarray | None) -> None:
    """Write Kaggle's `ImageId,Label` (.csv) or the probabilities (.npz).

    Args:
        path: Of the file; replaced as a whole.
        probabilities: float (n, 10).
        sample: The ImageIds that Kaggle expects, or None: 1 to n.

    Raises:
        UserError: Another suffix, or other rows than the sample has.
    """
    labels = probabilities.argmax(axis=1)
    if path.suffix == ".npz":
        with replacing(path) as temporary:
            np.savez_compressed(temporary, probabilities=probabilities.astype(np.float32), labels=labels)
        return
    if path.suffix != ".csv":
        raise UserError(f"--out {path}: the suffix must be .csv (labels) or .npz (probabilities)")
    ids = np.arange(1, len(labels) + 1) if sample is None else sample
    if len(ids) != len(labels):
        raise UserError(f"{path}: sample_submission.csv has {len(ids)} rows, the predictions {len(labels)}")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["ImageId", "Label"])
    writer.writerows(zip(ids.tolist(), labels.tolist(), strict=True))
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue())


def sample_ids(option: Any) -> np.ndarray | None:
    """Return the ImageIds of Kaggle's sample_submission.csv beside the data, or None without one.

    Raises:
        UserError: Another header than ImageId,Label, or an id that is no number.
    """
    if not (isinstance(option, Kaggle) and option.part == "test"):
        return None
    path = Path(option.path).expanduser()
    try:
        name, raw = read_kaggle_file(path.parent if path.suffix.lower() == ".csv" else path, "sample_submission.csv")
    except UserError:
        return None
    rows = list(csv.reader(io.StringIO(raw.decode(errors="replace"))))
    if not rows or rows[0] != ["ImageId", "Label"]:
        raise UserError(f"{name}: its header is {','.join(rows[0]) if rows else 'missing'}; expected ImageId,Label")
    try:
        return np.array([int(row[0]) for row in rows[1:] if row])
    except ValueError as error:
        raise UserError(f"{name}: an ImageId that is no whole number ({error})") from error


def seen_in_training(configs: list[Config], images: np.ndarray) -> int | None:
    """Return how many of the images occur, pixel for pixel, among the runs' training images; None: no data at hand."""
    try:
        digits = training.load(configs[0].data)
    except (UserError, OSError):
        return None
    if digits.labels is None:
        return None
    parts = [part for config in configs for part in splits(config.split, digits.labels)]
    used = np.unique(np.concatenate([part.train for part in parts]))
    return int(np.isin(_hashes(images), _hashes(digits.images[used])).sum())


def note_test(chosen: list[Record], probabilities: np.ndarray, labels: np.ndarray) -> None:
    """Write into each run's folder that its locked test part was looked at."""
    for record in chosen:
        record.run.append_test(
            {
                "when": datetime.now().isoformat(timespec="seconds"),
                "models": len(chosen),
                "images": len(labels),
                "accuracy": round(predictions.accuracy(probabilities, labels), 6),
                "log_loss": round(predictions.log_loss(probabilities, labels), 6),
            }
        )


def _load(run: Run) -> keras.Model:
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


def _hashes(images: np.ndarray) -> np.ndarray:
    """Return a uint64 per image: a random linear hash, so that equal ones are found quickly."""
    factors = np.random.default_rng(0).integers(0, 2**63, SIDE * SIDE, dtype=np.uint64)
    flat = images.reshape(len(images), -1)
    return np.concatenate([flat[i : i + 2000].astype(np.uint64) @ factors for i in range(0, len(flat), 2000)])


def _data_of(record: Record) -> str:
    names = sorted(name for name in record.settings if name.split(".")[0] == "data" and not name.endswith("_target_"))
    return " ".join(f"{name}={record.settings[name]}" for name in names if name != "data.part")
