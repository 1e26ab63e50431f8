"""What a run refuses, and how it fails: with one line."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper_digits import compose
from sweeper_digits.quiet import quiet_import
from sweeper_digits.runs.folder import RunFolder
from tests.conftest import ROOT
from tests.tables import unlike

Train = Callable[..., RunFolder]


# Each is refused when a config is composed or parsed.
REFUSED = [
    (["optimizer=adamm"], r"optimizer=adamm: no such option \(did you mean 'adam' or 'nadam'\?\); choose from"),
    (["epochs=0"], r"epochs=0: must be in \[1, 1000000000\]"),
    (["data=kaggle", "data.path=???"], r"data\.path: a value is needed"),
    (
        ["data=mnist_5k", "data.path=foo"],
        r"data\.path: mnist_5k, the chosen data, .* choose data=file\|kaggle\|idx\|npz",
    ),
    (["optimizer=adamw", "optimizer.rho=1"], r"optimizer\.rho: adamw, .* choose optimizer=rmsprop$"),
    (["optimizer=sgd", "optimizer.beta_1=0.5"], r"optimizer\.beta_1: sgd, .* choose optimizer=adam\|adamw\|nadam$"),
    (["data=npz", "data.path=ü.npz"], r"not in Hydra's grammar; .*: 'data\.path=\"ü\.npz\"'"),
    (["patience=choice(null,3)"], r"list the values instead, for example patience=null,3"),
    (["study=käse"], r"study=käse: not in Hydra's grammar"),
    (["model.dropuot=1"], r"dropuot: cnn, .* no such key \(did you mean 'dropout'"),
    (["split.validation_size=1.5"], r"validation_size=1.5: must be in \(0, 1\)"),
    (["objective=null"], r"objective=null: no such objective; choose from val_loss"),
    (["objective=3"], r"objective=3: no such objective; choose from val_loss"),
    (["objective=[]"], r"objective=\[\]: name one objective, or a list"),
    (["~seed"], r"seed: a value is needed; add seed=VALUE"),
    (["seed=4294967296"], r"seed=4294967296: must be in \[0, 4294967295\]"),
    (["epochs=9999999999999999999999"], r"epochs=9999999999999999999999: must be in \[1, 1000000000\]"),
    (["seed=${nope}"], r"'nope' not found"),
    (["foo"], r"foo: an override has the form KEY=VALUE"),
    (["augmentation=null"], r"augmentation=null: no such option; choose from .*none"),
    (["hydra/sweeper/pruner=null"], r"pruner=null: no such option; choose from .*none"),
    (["model=1"], r"model=1: no such option; choose from .*small"),
    (["--config-dir=own", "model=own"], r"while parsing a flow sequence; in .*own/model/own\.yaml"),
]
# One for each place from which a run can end: Hydra, the config, the data, the folder of the run.
ENDS = [
    (["foo"], r"foo: an override has the form KEY=VALUE"),
    (["optimizer=adamm"], r"optimizer=adamm: no such option"),
    (["optimizer=sgd", "optimizer.beta_1=0.5"], r"optimizer\.beta_1: sgd, "),
    (["epochs=0"], r"epochs=0: must be in"),
    (["hydra.run.dir=${nope}"], r"'nope' not found"),
    (["--config-dir=own", "model=own"], r"while parsing a flow sequence; in .*own/model/own\.yaml"),
    (["data=kaggle", "data.path=nowhere"], r"data\.path=nowhere: no such file or folder"),
    (["data=npz", "data.path=pipe"], r"data\.path=pipe: not a file or folder"),
    (["data=kaggle", "data.path=/dev/zero"], r"data\.path=/dev/zero: not a file or folder"),
    (["optimizer._target_=os.system"], r"os\.system"),
    (["data._target_=os.system"], r"os\.system"),
    (["hydra.run.dir=loop"], r"loop: "),
    (["hydra.run.dir=logged"], r"logged/train\.log: Is a directory"),
    (["hydra.run.dir=file"], r"file: a file is where a folder is needed"),
    (["hydra.run.dir=file/run"], r"file"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in a folder of things that are not what a run expects."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "own.yaml").write_text("filters: [1")
    (tmp_path / "logged" / "train.log").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


def test_bad_input_is_one_line(here: None) -> None:
    assert unlike(REFUSED, compose) == []


def test_each_place_ends_a_run_with_one_line_and_leaves_nothing_of_it(
    here: None,
    train: Train,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    ends = [(overrides, f"^error: .*{message}") for overrides, message in ENDS]
    assert unlike(ends, lambda overrides: train(*overrides)) == []
    # Hydra has lines of its own for some errors, and warns of those of a callback.
    assert capfd.readouterr().err == "" and not [one for one in recwarn if "Callback" in str(one.message)]
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()} - {"own.yaml", "file"}
    assert written <= {"train.log", "begun.json", "config.yaml", "hydra.yaml", "overrides.yaml"}, written


def test_bad_input_as_a_user_sees_it(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = command("epochs=0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: epochs=0: must be in [1, 1000000000]\n"
    done = command("epochs=0", "model.dropout=2", "seed=many")
    assert done.stderr.count("\n") == 3 and done.stderr.endswith("\nerror: model.dropout=2: must be in [0, 1)\n")
    full = command("epochs=0", HYDRA_FULL_ERROR="1")
    assert full.returncode == 1 and "Traceback" in full.stderr and "UserError" in full.stderr


def test_a_backend_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))

    def load(backend: str) -> None:
        monkeypatch.setenv("KERAS_BACKEND", backend)
        with quiet_import():
            pass

    cases = [
        ("theano", "^KERAS_BACKEND=theano: no such backend; choose from tensorflow, jax, torch$"),
        ("torch", r"^KERAS_BACKEND=torch: the package torch is not installed; pip install 'sweeper_digits\[torch\]'$"),
    ]
    assert unlike(cases, load) == []


def test_all_is_refused_where_an_objective_is_needed(train: Train) -> None:
    with pytest.raises(SystemExit, match="split=all: a sweep needs a validation part"):
        train("split=all", "hydra/sweeper=basic", "hydra.mode=MULTIRUN", "hydra.sweep.dir=sweep", "seed=1,2")


def test_full_disk_is_one_line(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: RunFolder, row: dict[str, float]) -> None:
        raise OSError(28, "No space left on device", str(self.history))

    monkeypatch.setattr(RunFolder, "append_history", full)
    with pytest.raises(SystemExit, match=r"history.csv: No space left on device"):
        train()


def test_diverging_training_stops_and_keeps_its_history(train: Train) -> None:
    with pytest.raises(SystemExit, match=r"became (nan|inf) in epoch \d: training diverged; lower"):
        train("optimizer=sgd", "optimizer.learning_rate=1e37", "schedule=constant", folder="nan")
    run = RunFolder(Path("nan"))
    assert len(run.read_history()) >= 1 or run.history.read_text().count("\n") >= 2
    assert not run.metrics.exists() and not run.model.exists()


def test_help_and_cfg_import_nothing_heavy(tmp_path: Path) -> None:
    for argument in ("--help", "--cfg=job"):
        code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
sys.argv = ["train.py", {argument!r}]
from sweeper_digits import command_line
try:
    command_line.main()
finally:
    heavy = {{"tensorflow", "keras", "optuna", "numpy", "pandas", "pydantic", "sklearn", "sqlalchemy", "matplotlib"}}
    heavy &= set(sys.modules)
    assert not heavy, heavy
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "learning_rate" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_reader_that_is_gone_ends_a_run_in_silence(tmp_path: Path, tiny: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, str(ROOT / "train.py"), *tiny, "epochs=1"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(writing)
    assert done.stderr == ""
