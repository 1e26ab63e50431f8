"""Every component that the package registers, of every kind, trains for an epoch by its own defaults."""

import math
import struct
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from sweeper_digits import components
from sweeper_digits.components import Component
from sweeper_digits.data.dataset import Dataset
from sweeper_digits.runs.folder import RunFolder

components.load()
OWN = [component for component in components.registered() if component.own]


def write_idx(file: Path, values: np.ndarray) -> None:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    file.write_bytes(header + values.astype(np.uint8).tobytes())


def path_of(source: str, folder: Path, digits: Dataset) -> Path:
    """A file or folder that a data source reads."""
    images, labels = digits.images[..., 0], digits.labels
    assert labels is not None
    if source == "idx":
        write_idx(folder / "train-images-idx3-ubyte", images)
        write_idx(folder / "train-labels-idx1-ubyte", labels)
        return folder
    if source == "kaggle":
        titles = ",".join(["label", *(f"pixel{place}" for place in range(784))])
        table = np.column_stack([labels, images.reshape(len(images), -1)])
        np.savetxt(folder / "train.csv", table, fmt="%d", delimiter=",", header=titles, comments="")
        return folder
    np.savez(folder / "digits.npz", images=images, labels=labels)
    return folder / "digits.npz"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # of MLflow
@pytest.mark.parametrize("component", OWN, ids=[f"{one.kind}-{one.name}" for one in OWN])
def test_every_component_trains_for_an_epoch(
    component: Component,
    train: Callable[..., RunFolder],
    tiny: list[str],
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overrides = [f"{component.group or component.kind}={component.name}", "epochs=1"]
    if component.kind == "callback":
        pytest.importorskip(component.name)
        monkeypatch.setenv("WANDB_MODE", "offline")
        overrides[0] = f"callbacks=[{component.name}]"
    if component.kind == "data":
        both = (digits.images[..., 0], digits.labels)
        for name in ("mnist", "fashion_mnist"):  # as Keras would have downloaded them
            monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda: (both, both))
        if "path" in component.keys:
            overrides.append(f"data.path={path_of(component.name, tmp_path, digits)}")
    of_other_options = {"data": ("data.path",), "model": ("model.",)}.get(component.kind, ())
    defaults = [one for one in tiny if not one.startswith(of_other_options)]
    run = train(*overrides, defaults=defaults)
    metrics, (epoch, *others) = run.read_metrics(), (run.folds() or [run])[0].read_history()
    assert metrics["state"] == "finished" and not others and math.isfinite(epoch["loss"])
    if component.kind == "objective":
        assert math.isfinite(metrics[component.name]) and metrics["objective"] == metrics[component.name]
