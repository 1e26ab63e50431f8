"""A user's own parts, from outside of the package: they train, search, resume and repeat as the program's own do."""

import contextlib
import csv
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from sweeper_digits import __main__, components
from sweeper_digits.runs.folder import RunFolder
from tests import warm
from tests.conftest import ROOT, forget_components

HERE = Path(__file__).parent
OWN = ["model=tiny", "augmentation=jitter", "optimizer=lion", "schedule=halves", "callbacks=[Diary]"]
SHORT = ["epochs=2", "batch_size=32", "figures=false", "precision=float32", "objective=worst_class"]
# A module with one faulty part, and what the run says of it.
FAULTY = {
    "shape": (
        "model",
        "def bad(inputs, classes: int):\n    return inputs",
        "6: bad: its output has shape (n, 28, 28, 1);",
    ),
    "no tensor": (
        "model",
        "def bad(inputs, classes: int):\n    return 3",
        "6: bad: it returns int; logits of shape (n, 10)",
    ),
    "softmax": (
        "model",
        "def bad(inputs, classes: int):\n    flat = keras.layers.Flatten()(inputs)\n"
        '    return keras.layers.Dense(classes, activation="softmax")(flat)',
        "6: bad: it returns probabilities; leave the softmax out, logits are expected",
    ),
    "lambda": (
        "model",
        "def bad(inputs, classes: int):\n    flat = keras.layers.Lambda(lambda x: x[:, :, :, 0])(inputs)\n"
        "    return keras.layers.Dense(classes)(keras.layers.Flatten()(flat))",
        "6: bad: its layer lambda (Lambda) cannot be saved and read back: ",
    ),
    "raises": ("model", "def bad(inputs, classes: int):\n    return 1 / 0", "7: ZeroDivisionError: division by zero"),
    "keras raises": (
        "model",
        "def bad(inputs, classes: int):\n    return keras.layers.Dense(-1)(inputs)",
        "7: ValueError: ",
    ),
    "data": ("data", "def bad():\n    return 3", "6: bad: it returns int; two arrays are expected, images and labels"),
    "augmentation": ("augmentation", "def bad():\n    return 3", "6: bad: it returns int; a Keras layer is expected"),
    "cropped": (
        "augmentation",
        "def bad():\n    return keras.layers.CenterCrop(20, 20)",
        "6: bad: it turns images of shape (28, 28, 1) into (20, 20, 1); the same shape is expected",
    ),
    "optimizer": ("optimizer", "def bad(learning_rate: float = 1.0):\n    return 3", "6: bad: it returns int; a Keras"),
    "schedule": (
        "schedule",
        "def bad(peak):\n    return 3",
        "6: bad: it returns int; one of keras.optimizers.schedules",
    ),
    "callbacks": (
        "callback",
        "def bad():\n    return 3",
        "6: bad: it returns int; a keras.callbacks.Callback is expected",
    ),
    "callback raises": (
        "callback",
        "class bad(keras.callbacks.Callback):\n    def __init__(self) -> None:\n        super().__init__()\n"
        "    def on_epoch_end(self, epoch, logs=None):\n        {}['none']",
        "10: KeyError: 'none'",
    ),
    "ragged": (
        "data",
        "def bad():\n    return [[[0] * 12] * 12, [[0] * 9] * 9], [0, 1]",
        "6: setting an array element",
    ),
    "exits": (
        "callback",
        "class bad(keras.callbacks.Callback):\n    def on_epoch_end(self, epoch, logs=None):\n"
        "        raise SystemExit(0)",
        "8: SystemExit: 0",
    ),
    "objective": (
        "objective",
        "def bad(probabilities, labels):\n    return float('nan')",
        "6: bad: it returns nan; a finite",
    ),
}


