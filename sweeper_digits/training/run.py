"""One run: prepare, fit and keep on each split, then metrics.json and the objective."""

import functools
import importlib.metadata
import logging
import os
import platform
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import sweeper_digits
from sweeper_digits import components, program
from sweeper_digits.config import METRIC_OF, All, Config, epoch_metric
from sweeper_digits.data.dataset import Dataset, load
from sweeper_digits.data.fingerprint import Content
from sweeper_digits.data.inspection import Inspection, inspect
from sweeper_digits.data.split import Subsets, note_groups, splits_of
from sweeper_digits.errors import Diverged, UserError
from sweeper_digits.runs import begun
from sweeper_digits.runs.folder import RunFolder
from sweeper_digits.runs.own_folder import claimed
from sweeper_digits.text import counted, printable, relative
from sweeper_digits.training import reporting
from sweeper_digits.training.context import Watch
from sweeper_digits.training.continued import checked_source, compared, finished_fold, source_of
from sweeper_digits.training.device import (
    choose_device,
    choose_precision,
    computing_in,
    describe_device,
    forget_models,
)
from sweeper_digits.training.export import COMPARED, check_packages, export
from sweeper_digits.training.fit import clean_epochs, draw, fit, keep, prepare
from sweeper_digits.training.validation import objectives_of

log = logging.getLogger(__name__)

LONGEST_CAUSE = 300  # characters of an error of a registered part; Keras writes whole pages


def run(config: Config, folder: str | Path, in_sweep: bool = False) -> float | list[float] | None:
    """Train as configured, leave everything in a folder, and return the objective.

    With split=kfold and no fold named, each fold is trained in a folder of its own and the
    objective is the mean over the folds. With several objectives they are returned as a list. A
    trial that its sweep prunes, or that diverges, returns None and leaves metrics.json saying so.

    Args:
        config: The run.
        folder: Where its files go; made if it is missing.
        in_sweep: Whether it is a trial of a sweep.

    Raises:
        UserError: Bad input, a folder with another run, or a loss that became NaN.
    """
    here, watch = RunFolder(folder), Watch()
    with claimed(folder, config.resume, in_sweep):
        try:
            objective = _run(config, here, in_sweep, watch)
        except KeyboardInterrupt:
            watch.end("stopped")
            if not in_sweep:
                _describe_stop(config, here)
            raise
        except (Exception, SystemExit) as error:
            watch.end("diverged" if isinstance(error, Diverged) else "failed")
            if isinstance(error, UserError) and (ours := re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error))):
                raise UserError(ours[1]) from error  # raised in a layer, where Keras writes around it
            place = None if isinstance(error, UserError) else components.blame(error)
            if place is None:
                raise
            text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
            raise UserError(f"{place}: {type(error).__name__}: {text[:LONGEST_CAUSE]}") from error
        watch.end((here.read_metrics() or {}).get("state", "failed"))
        return objective


def _describe_stop(config: Config, here: RunFolder) -> None:
    """Say what continues a run that a person has stopped."""
    if any(part.checkpoint.exists() or part.metrics.exists() for part in (here, *here.folds())):
        callbacks = begun.as_options(config.plain()["callbacks"])
        command = program.command("train", f"resume={relative(here.folder)}", *callbacks)
        log.info("\nstopped; this command continues:\n  %s", printable(command))
    else:
        log.info("\nstopped before its first checkpoint; nothing is there to continue")


