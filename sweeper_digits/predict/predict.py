"""`predict`: scores, a submission, or labels of single pictures, from one model or several."""

import argparse
import contextlib
import glob
import inspect
import io
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from sklearn.metrics import classification_report

from sweeper_digits import command_line, components
from sweeper_digits.config import parse
from sweeper_digits.data.contents import list_members
from sweeper_digits.data.dataset import DIGITS, Dataset, load
from sweeper_digits.data.file import default_part
from sweeper_digits.data.pictures import is_picture, read_pictures
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_text
from sweeper_digits.predict.ensemble import Member, choose_members, models_of, weigh_members
from sweeper_digits.predict.images import Looked, adapt_pictures, adapt_pixels, find_part, look, trained_white
from sweeper_digits.predict.submission import read_sample, write_predictions
from sweeper_digits.runs import recipe
from sweeper_digits.runs.judge import format_value, standard_error
from sweeper_digits.runs.predictions import (
    accuracy,
    by_class,
    confusion_matrix,
    error_of_mean,
    log_loss,
    right_and_losses,
)
from sweeper_digits.runs.record import Record, saved_option
from sweeper_digits.text import as_json, printable
from sweeper_digits.training.augmentation import RandomWarp, build_augmentation
from sweeper_digits.training.device import choose_device, forget_models
from sweeper_digits.training.network import on_floats

BATCH = 1000  # images
TARGET = "data._target_"
UNKNOWN = "not known how many of them were trained on: a run did not keep which images it read"


def main(arguments: argparse.Namespace) -> None:
    """Print what the runs predict; write it where `--out` says.

    Raises:
        UserError: A picture without a label; raised after the others are printed.
    """
    with contextlib.redirect_stdout(sys.stderr if arguments.json else sys.stdout):
        runs, pictures = sort_paths(arguments.paths)
    _check(arguments, runs, pictures)
    with contextlib.redirect_stdout(io.StringIO() if arguments.json else sys.stdout):  # the document has it all
        document = predict(arguments, runs, pictures)
    if arguments.json:
        print(as_json(document), end="")
    check_labelled(document.get("pictures", []))


def predict(arguments: argparse.Namespace, runs: list[str], pictures: list[Path]) -> dict[str, Any]:
    """Predict, print what comes out, and return the same as `--json` prints it."""
    chosen, candidates = choose_members(runs, arguments.top)
    weights = weigh_members(chosen, arguments.weights)
    for record, weight in zip(chosen, weights, strict=True):
        loss = format_value(record, "val_loss")
        print(f"model      {record.run.folder}  weight {weight:.3f}{loss and f'  val_loss {loss}'}")
    members, classes = models_of(chosen, weights), chosen[0].classes
    document: dict[str, Any] = {"models": model_rows(chosen, weights)}
    if pictures:
        rows = label_pictures(
            pictures, chosen, members, lambda images: average_probabilities(members, images, arguments.tta)
        )
        return document | {"pictures": rows}
    sample = None
    if arguments.data:
        option = compose_data(
            data_overrides(arguments.data, saved_option(chosen[0], "data"), trained_white(chosen[0])), chosen[0]
        )
        dataset = adapt_pixels(load(option), option, chosen[0]).with_classes(classes)
        part = getattr(option, "part", "all")
        looked = look(dataset, part if part == "all" else f"its {part} part", chosen, members)
        if hasattr(option, "path") and (dataset.labels is None or part != "train"):
            sample = read_sample(Path(option.path).expanduser())
    else:
        looked = find_part(chosen, members, arguments.part)
    print(f"data       {looked.describe()}")
    known = f"{looked.trained.sum():,} of them occur in the training data, pixel for pixel"
    print(f"           {known if looked.known else UNKNOWN}")
    for note in looked.dataset.notes:
        print(f"note       {printable(note)}")
    started = time.perf_counter()
    dataset = looked.dataset
    probabilities = average_probabilities(members, dataset.images, arguments.tta, looked.used)
    seconds = time.perf_counter() - started
    print(f"predicted  in {seconds:.1f} s, {len(dataset.images) / seconds:,.0f} images/s\n")
    note_looks(chosen, looked, probabilities)  # first: no look without its note
    caveat = looked.caveat(arguments.weights == "greedy" and len(chosen) > 1, len(chosen), candidates)
    if dataset.labels is not None:
        print(format_scores(probabilities, dataset.labels, classes, caveat))
    out = arguments.out or (Path("submission.csv") if dataset.labels is None else None)
    if out:
        write_predictions(out, probabilities, sample, classes, dataset.ids)
        print(f"written    {out}")
    return document | {
        "data": data_row(looked),
        "seconds": seconds,
        "scores": None if dataset.labels is None else scores_row(probabilities, dataset.labels, classes, caveat),
        "written": out,
    }


