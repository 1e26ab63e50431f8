"""What surrounds a run must not change or end it: Keras' own settings, git's, and what a terminal cannot show."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sweeper_digits.data.dataset import Dataset
from sweeper_digits.runs.folder import RunFolder
from tests.conftest import ROOT
from tests.tables import unlike

Command = Callable[..., subprocess.CompletedProcess[str]]

NO_UTF_8 = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_kerass_own_settings_do_not_count_and_a_screen_may_be_ascii(
    train: Callable[..., RunFolder], tmp_path: Path, tiny: list[str], digits: Dataset
) -> None:
    settings = {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1, "backend": "theano"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    np.savez(tmp_path / "zähl.npz", images=digits.images, labels=digits.labels)
    arguments = ["data.path='zähl.npz'", "epochs=1"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *tiny, *arguments, "hydra.run.dir='rün'"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"val_loss" in done.stdout and b" ? " in done.stdout and done.stdout.endswith(b"r?n\n")
    assert " ± " in (tmp_path / "rün" / "train.log").read_text(encoding="utf-8")
    losses = [RunFolder(tmp_path / "rün").read_metrics()["val_loss"], train(*arguments).read_metrics()["val_loss"]]
    assert losses[0] == losses[1]


def test_settings_that_keras_cannot_use_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras.src.backend.config as reader

    from sweeper_digits.quiet import quiet_import

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    source = Path(reader.__file__).read_text()

    def load(text: str) -> None:
        (tmp_path / "keras.json").write_text(text)
        with quiet_import():
            exec(compile(source, reader.__file__, "exec"), {"__name__": "config"})  # as its import does

    said = rf"^{tmp_path}/keras\.json: Keras cannot use these settings \(.*\); correct or delete the file$"
    texts = ('{"floatx": "float99"}', '{"epsilon": "tiny"}', "[1]", '{"floatx": []}', "[" * 100_000)
    assert unlike([(text, said) for text in texts], load) == []


# Imports a module of the user's and Keras, and prints which packages the import of Keras has loaded.
KERAS_ALONE = """
import sys
from sweeper_digits import components
from sweeper_digits.quiet import quiet_import

components.load()
loaded = set(sys.modules)
with quiet_import():
    import keras
print(*sorted({"jax", "matplotlib", "tensorflow"} & (set(sys.modules) - loaded)))
import jax, matplotlib.pyplot
"""


@pytest.mark.parametrize("line", ["", "import jax.numpy"])
def test_keras_does_not_load_what_nothing_calls_but_the_user_may(tmp_path: Path, line: str) -> None:
    pytest.importorskip("jax", reason="jax is not installed")
    (tmp_path / "mine.py").write_text(line)
    known = os.environ | {"PYTHONPATH": str(ROOT), "SWEEPER_DIGITS_PLUGINS": "mine", "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, "-c", KERAS_ALONE], cwd=tmp_path, env=known, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["tensorflow"]


def test_text_that_python_cannot_read_is_one_line(command: Command) -> None:
    done = command("data=npz", "data.path='zähl.npz'", **NO_UTF_8)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: data.path='z??hl.npz': it is not ascii text; set PYTHONUTF8=1, or rename the file\n"


def test_a_config_cannot_make_git_run_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeper_digits.training.run import git_commit

    expected = git_commit.__wrapped__()
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", f"touch {tmp_path}/ran; false")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text(f'[core]\n\tfsmonitor = "touch {tmp_path}/ran; false"\n')
    assert git_commit.__wrapped__() == expected
    assert [file.name for file in tmp_path.iterdir()] == [".gitconfig"]