def _run(config: Config, here: RunFolder, in_sweep: bool, watch: Watch) -> float | list[float] | None:
    started = time.perf_counter()
    if isinstance(config.split, All) and in_sweep:
        raise UserError("split=all: a sweep needs a validation part for its objective; use split=holdout or kfold")
    device = choose_device(config.device)
    source, precision = _begin(config, here, in_sweep, choose_precision(config.precision, device))
    check_packages(config.export)
    dataset = _read(config)
    assert dataset.labels is not None  # noqa: S101 - for mypy
    pixels = inspect(dataset, config.data)
    parts = splits_of(config.split, dataset)
    content = Content.of(dataset, parts)
    show_plan(config, dataset, pixels, parts, content, f"{describe_device(device)}, {precision}")
    source, known = checked_source(source, content)
    if known:
        here.write_images(content)
    with keras.device(device), computing_in(precision):
        measured = _train_subsets(config, dataset, parts, here, source, watch)
    measured = (_fingerprints(content, measured) if known else {}) | measured
    finished = "state" not in measured
    objective = _objective(config, measured) if finished else None
    seconds = round(watch.earlier_seconds + time.perf_counter() - started, 3)
    metrics = _about(config, dataset, objective, seconds, precision, device) | {"pixels": pixels.as_json()} | measured
    try:
        if finished:
            show_results(metrics)
            for trained in here.models() if config.export else []:
                export(config, trained, dataset.images[:COMPARED])
    finally:  # a failed export costs no result
        here.write_metrics(metrics)
    for part, trained in zip(parts, here.models(), strict=True) if finished and config.figures else ():
        draw(config, dataset, part, trained)
    if finished:
        log.info("%-13s %s", "folder", relative(here.folder))
    return objective