def _check(arguments: argparse.Namespace, runs: list[str], pictures: list[Path]) -> None:
    if not runs:
        raise UserError("predict: name a run or a sweep, for example predict multirun/quick 7.png")
    if arguments.out and arguments.out.suffix not in (".csv", ".npz"):
        raise UserError(f"--out {arguments.out}: the suffix must be .csv (labels) or .npz (probabilities)")
    if pictures and (arguments.data or arguments.part or arguments.out):
        raise UserError("predict: labels of pictures are printed; leave out --data, --part and --out, or the pictures")
    if arguments.data and arguments.part:
        raise UserError("--part is a part of the run's own data; leave out --part or --data")


def data_overrides(given: list[str], own: Any, white: float | None = None) -> list[str]:
    """Return what `--data` says as overrides: an option with its values, or just a path.

    A path without `part=` means its test part if it has one, else all. Its images are brought to the size that the
    run's own were brought to, and scaled as they were; what names their groups is neither a pixel nor a class.
    `kaggle part=test` takes the path, and what was said of it, from the run's own data, if that was read by the same
    function: by `kaggle`, `file` or another of its names.
    """
    name, *values = given
    keyed = {key.removeprefix("data."): text for key, _, text in (value.partition("=") for value in values)}
    path = Path(name).expanduser()
    if path.exists():
        part = keyed.get("part") or default_part(path, keyed.get("member"))
        known = {"size": getattr(own, "size", None), "white": white, "group": getattr(own, "group", None)}
        alike = {key: str(value) for key, value in known.items() if value}
        name, keyed = "file", {"path": name, **alike, **keyed, "part": part}
    elif "path" not in keyed and hasattr(own, "path") and _is_read_alike(name, own):
        said = ("path", "size", "label", "member", "white", "group")
        keyed = {key: str(value) for key in said if (value := getattr(own, key, None))} | keyed
    texts = {
        key: value if value.isdecimal() or value == "null" else override_text(value) for key, value in keyed.items()
    }
    return [f"data={name}", *(f"data.{key}={text}" for key, text in texts.items())]


def _is_read_alike(name: str, own: Any) -> bool:
    """Return whether one function reads the data of an option and that of a run, whatever their names."""
    component = components.options_of("data").get(name)
    return component is not None and (
        inspect.unwrap(component.make) is inspect.unwrap(components.find("data", vars(own)).make)
    )


def compose_data(overrides: list[str], record: Record) -> Any:
    """Compose and check an option of `data` from today's conf/.

    A run's own option, which only a file of its user's has, gets the values that the run saved.
    """
    compose = recipe.composer(command_line.CONF)
    if overrides[0] == f"data={record.settings['data']}" and (option := recipe.option_of(record, "data", compose)):
        left_out = (TARGET, "data.limit", "data.limit_seed")  # they are of the training data alone
        own = {key: one for key, one in record.settings.items() if key.startswith("data.") and key not in left_out}
        saved = [f"data={option}", *(f"{key}={override_text(value)}" for key, value in own.items())]
        overrides = overrides if overrides[0] == saved[0] else [*saved, *overrides[1:]]
    return parse(recipe.without_hydra(compose(overrides))).data


