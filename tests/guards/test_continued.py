"""A run that goes on is the run that was begun: its saved config, its objective, its code, its backend."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY, WHOLE
from tests.guards.conftest import Program, write_npz

# A network of the user's own, and a callback that ends the process before the fourth epoch, as a kill does.
PLUGIN = """
import os

import keras
from sweeper_digits import register


@register("model")
def flat(inputs, classes: int, width: int = 8):
    return keras.layers.Dense(classes)(keras.layers.Dense(width, "relu")(keras.layers.Flatten()(inputs)))


@register("callback", watches=True)
class die(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            os._exit(7)


@register("callback")
class shake(keras.callbacks.Callback):
    def __init__(self, much: float = 0.5):
        super().__init__()
"""
MINE = ("--config-dir", "my", "experiment=mine", "seed=${oc.env:MY_SEED}", "epochs=5")
EXPERIMENT = "# @package _global_\noptimizer:\n  learning_rate: 0.02\nsplit:\n  seed: ${epochs}\n"


def begin(program: Program, folder: str, *arguments: str) -> None:
    """Begin a run of the user's own network in a process that dies in its fourth epoch."""
    done = program.apart(
        *("-m", "sweeper_digits", "train", f"hydra.run.dir={folder}", *arguments, "callbacks=[die]"),
        SWEEPER_DIGITS_PLUGINS="mine",
        MY_SEED="3",
    )
    assert done.status == 7, done.text
    assert (program.folder / folder / "checkpoint.npz").exists()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, digits: object) -> Program:
    """Two runs that were cut off: `own` with a network of the user's, `plain` with an experiment of the user's."""
    program = Program(tmp_path_factory.mktemp("begun"))
    data = write_npz(program.folder / "small.npz", digits.images, digits.labels)  # type: ignore[attr-defined]
    (program.folder / "mine.py").write_text(PLUGIN)
    (program.folder / "my" / "experiment").mkdir(parents=True)
    (program.folder / "my" / "experiment" / "mine.yaml").write_text(EXPERIMENT)
    common = [*data, *(one for one in (*TINY, *WHOLE) if not one.startswith(("model", "epochs")))]
    begin(program, "own", *common, "model=flat", "epochs=5")
    begin(program, "plain", *common, *(one for one in (*TINY, *WHOLE) if one.startswith("model")), *MINE)
    return program