def train(
    config: Config,
    dataset: Dataset,
    parts: Subsets,
    folder: RunFolder,
    source: RunFolder | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Train one model on one split and write all its files but metrics.json and the pictures.

    Args:
        config: The run.
        dataset: Labelled.
        parts: Which of the images train and which validate.
        folder: Where to write.
        source: The run whose checkpoint is continued, if any.
        watch: Keeps the callbacks that the config names, and the time that was taken over.

    Returns:
        The metrics, of the best epoch's weights. `seconds` is the time of a resumed run's earlier parts too.

    Raises:
        UserError: The loss became NaN; history.csv stays.
    """
    forget_models()
    prepared = prepare(config, dataset, parts)
    fitted = fit(prepared, folder, source, watch)
    metrics = keep(prepared, fitted, folder)
    if "state" not in metrics:
        metrics["seconds"] = round(fitted.earlier_seconds + time.perf_counter() - prepared.started, 3)
    return metrics


def _begin(config: Config, here: RunFolder, in_sweep: bool, precision: str) -> tuple[RunFolder | None, str]:
    """Keep what the run is begun with; return the run that it continues, if any, and the precision of that one."""
    source = source_of(config, in_sweep)
    now, before = begun.Begun.now(config, precision, versions()), None
    try:
        before = begun.check_same(source, now) if source else None
    except UserError as error:
        reporting.start_over(error)
        source = None
    for line in begun.notes(before, now):
        log.info("note       %s", line)
    if before:
        now = now._replace(precision=before.precision)
    begun.save(now, here)
    return source, now.precision


def _read(config: Config) -> Dataset:
    """Return the images to train on.

    Raises:
        UserError: No labels, or one class. `OtherData` in a trial whose study began with other images.
    """
    dataset = load(config.data)
    if dataset.labels is None:
        raise UserError(
            f"{dataset.source}: {counted(len(dataset.images), 'image')} without labels; expected is a column or array "
            "named label, or at least two folders of pictures, one for each class"
        )
    if len(dataset.classes) < 2:
        raise UserError(f"{dataset.source}: all images have label {dataset.classes[0]}; two classes are needed")
    if trial := reporting.current_trial():
        trial.check_data(config.data, Content.of(dataset))
    return dataset


def _fingerprints(content: Content, measured: dict[str, Any]) -> dict[str, Any]:
    """Return what metrics.json says of the images; each fold's validation images are noted with the fold."""
    for number, fold in enumerate(measured.get("folds", [])):
        fold["validation_fingerprint"] = content.validation_fingerprint(number)
    return {"fingerprint": content.fingerprint, "validation_fingerprint": content.validation_fingerprint()}


def _train_subsets(
    config: Config, dataset: Dataset, parts: list[Subsets], here: RunFolder, source: RunFolder | None, watch: Watch
) -> dict[str, Any]:
    """Train on one split or on each fold; a trial that diverges returns a `state`."""
    try:
        if len(parts) == 1:
            return train(config, dataset, parts[0], here, source, watch)
        return _train_folds(config, dataset, parts, here, source, watch)
    except Diverged as error:
        if (trial := reporting.current_trial()) is None:
            raise
        trial.diverge(error.epoch, config.epochs)
        return {"state": "diverged", "error": str(error)}


def _train_folds(
    config: Config, dataset: Dataset, parts: list[Subsets], here: RunFolder, source: RunFolder | None, watch: Watch
) -> dict[str, Any]:
    """Train each fold; return what `_over_folds` makes of their metrics, and the standard errors over all images."""
    folds = []
    metric = epoch_metric(config.objective)
    if trial := reporting.current_trial():
        trial.splits = len(parts)
    for number, part in enumerate(parts):
        log.info("\nfold %d of %d", number + 1, len(parts))
        fold = here.fold(number)
        metrics = _train_fold(config, dataset, part, fold, source.fold(number) if source else None, watch)
        fold.write_metrics({"state": "finished", "division": Content.of(dataset, [part]).division} | metrics)
        folds.append(metrics)
        if trial and (trial.pruned or trial.fold(metrics[metric])):
            return {"state": "pruned", "folds": folds}
    means = _over_folds(folds, [part.name for part in objectives_of(config)])
    return means | here.read_validation().standard_errors()


def _over_folds(folds: list[dict[str, Any]], objectives: list[str]) -> dict[str, Any]:
    """Return the means over folds, and their standard deviations as `<name>_std`.

    The standard deviation over folds is what other training and validation images change together.

    Args:
        folds: The metrics of each fold.
        objectives: Names of the registered objectives in them.
    """
    names = [name for name, value in folds[0].items() if isinstance(value, int | float)]
    column = {name: [fold[name] for fold in folds] for name in names if all(name in fold for fold in folds)}
    metrics: dict[str, Any] = {name: float(np.mean(values)) for name, values in column.items()}
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", *objectives):
        metrics[f"{name}_std"] = float(np.std(column[name], ddof=1))
    metrics |= {name: sum(column[name]) for name in ("seconds", "epochs")}
    metrics["parameters"] = folds[0]["parameters"]
    return metrics | {"folds": [{name: fold[name] for name in column} for fold in folds]}


def _train_fold(
    config: Config, dataset: Dataset, parts: Subsets, fold: RunFolder, source: RunFolder | None, watch: Watch
) -> dict[str, Any]:
    """Return the fold's metrics; a fold that the source has finished is copied, one that it has begun is continued."""
    try:
        done = finished_fold(source, Content.of(dataset, [parts])) if source else None
        values = [row[epoch_metric(config.objective)] for row in source.read_history()] if source and done else []
    except UserError as error:
        reporting.start_over(error)
        source = done = None
    if source and done:
        log.info("already finished: val_loss %.4f", done["val_loss"])
        watch.earlier_seconds += done["seconds"]
        if trial := reporting.current_trial():
            trial.restore(values, config.epochs)
        if source.folder.resolve() != fold.folder.resolve():
            shutil.copytree(source.folder, fold.folder, dirs_exist_ok=True)
        return done
    return train(config, dataset, parts, fold, source if source and source.checkpoint.exists() else None, watch)


def _objective(config: Config, metrics: dict[str, Any]) -> Any:
    """Return the value of the one objective, or a list of several; None where nothing measured it."""
    values = [metrics.get(METRIC_OF.get(name, name)) for name in config.objective]
    return values[0] if len(values) == 1 else values


def _about(
    config: Config, dataset: Dataset, objective: Any, seconds: float, precision: str, device: str
) -> dict[str, Any]:
    """Return what metrics.json says about the run as a whole."""
    return {
        "state": "finished",
        "objectives": config.objective,
        "objective": objective,
        "directions": {part.name: part.direction for part in objectives_of(config)},
        "run_seconds": seconds,
        "precision": precision,
        "device": device,
        "seed": config.seed,
        "data": dataset.source,
        "image_shape": dataset.image_shape,
        "classes": dataset.classes,
        "versions": versions(),
        "code": begun.code_of(begun.Begun.now(config)),
        "git_commit": git_commit(),
    }


def show_plan(
    config: Config, dataset: Dataset, pixels: Inspection, parts: list[Subsets], content: Content, hardware: str
) -> None:
    """Print what a run is going to do, and with what; of a run that is repeated, whether its data is this."""
    train, validation = parts[0]
    text = f"{len(train):,} for training, {len(validation):,} for validation"
    if (locked := len(dataset.images) - len(train) - len(validation)) > 0:
        text += f", {locked:,} locked away for testing"
    if config.from_run:
        log.info("as         %s%s", printable(config.from_run), compared(config, content))
    log.info("data       %s: %s", printable(dataset.source), dataset.describe())
    for line in pixels.lines():
        log.info("%s", line)
    named = dataset.named_groups is not None
    by_group = f", by group: {int(dataset.groups.max()) + 1:,}" if named else ""
    log.info("split      %s%s", text if len(parts) == 1 else f"{len(parts)} folds, each about {text}", by_group)
    for note in note_groups(config.split, dataset, parts) if named else ():
        log.info("note       %s", note)
    clean = clean_epochs(config.clean_fraction, config.epochs)
    if config.patience is not None and 0 < clean < config.epochs:
        counts = f"counts from epoch {config.epochs - clean + 1}, the first of {counted(clean, 'clean epoch')}"
        vain = "; too many to end this run early" if config.patience >= clean else ""
        log.info("patience   %s: %s%s", counted(config.patience, "epoch"), counts, vain)
    backend = keras.backend.backend()
    version = importlib.metadata.version(backend)
    log.info("device     %s, keras %s on %s %s", hardware, keras.__version__, backend, version)


def show_results(metrics: dict[str, Any]) -> None:
    """Print the results; ± is the standard error over the validation images."""
    log.info("")
    images = sum(fold["validation_images"] for fold in metrics.get("folds", []))
    names = ("val_loss", "val_accuracy", "loss", "accuracy")
    for name in (*(name for name in metrics["directions"] if name not in names), *names):
        if name in metrics:
            text = f"{metrics[name]:.4f}"
            if f"{name}_se" in metrics:
                text += f" ± {metrics[f'{name}_se']:.4f}" + (f" over {images:,} images" if images else "")
            if f"{name}_std" in metrics:
                text += f"; folds differ by {metrics[f'{name}_std']:.4f}"
            log.info("%-13s %s", name, text)
    log.info("%-13s %g", "best epoch", metrics["best_epoch"])
    log.info("%-13s %s", "images/s", f"{metrics['images_per_second']:,.0f}")
    log.info("%-13s %.1f", "seconds", metrics["run_seconds"])


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the packages that numbers depend on."""
    packages = ("keras", keras.backend.backend(), "numpy", "hydra-core")
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    return versions | {"sweeper_digits": sweeper_digits.__version__}


@functools.cache
def git_commit() -> str | None:
    """Return the commit of the code, with `+changes` if the work tree differs, or None outside a checkout.

    Variables and settings that make git run other programs, or look at another repository, are not passed on: a config
    can set variables.
    """
    if not program.is_checkout():  # an installed package may stand in the repository of another project
        return None
    folder = Path(__file__).parent
    command = ["git", "-c", "core.fsmonitor=false", "describe", "--always", "--abbrev=40", "--exclude=*"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            [*command, "--dirty=+changes"],
            cwd=folder,
            env=clean,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