def average_probabilities(
    members: list[Member], images: np.ndarray, tta: int, used: np.ndarray | None = None
) -> np.ndarray:
    """Return averaged probabilities, float64 (n, classes), with one model in memory at a time.

    Args:
        members: The models and their weights.
        images: uint8 (n, height, width, channels).
        tta: How many randomly changed copies of each image are predicted too; the changes are
            those that the run was trained with.
        used: bool (models, n), which model predicts which image, each at least one; None: each predicts all.

    Raises:
        UserError: A model file that cannot be read; tta with a run without augmentation.
    """
    used = np.ones((len(members), len(images)), bool) if used is None else used
    total = np.zeros((len(images), len(members[0].record.classes)))
    device = choose_device("auto")
    for member, rows in zip(members, used, strict=True):
        augmentation = _augmentation(member, tta)
        if rows.any():
            forget_models()
            with keras.device(device):
                total[rows] += member.weight * _predict(_load_model(member, images), images[rows], augmentation, tta)
    return total / (np.array([member.weight for member in members]) @ used)[:, np.newaxis]


def _augmentation(member: Member, tta: int) -> keras.layers.Layer | None:
    if not tta:
        return None
    augmentation = build_augmentation(saved_option(member.record, "augmentation"), seed=0)
    if isinstance(augmentation, RandomWarp) and not (augmentation.moves or augmentation.erase):
        raise UserError(f"--tta {tta}: {member.record.run.folder} was trained with augmentation=none; leave it out")
    return augmentation


def _load_model(member: Member, images: np.ndarray) -> keras.Model:
    """Return the member's model, which takes these images and gives a probability for each of its run's classes."""
    file = member.run.model
    if not file.is_file():  # a pipe would be waited on for ever
        raise UserError(f"{file}: not a file")
    try:
        model = keras.saving.load_model(file, compile=False)
        (_, *taken), (_, given) = model.input_shape, model.output_shape
    except Exception as error:  # zip, JSON, HDF5 and Keras errors
        cause = str(error).splitlines()[0]
        try:  # perhaps a layer of its own module
            components.find("model", {"_target_": member.record.settings.get("model._target_")})
        except UserError as unknown:
            cause = str(unknown)
        raise UserError(f"{file}: no readable model ({cause})") from error
    if len(taken) != 3:
        raise UserError(f"{file}: a model from {model.input_shape} to {model.output_shape}; not one of this program")
    if tuple(taken) != images.shape[1:]:
        found, expected = ("x".join(map(str, shape)) for shape in (images.shape[1:], taken))
        square = taken[0] == taken[1] and taken[2] == images.shape[3]
        advice = f"; --data FILE size={taken[0]} brings them there" if square else ""
        raise UserError(f"{file}: takes images of {expected} (height, width, channels); these are {found}{advice}")
    if given != len(member.record.classes):
        raise UserError(f"{file}: tells {given} classes apart, but its metrics.json names {len(member.record.classes)}")
    return model


def _predict(
    model: keras.Model, images: np.ndarray, augmentation: keras.layers.Layer | None, copies: int
) -> np.ndarray:
    total = np.asarray(model.predict(images, batch_size=BATCH, verbose=0), np.float64)
    if augmentation is None:
        return total
    model = on_floats(model, model.output)
    for _ in range(copies):
        for start in range(0, len(images), BATCH):
            changed = augmentation(images[start : start + BATCH], training=True)
            total[start : start + BATCH] += keras.ops.convert_to_numpy(model.predict_on_batch(changed))
    return total / (copies + 1)


TABLES = (".csv", ".npz", ".npy", ".gz", ".zip", ".parquet", ".mat", ".h5")  # data sets, not pictures


