"""`predict`: what finished runs, alone or averaged, say of images: scores, a submission, single pictures."""

import argparse
import contextlib
import io
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sweeper_digits import command_line, registry, screen
from sweeper_digits.data.dataset import load
from sweeper_digits.data.file import default_part
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_text
from sweeper_digits.results.adapt import adapt_pixels, trained_white
from sweeper_digits.results.document import as_json
from sweeper_digits.results.ensemble import Member, choose_members, models_of, weigh_members
from sweeper_digits.results.images import find_part, look
from sweeper_digits.results.repetitions import format_value
from sweeper_digits.results.rows import data_row, model_rows, scores_row
from sweeper_digits.results.scores import format_scores, note_looks
from sweeper_digits.results.single import check_labelled, label_pictures, sort_paths
from sweeper_digits.results.submission import read_sample, write_predictions
from sweeper_digits.runs import recipe
from sweeper_digits.runs.record import Record, saved_option
from sweeper_digits.schema import parse
from sweeper_digits.training.augmentation import RandomWarp, build_augmentation
from sweeper_digits.training.device import choose_device, forget_models
from sweeper_digits.training.network import on_floats

BATCH = 1000  # images
TARGET = "data._target_"
UNKNOWN = "not known how many of them were trained on: an earlier version did not keep which images a run read"


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
        sample = read_sample(option)
    else:
        looked = find_part(chosen, members, arguments.part)
    print(f"data       {looked.describe()}")
    known = f"{looked.trained.sum():,} of them occur in the training data, pixel for pixel"
    print(f"           {known if looked.known else UNKNOWN}")
    for note in looked.dataset.notes:
        print(f"note       {screen.printable(note)}")
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

    Of a path without `part=`, the part for testing is meant if it has one, else all; its images are brought to the
    size that the run's own were brought to, and scaled as they were. `kaggle part=test` takes the path from the run's
    own data, if it has one of the same option.
    """
    name, *values = given
    keyed = {key.removeprefix("data."): text for key, _, text in (value.partition("=") for value in values)}
    path = Path(name).expanduser()
    if path.exists():
        part = keyed.get("part") or default_part(path, keyed.get("member"))
        known = {"size": getattr(own, "size", None), "white": white}
        alike = {key: str(value) for key, value in known.items() if value}
        name, keyed = "file", {"path": name, **alike, **keyed, "part": part}
    elif name == registry.find("data", vars(own)).name and hasattr(own, "path"):
        keyed = {"path": own.path, **keyed}
    texts = {key: value if value.isdecimal() else override_text(value) for key, value in keyed.items()}
    return [f"data={name}", *(f"data.{key}={text}" for key, text in texts.items())]


def compose_data(overrides: list[str], record: Record) -> Any:
    """Compose and check an option of `data` from today's conf/.

    Of a run's own option, which only a file of its user's has, the run's saved values are taken.
    """
    compose = recipe.composer(command_line.CONF)
    if overrides[0] == f"data={record.settings['data']}" and (option := recipe.option_of(record, "data", compose)):
        own = {key: value for key, value in record.settings.items() if key.startswith("data.") and key != TARGET}
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
            registry.find("model", {"_target_": member.record.settings.get("model._target_")})
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
