"""Exported models predict what the model predicts."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sweeper_digits.runs.folder import RunFolder


def test_exports_predict_as_the_model_does(train: Callable[..., RunFolder]) -> None:
    files = {"saved_model": "saved_model", "tflite": "model.tflite"}
    if all(map(importlib.util.find_spec, ("tf2onnx", "onnxruntime"))):
        files["onnx"] = "model.onnx"
    run = train(f"export=[{','.join(files)}]", "epochs=1", "precision=bfloat16")
    assert {file.name for file in run.exports.iterdir()} == {*files.values()}
    assert (run.folder / "train.log").read_text().count("probabilities within") == len(files)


def test_a_wrong_export_does_not_count_as_written(
    train: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeper_digits.training import export as exporting

    monkeypatch.setattr(exporting, "_saved_model", lambda model, path: lambda images: np.full((len(images), 10), 0.1))
    with pytest.raises(SystemExit, match="its probabilities differ"):
        train("export=[saved_model]", "epochs=1")
    assert not Path("run/exports/saved_model").exists() and RunFolder("run").read_metrics()["state"] == "finished"


def test_unknown_and_uninstalled_exports_are_said_before_training(
    train: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeper_digits import config

    with pytest.raises(SystemExit, match=r"export=onx: no such format \(did you mean 'onnx'\?\)"):
        train("export=[onx]")
    monkeypatch.setitem(config.EXPORTS, "onnx", ("no_such_package",))
    with pytest.raises(SystemExit, match=r"package no_such_package is missing; pip install 'sweeper_digits\[export\]'"):
        train("export=[onnx]")
    assert not Path("run/history.csv").exists()