def sort_paths(given: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Tell runs from pictures by what is there, not by names.

    A folder with a run anywhere in it is a run or a sweep; one with pictures in it, at any depth, stands for all of
    them, in the order of their names, numbers as numbers. A pattern such as `*.webp` stands for what it matches.

    Returns:
        The runs, and the pictures.

    Raises:
        UserError: A path that is neither.
    """
    runs: list[str] = []
    pictures: list[Path] = []
    for path in (found for text in given for found in _expand(text)):
        if not path.is_dir():
            if path.suffix.lower() in TABLES:
                raise UserError(f"{path}: not a readable picture; to predict data, type --data {path}")
            pictures.append(path)
        elif next(path.rglob(".hydra"), None):
            if any(is_picture(file) for file in path.iterdir() if file.is_file()):
                raise UserError(f"{path}: both runs and pictures are in it; name a run, or pictures: '{path}/*.png'")
            runs.append(str(path))
        else:
            files = [file for member in list_members(path) if (file := path / member.name).is_file()]
            if not (found := [file for file in files if is_picture(file)]):
                raise UserError(f"{path}: neither a run (a folder .hydra) nor a picture is in it")
            if len(found) < len(files):
                print(f"left out   {len(files) - len(found):,} of {len(files):,} files in {path}: no pictures")
            pictures.extend(sorted(found, key=_in_numeric_order))
    return runs, pictures


def label_pictures(
    pictures: Sequence[Path],
    chosen: list[Record],
    members: list[Member],
    predict: Callable[[np.ndarray], np.ndarray],
) -> list[dict[str, Any]]:
    """Print the label of each picture and its probability, or why it has none; return the same, a row for each.

    A picture that equals an image that a run locked away for testing is noted there as a look.

    Args:
        pictures: The files.
        chosen: The runs.
        members: Their models.
        predict: Gives probabilities, float (n, classes), of images, uint8 (n, height, width, channels).
    """
    classes = chosen[0].classes
    images, refused = read_pictures(pictures, chosen[0].image_shape, classes == DIGITS, trained_white(chosen[0]))
    known: Iterator[np.ndarray] = iter(())
    if len(images):
        images = adapt_pictures(images, chosen[0])
        probabilities = predict(images)
        looked = look(Dataset(images, None, "pictures"), "pictures", chosen, members)
        note_looks(chosen, looked, probabilities)  # first: no look without its note
        known = iter(probabilities)
    lengths = max(len(printable(str(path))) for path in pictures), max(map(len, classes))
    rows: list[dict[str, Any]] = []
    for path in pictures:
        name = printable(str(path)).ljust(lengths[0])
        if path in refused:
            rows.append({"path": path, "label": None, "probability": None, "reason": printable(refused[path])})
            if len(pictures) > 1:  # of a single one, the error says it
                print(f"{name}  {'-'.ljust(lengths[1])}  {printable(refused[path])}")
        else:
            row = next(known)
            label, probability = classes[row.argmax()], float(row.max())
            rows.append({"path": path, "label": label, "probability": probability, "reason": None})
            print(f"{name}  {label.ljust(lengths[1])}  {probability:6.1%}")
    return rows


def check_labelled(rows: list[dict[str, Any]]) -> None:
    """Raise a UserError unless each picture has a label.

    Args:
        rows: As `label_pictures` returns them.
    """
    refused = [row for row in rows if row["label"] is None]
    if len(rows) == len(refused) == 1:
        raise UserError(f"{printable(str(rows[0]['path']))}: {rows[0]['reason']}")
    if refused:
        raise UserError(f"{len(refused):,} of {len(rows):,} pictures have no label; their lines say why")


def _expand(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.exists():
        return [path]
    if glob.has_magic(text):
        if found := [Path(name) for name in glob.glob(str(path), recursive=True)]:  # noqa: PTH207 - also absolute
            return sorted(found, key=_in_numeric_order)
        raise UserError(f"{text}: no file or folder matches")
    raise UserError(f"{text}: no such folder, no such picture")


def _in_numeric_order(path: Path) -> list[tuple[int, str]]:
    return [(int(one), "") if one.isdecimal() else (-1, one) for one in re.split(r"(\d+)", str(path)) if one]


WIDEST = 100  # columns of a terminal
MOST_CONFUSIONS = 20


def format_scores(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], caveat: str = "") -> str:
    """Return accuracy, log loss, figures for each label and the confusion matrix as text.

    A value behind ± is one standard error over the images.

    Args:
        probabilities: float (n, classes).
        labels: int (n,), places in the classes.
        classes: Their names.
        caveat: What the lines of accuracy and log loss say beside the value, with a semicolon in front.
    """
    predicted = probabilities.argmax(axis=1)
    right, losses = right_and_losses(probabilities, labels)
    report = classification_report(
        labels, predicted, labels=range(len(classes)), target_names=classes, digits=4, zero_division=np.nan
    )
    return "\n".join(
        [
            f"accuracy   {accuracy(probabilities, labels):.5f}{_error(right)} "
            f"({(~right).sum():,} of {len(labels):,} wrong{caveat})",
            f"log loss   {log_loss(probabilities, labels):.5f}{_error(losses)}{caveat and f' ({caveat[2:]})'}",
            "",
            report,
            _format_confusions(confusion_matrix(probabilities, labels), classes),
        ]
    )


def _format_confusions(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Return the matrix, or the most frequent confusions where the matrix is too wide for a terminal."""
    table = pd.DataFrame(matrix, classes, classes).rename_axis(index="true", columns="predicted")
    text: str = table.replace(0, ".").to_string()
    if max(map(len, text.splitlines())) <= WIDEST:
        return text
    mistakes = table.stack().rename("images").reset_index()
    mistakes = mistakes[(mistakes["true"] != mistakes["predicted"]) & (mistakes["images"] > 0)]
    if mistakes.empty:
        return "no confusions"
    most = mistakes.sort_values("images", ascending=False, kind="stable").head(MOST_CONFUSIONS)
    return f"the most frequent of {len(mistakes)} confusions\n{most.to_string(index=False)}"


def note_looks(chosen: list[Record], looked: Looked, probabilities: np.ndarray) -> None:
    """Write into the folder of each run that its locked images were looked at, with their scores if they have labels.

    Args:
        chosen: The runs.
        looked: The images.
        probabilities: float (n, classes).
    """
    for record, locked in zip(chosen, looked.locked, strict=True):
        if not locked.any():
            continue
        row = {
            "when": datetime.now().isoformat(timespec="seconds"),
            "models": len(chosen),
            "images": int(locked.sum()),
            "accuracy": "",
            "log_loss": "",
        }
        if (labels := looked.dataset.labels) is not None:
            row["accuracy"] = round(accuracy(probabilities[locked], labels[locked]), 6)
            row["log_loss"] = round(log_loss(probabilities[locked], labels[locked]), 6)
        record.run.append_test(row)
        if looked.part != "test":
            print(f"noted      {locked.sum():,} of the images are locked for testing: {record.run.tests}")


def _error(values: np.ndarray) -> str:
    return f" ± {error_of_mean(values):.5f}" if len(values) > 1 else ""


def model_rows(chosen: list[Record], weights: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "folder": record.run.folder,
            "weight": weight,
            "val_loss": record.value("val_loss"),
            "val_loss_se": standard_error(record, "val_loss"),
        }
        for record, weight in zip(chosen, weights, strict=True)
    ]