@pytest.fixture
def program(begun: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """A copy of the folder with both runs."""
    monkeypatch.setenv("MY_SEED", "3")
    shutil.copytree(begun.folder, tmp_path, dirs_exist_ok=True)
    return Program(tmp_path)


def numbers(folder: Path) -> list[list[str]]:
    """The history of a run without its time columns."""
    with (folder / "history.csv").open() as stream:
        return [[value for key, value in row.items() if "second" not in key] for row in csv.DictReader(stream)]


def refused(program: Program, *arguments: str) -> str:
    """The one line with which a command is refused; nothing is trained, and no file of the run is changed."""
    before = {file: file.read_bytes() for file in program.folder.rglob("*") if file.is_file() and "/." not in str(file)}
    hydra = {file: file.read_bytes() for file in program.folder.rglob(".hydra/*")}
    done = program.tries_to_train(*arguments)
    (line,) = [one for one in done.text.splitlines() if one.startswith("error: ")]
    assert done.status == 1 and "epoch" not in done.text.replace(line, ""), done.text
    now = {file: file.read_bytes() for file in program.folder.rglob("*") if file.is_file() and "/." not in str(file)}
    assert {file: now[file] for file in before} == before
    assert {file: file.read_bytes() for file in hydra} == hydra
    return line


def test_a_run_goes_on_with_its_saved_config_whatever_became_of_the_files(program: Program) -> None:
    shutil.copytree(program.folder / "plain", program.folder / "kept")
    settings = [one for one in (*TINY, *WHOLE) if not one.startswith("epochs")]
    whole = [*MINE, "data=npz", "data.path=small.npz", *settings]
    program.train(*whole, "hydra.run.dir=whole")
    (program.folder / "my/experiment/mine.yaml").write_text(EXPERIMENT.replace("0.02", "0.5").replace("${epochs}", "9"))
    for beside in ("new", "plain"):
        said = program.train("resume=plain", "seed=${oc.env:MY_SEED}", f"hydra.run.dir={beside}")
        assert "note       without 'callbacks=[die]': a run folder starts no callback; type that too" in said
        found = numbers(program.folder / beside)
        assert len(found) == 5 and found == numbers(program.folder / "whole"), beside
        assert program.metrics(beside)["val_loss"] == program.metrics("whole")["val_loss"], beside
    # Without the user's folder of configs, under another name, with its data elsewhere, and what changes no number.
    shutil.rmtree(program.folder / "my")
    (program.folder / "kept").rename(program.folder / "moved, (2) 'it'=${x} 😀")
    (program.folder / "small.npz").rename(program.folder / "elsewhere.npz")
    free = ["data.path=elsewhere.npz", "figures=true", "study=other", "export=[]", "hydra.run.dir=free"]
    program.train("resume=moved, (2) 'it'=${x} 😀", "seed=3", *free)
    assert numbers(program.folder / "free") == numbers(program.folder / "whole")
    assert (program.folder / "free/figures").is_dir()


CHANGES = [
    (["objective=val_accuracy"], r"begun without objective=[val_accuracy], with [val_loss]"),
    (["objective=[val_loss,params]"], "begun without objective=[val_loss,params]"),
    (["++objective=val_accuracy"], "begun without objective="),
    (["epochs=9"], "begun without epochs=9, with 5"),
    (["optimizer.learning_rate=0.5"], "begun without optimizer.learning_rate=0.5, with 0.02"),
    (["optimizer={learning_rate: 0.5}"], "begun without optimizer.learning_rate=0.5"),
    (["optimizer=sgd"], "begun without optimizer=sgd"),
    (["split=kfold"], "begun without split=kfold"),
    (["search=quick"], "begun without search=quick"),
    (["data.invert=true"], "begun without data.invert=true, with false"),
    (["precision=bfloat16"], "begun without precision=bfloat16, with float32"),
    (["patience=null"], "begun without patience=null"),
    (["from_run=own"], "a run goes on from one run"),
    (["resume=own"], "a run goes on from one run"),
]


@pytest.mark.parametrize("folder", ["plain", "new"])
def test_what_would_change_a_number_is_refused(program: Program, folder: str) -> None:
    for typed, says in CHANGES:
        line = refused(program, "resume=plain", "seed=3", *typed, f"hydra.run.dir={folder}")
        assert says in line, typed


def test_a_value_that_the_environment_gave_is_typed_again_and_is_the_same(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SEED", "4")
    line = refused(program, "resume=plain", "hydra.run.dir=new")
    assert (
        "it was begun with seed=${oc.env:MY_SEED}, and what a run folder refers to is not looked up; type seed=" in line
    )
    # It may be a secret: only its hash is kept and shown.
    assert re.search(
        "begun without seed=sha256:[0-9a-f]{16}, with sha256:",
        refused(program, "resume=plain", "seed=${oc.env:MY_SEED}"),
    )


def test_another_backend_is_refused(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    for how in ("resume=plain", "++resume=plain", 'resume="plain"', "+resume=plain"):
        line = refused(program, how, "seed=3", "hydra.run.dir=plain")
        assert "resume=plain: this run was begun with KERAS_BACKEND=tensorflow, and here it is jax" in line, how


def test_other_versions_are_said(program: Program) -> None:
    file = program.folder / "plain/.hydra/begun.json"
    noted = json.loads(file.read_text())
    noted["versions"] |= {"keras": "3.0.0", "tensorflow": "2.0.0"}
    file.write_text(json.dumps(noted))
    said = program.train("resume=plain", "seed=3", "hydra.run.dir=new")
    lines = [line for line in said.splitlines() if line.startswith("note       begun with ")]
    assert sorted(line.split()[3] for line in lines) == ["keras", "tensorflow"] and "3.0.0, goes on with " in said


@pytest.fixture
def apart(program: Program) -> Callable[..., tuple[int, str]]:
    """Train in a process of its own, which imports the user's module anew."""

    def call(*arguments: str, plugins: str = "mine") -> tuple[int, str]:
        done = program.apart("-m", "sweeper_digits", "train", *arguments, SWEEPER_DIGITS_PLUGINS=plugins, MY_SEED="3")
        return done.status, done.text

    return call


def test_edited_code_is_refused_where_the_run_uses_it_and_said_where_not(
    program: Program, apart: Callable[..., tuple[int, str]]
) -> None:
    module = program.folder / "mine.py"
    module.write_text(PLUGIN.replace('"relu"', '"tanh"'))
    status, text = apart("resume=own", "hydra.run.dir=own")
    assert status == 1 and text.count("\n") == 1 and "resume=own: mine.py changed since this run was begun" in text
    status, text = apart("resume=plain", "seed=3", "hydra.run.dir=plain2")
    assert status == 0 and "note       mine.py changed since this run was begun, which uses nothing of it" in text
    module.write_text(PLUGIN)
    status, text = apart("resume=own", "callbacks=[shake]", "hydra.run.dir=own")
    assert status == 1 and text.count("\n") == 1 and "may change the training" in text
    (program.folder / "elsewhere").mkdir()
    module.rename(program.folder / "elsewhere" / "mine.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(program.folder / "elsewhere"))
        done = program.apart(
            *("-c", "import sys; sys.path.insert(0, 'elsewhere'); sys.argv[0] = 'train.py'; import mine;"
              "from sweeper_digits.command_line import main; main()", "resume=own", "hydra.run.dir=own2"),
        )  # fmt: skip
    assert done.status == 0, done.text
    assert len(numbers(program.folder / "own2")) == 5 and np.isfinite(program.metrics("own2")["val_loss"])


def test_a_run_of_other_code_is_no_repetition(program: Program, apart: Callable[..., tuple[int, str]]) -> None:
    data = ["data=npz", "data.path=small.npz", *(one for one in TINY if not one.startswith("model"))]
    status, text = apart(*data, "model=flat", "hydra.run.dir=runs/a")
    assert status == 0, text
    (program.folder / "near.py").write_text("UNITS = 'tanh'\n")
    (program.folder / "mine.py").write_text(PLUGIN.replace("import os", "import os\nimport near", 1))
    for folder, units in (("runs/b", "relu"), ("runs/c", "tanh")):
        (program.folder / "near.py").write_text(f"UNITS = {units!r}\n")  # only the helper changes
        status, text = apart("from_run=runs/a", "seed=1", "figures=false", f"hydra.run.dir={folder}")
        assert status == 0 and "but mine.py changed since; no repetition of it" in text, text
    status, text = apart("from_run=runs/b", "seed=2", "figures=false", "hydra.run.dir=runs/d")
    assert "but near.py changed since; no repetition of it" in text
    done = program.apart("-m", "sweeper_digits", "compare", "runs", "--json", SWEEPER_DIGITS_PLUGINS="mine")
    codes = {row["folder"]: row["code"] for row in json.loads(done.text)}
    assert codes["runs/c"] == codes["runs/d"] and len(set(codes.values())) == 3