@pytest.fixture
def own(clean_registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the plug-in `my_digits` of this folder."""
    monkeypatch.setenv("SWEEPER_DIGITS_PLUGINS", "my_digits")
    monkeypatch.syspath_prepend(HERE)


def history(run: RunFolder) -> list[dict[str, str]]:
    return list(csv.DictReader(run.history.read_text().splitlines()))


def test_a_run_of_own_parts_alone(
    own: None, train: Callable[..., RunFolder], npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {id(part) for part in components.registered()}
    short = ["data=pairs", f"data.path={npz}", *OWN, *SHORT]
    first = train("model.width=4", "callbacks.Diary.word=hour", folder="a", defaults=short)
    written = Path("a/diary.txt").read_text().splitlines()
    names = ["accuracy", "loss", "val_accuracy", "val_loss", "worst_class"]
    assert written == [f"hour {epoch} {names} trial None width 4" for epoch in range(2)]
    rows = history(first)
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([0.003, 0.0015])
    assert all(0 <= float(row["worst_class"]) <= 1 for row in rows)
    with pytest.raises(SystemExit, match=r"callbacks\.Diary\.word=hour"):
        train("from_run=a", folder="b", defaults=[])
    diary = ("callbacks=[Diary]", "callbacks.Diary.word=hour")
    again = train("from_run=a", *diary, "objective=worst_class", "figures=false", folder="b", defaults=[])
    repeated = [{name: row[name] for name in names} for row in history(again)]
    assert repeated == [{name: row[name] for name in names} for row in rows]

    def tool(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["sweeper_digits", *arguments])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            __main__.main()
        return printed.getvalue()

    assert "accuracy" in tool("predict", "a", "--tta", "1")
    # Without the module, what is on the disk can be compared, and repeating says what it needs.
    forget_components(known)
    monkeypatch.setenv("SWEEPER_DIGITS_PLUGINS", "")
    compared = tool("compare", "a", "b", "--no-report")
    assert "worst_class" in compared and "set SWEEPER_DIGITS_PLUGINS=my_digits" in compared
    with pytest.raises(SystemExit, match="set SWEEPER_DIGITS_PLUGINS=my_digits"):
        train("from_run=a", folder="c", defaults=[])


def test_a_sweep_over_own_parts(tmp_path: Path, npz: Path) -> None:
    """In processes, whose workers import the module too."""
    path = os.pathsep.join([str(HERE), str(ROOT), os.environ.get("PYTHONPATH", "")])
    space = ["model=tiny,small", "model.width=2,4", "study=own", "hydra.sweeper.n_jobs=1", "epochs=1"]
    given = ["-m", "data=pairs", f"data.path={npz}", *SHORT[1:], *space]
    plugins = {"SWEEPER_DIGITS_PLUGINS": "my_digits", "PYTHONPATH": path}
    printed, status = warm.python([str(ROOT / "train.py"), *given], tmp_path, os.environ | plugins)
    assert status == 0, printed
    results = yaml.safe_load((tmp_path / "multirun" / "own" / "optimization_results.yaml").read_text())
    assert results["trials"] == {"complete": 3} and results["directions"] == ["minimize"]
    assert 0 <= results["best_value"] <= 1
    assert (tmp_path / "multirun" / "own" / "0" / "model.keras").exists()


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_part_is_one_line_with_its_place(
    name: str,
    train: Callable[..., RunFolder],
    clean_registry: None,
    npz: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, code, message = FAULTY[name]
    extra = ', direction="minimize"' if kind == "objective" else ""
    decorated = f'@register("{kind}"{extra})\n{code}\n'
    (tmp_path / "bad.py").write_text(f"import keras\n\nfrom sweeper_digits import register\n\n{decorated}")
    monkeypatch.setenv("SWEEPER_DIGITS_PLUGINS", "bad")
    monkeypatch.syspath_prepend(tmp_path)
    chosen = ["callbacks=[bad]" if kind == "callback" else f"{kind}=bad", "epochs=1", "figures=false"]
    small = [] if kind == "model" else ["model=small", "model.filters=1"]
    with pytest.raises(SystemExit) as caught:
        train(defaults=[*([] if kind == "data" else ["data=npz", f"data.path={npz}"]), *small, *chosen])
    text = str(caught.value)
    assert "\n" not in text and f"bad.py:{message}" in text, text


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", r"bad\.py:1: ZeroDivisionError: division by zero"),
        ("import nowhere", r"bad\.py:1: No module named 'nowhere'"),
        ("def f(:", r"bad\.py:1: SyntaxError: "),
        ("from sweeper_digits import register\nregister('modle')(print)", r"no such kind \(did you mean 'model'"),
        (None, r"SWEEPER_DIGITS_PLUGINS=bad: no module bad; its folder belongs into PYTHONPATH"),
        (
            "from sweeper_digits import register\n@register('model')\ndef small(inputs, classes):\n    return inputs",
            r"conf/model/small\.yaml: model small is registered too, at bad\.py:3; rename one",
        ),
    ],
)
def test_a_module_that_cannot_be_loaded_is_one_line(
    code: str | None, message: str, train: Callable[..., RunFolder], clean_registry: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if code is not None:
        (tmp_path / "bad.py").write_text(code)
    monkeypatch.setenv("SWEEPER_DIGITS_PLUGINS", "bad")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as caught:
        train()
    text = str(caught.value)
    assert "\n" not in text and re.search(message, text), text