def data_row(looked: Looked) -> dict[str, Any]:
    """Return which images were predicted, and how many of them the runs knew; null where it is not known."""
    return {
        "source": looked.dataset.source,
        "part": looked.part,
        "images": len(looked.dataset.images),
        "trained_on": looked.trained.sum() if looked.known else None,
        "validated_on": looked.validated.sum() if looked.known else None,
        "relabelled": looked.relabelled.sum() if looked.known else None,
        "locked_for_testing": looked.locked.any(axis=0).sum() if looked.known else None,
        "notes": list(looked.dataset.notes),
    }


def scores_row(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], caveat: str) -> dict[str, Any]:
    """Return accuracy and log loss, each with its standard error over the images, and what each class got.

    Args:
        probabilities: float (n, classes).
        labels: int (n,), places in the classes.
        classes: Their names.
        caveat: As `format_scores` takes it.
    """
    right, losses = right_and_losses(probabilities, labels)
    return {
        "accuracy": accuracy(probabilities, labels),
        "accuracy_se": error_of_mean(right),
        "log_loss": log_loss(probabilities, labels),
        "log_loss_se": error_of_mean(losses),
        "wrong": (~right).sum(),
        "caveat": caveat.removeprefix("; ") or None,
        "classes": list(classes),
        **by_class(probabilities, labels, classes),
    }
