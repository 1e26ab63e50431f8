"""The calls from Python do what the command line does, and leave the process as it was."""

import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import matplotlib
import numpy as np
import pandas as pd
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime

import sweeper_digits
from sweeper_digits import Run, compare, compose, program, register, search, train
from sweeper_digits.errors import Diverged, UserError
from sweeper_digits.runs.folder import RunFolder
from tests.conftest import ROOT
from tests.tables import unlike

TIMES = ["seconds", "images_per_second"]
STAMP = re.compile(r"^\S+ \S+ (?=\w+ )", re.MULTILINE)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty folder, where other processes find this checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", program.importable(dict(os.environ))["PYTHONPATH"])


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def steady(log: Path) -> list[str]:
    """The lines of a log without what a clock or a folder changes."""
    lines = STAMP.sub("", log.read_text(encoding="utf-8")).splitlines()
    lines = [line for line in lines if not line.startswith(("INFO images/s", "INFO seconds", "INFO folder"))]
    return [re.sub(r"  [\d,]+ images/s.*", "", line) for line in lines]


def test_a_run_is_the_one_of_the_command_line(
    tiny: list[str], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train([*tiny, "figures=true", "epochs=1"])
    shown = capsys.readouterr()
    folder = request.getfixturevalue("train")("figures=true", "epochs=1", folder="other").folder
    assert re.fullmatch(r"outputs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d", run.path.relative_to(Path.cwd()).as_posix())
    assert files(run.path) == files(folder) and steady(run.path / "train.log") == steady(folder / "train.log")
    assert f"folder        {run}\n" in shown.out and shown.err == ""
    for name in ("config.yaml", "overrides.yaml"):
        assert (run.path / ".hydra" / name).read_bytes() == (folder / ".hydra" / name).read_bytes()
    other = pd.DataFrame(RunFolder(folder).read_history())
    pd.testing.assert_frame_equal(run.history.drop(columns=TIMES), other.drop(columns=TIMES))
    assert run.metrics == json.loads((run.path / "metrics.json").read_text())
    assert repr(run) == f"Run('{run}'): val_loss {run.metrics['val_loss']:.4g}"
    assert run.model().predict(np.zeros((1, 28, 28, 1), np.uint8), verbose=0).shape == (1, 10)
    table = compare([run, folder])
    assert list(table["folder"]) == [str(run.path), str(folder)] and list(table["state"]) == ["finished"] * 2
    assert compare("outputs")["val_loss"][0] == run.metrics["val_loss"]


def surroundings() -> dict[str, Any]:
    """What a call must leave as it was."""
    root, runtime = logging.getLogger(), JobRuntime.instance()
    named = set(logging._handlers)  # type: ignore[attr-defined]
    return {
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "arguments": (sys.argv, list(sys.argv)),
        "logging": (root.handlers[:], root.level, named, logging.getLogger("mine").disabled),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
        "hydra": (GlobalHydra.instance().hydra, HydraConfig.instance().cfg, runtime.get("name")),
        "keras": (keras.config.dtype_policy().name, keras.config.floatx()),
        "matplotlib": matplotlib.rcParams["backend"],
        "pandas": pd.get_option("mode.string_storage"),
    }


def test_nothing_is_left_behind_and_the_second_run_has_equal_numbers(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = logging.FileHandler(tmp_path / "mine.log", mode="w")
    handler.set_name("mine")
    logging.getLogger().addHandler(handler)
    monkeypatch.setattr(logging.getLogger("mine"), "disabled", True)
    (tmp_path / "conf").mkdir()
    try:
        with initialize_config_dir(str(tmp_path / "conf"), job_name="mine"):
            before = surroundings()
            compose(tiny)
            first = train(
                [*tiny, "precision=bfloat16", "epochs=1", "figures=true", "hydra.run.dir=a", "hydra.verbose=true"]
            )
            with pytest.raises(UserError):
                train([*tiny, "hydra.run.dir=a"])
            random.seed(5)
            second = train([*tiny, "precision=bfloat16", "epochs=1", "hydra.run.dir=b"])
            compare([first, second])
            first.model()
            after = surroundings()
        for name, value in before.items():
            assert after[name] == value, name
        logging.getLogger().warning("still written")
        assert (tmp_path / "mine.log").read_text() == "still written\n"
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    pd.testing.assert_frame_equal(first.history.drop(columns=TIMES), second.history.drop(columns=TIMES))


class Interrupts(keras.callbacks.Callback):
    """Press Ctrl-C in the second epoch, once."""

    pressed = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1 and not Interrupts.pressed:
            Interrupts.pressed = True
            raise KeyboardInterrupt


def test_a_run_is_resumed_and_repeated(
    tiny: list[str], clean_registry: None, capsys: pytest.CaptureFixture[str]
) -> None:
    register("callback", watches=True)(Interrupts)
    with pytest.raises(KeyboardInterrupt):
        train([*tiny, "epochs=2", "callbacks=[Interrupts]", "hydra.run.dir=a"])
    assert "  python -m sweeper_digits train resume=a 'callbacks=[Interrupts]'\n" in capsys.readouterr().out
    assert repr(Run("a")) == "Run('a'): unfinished" and len(Run("a").history) == 1
    resumed = train(["resume=a", "hydra.run.dir=b"])
    again = train(["from_run=b", "hydra.run.dir=c", "figures=false"])
    pd.testing.assert_frame_equal(resumed.history.drop(columns=TIMES), again.history.drop(columns=TIMES))
    assert list(again.history["epoch"]) == [1, 2]


def test_a_run_of_folds_has_a_model_for_each(tiny: list[str]) -> None:
    run = train([*tiny, "epochs=1", "split=kfold", "split.folds=2"])
    assert run.history[["fold", "epoch"]].to_numpy().tolist() == [[0, 1], [1, 1]]
    with pytest.raises(UserError, match=r"a model for each of its folds; name one, model\(fold=0\) to 1"):
        run.model()
    assert run.model(fold=1).output_shape == (None, 10)


def test_bad_input_is_one_line() -> None:
    """The messages are those of the command line; here is what a call adds, and one of each place that refuses."""
    cases: list[tuple[Any, str]] = [
        (["model=smal"], "model=smal: no such option (did you mean 'small'?); choose from "),
        (["epochs=0"], "epochs=0: must be in [1, 1000000000]"),
        (["epoch=3"], "epoch: no such key (did you mean 'epochs'?)"),
        (["nonsense"], "nonsense: an override has the form KEY=VALUE, for example epochs=10"),
        (["seed=1,2"], "seed=1,2: several values are for search([...]); a list has brackets, seed=[...]"),
        (["-m", "seed=1"], "-m: leave it out; train([...]) trains one model, search([...]) begins a sweep"),
        (["--config-dir"], "--config-dir: a value is needed behind it"),
        (["--config-dir", "nowhere"], "--config-dir: no folder nowhere"),
        (["hydra.mode=MULTIRUN"], "hydra.mode=MULTIRUN: leave it out; train([...]) trains one model"),
        ("epochs=2", '\'epochs=2\': a list of texts is expected, for example ["model=small", "epochs=2"]'),
        ([3], "[3]: a list of texts is expected"),
        (["resume=nowhere"], "resume=nowhere: no run folder there (nowhere/.hydra/config.yaml is missing)"),
        (["from_run=nowhere"], "from_run=nowhere: no run folder there (nowhere/.hydra is missing)"),
        (["data=file", "data.path=nowhere"], "data.path=nowhere: no such file or folder"),
        (["hydra.run.dir=/proc/nowhere"], "/proc/nowhere: No such file or directory"),
    ]
    assert unlike([(given, f"^{re.escape(message)}") for given, message in cases], train) == []


def test_a_folder_of_ones_own_is_composed_from(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my" / "model").mkdir(parents=True)
    (tmp_path / "my" / "model" / "mine.yaml").write_text("defaults: [small]\nfilters: 5\ndense_units: 3\n")
    mine = ["--config-dir", "my", "model=mine"]
    assert compose(mine).model.filters == 5
    rest = [one for one in tiny if not one.startswith("model")]
    assert train([*rest, *mine, "epochs=1", "hydra.run.dir=a"]).metrics["epochs"] == 1
    assert compose(["from_run=a"]).model.filters == 5
    monkeypatch.setattr(sweeper_digits.notebook, "_run_and_show", lambda command, _: None)
    assert search([*mine, "hydra.searchpath=[file://my]", "seed=1,2"]) == Path.cwd() / "multirun" / "sweep"
    assert search(["from_run=a", "seed=1,2", "study=again"]) == Path.cwd() / "multirun" / "again"


def test_other_calls_refuse_bad_input_in_one_line() -> None:
    assert compose(["epochs=3"]).epochs == 3
    with pytest.raises(UserError, match="epochs=0: must be in"):
        compose(["epochs=0"])
    with pytest.raises(UserError, match="nowhere: no such folder"):
        compare("nowhere")
    with pytest.raises(UserError, match="resume=a: it continues one run"):
        search(["resume=a"])
    with pytest.raises(UserError, match=r"nowhere/model\.keras: no model there"):
        Run("nowhere").model()


def test_keras_is_whole_after_a_call(tmp_path: Path) -> None:
    script = (
        "import sweeper_digits\n"
        "try: sweeper_digits.train(['data=file', 'data.path=nowhere'])\n"
        "except sweeper_digits.errors.UserError: pass\n"
        "import keras, numpy; gallery = keras.visualization.plot_image_gallery\n"
        "gallery(numpy.zeros((1, 8, 8, 1)), value_range=(0, 1), path='gallery.png')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and (tmp_path / "gallery.png").exists(), done.stderr


def test_a_loss_that_diverges_keeps_its_kind(tiny: list[str]) -> None:
    with pytest.raises(Diverged) as caught:
        train([*tiny, "optimizer=sgd", "optimizer.learning_rate=1e37", "schedule=constant"])
    assert "\n" not in str(caught.value)


def test_a_search_shows_its_lines_and_returns_the_folder(tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "lines.py").write_text(
        "import keras\nfrom sweeper_digits import register\n\n\n@register('model')\n"
        "def lines(inputs, classes: int):\n    return keras.layers.Dense(classes)(keras.layers.Flatten()(inputs))\n"
    )
    script = (
        "import sys; sys.path.append('elsewhere'); import lines; from sweeper_digits import search\n"
        f"given = {[one for one in tiny if not one.startswith('model')]!r}\n"
        "folder = search([*given, 'model=lines', 'seed=1,2', 'study=two', 'epochs=1'])\n"
        "print('returned', folder)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "\n#0    val_loss " in done.stdout and f"\nreturned {tmp_path / 'multirun' / 'two'}\n" in done.stdout
    assert len(compare("multirun/two")) == 2


def test_a_part_of_the_notebook_itself_cannot_be_searched(
    clean_registry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mine(inputs: Any, classes: int) -> Any:
        """A model."""

    mine.__module__ = "__main__"
    register("model")(mine)
    for overrides in (["model=small,mine"], ["search.points=[{model: mine}]", "+x=1"]):
        with pytest.raises(UserError, match=r"^model mine: worker processes cannot import it .*; write it to a file"):
            search(overrides)
    started: list[list[str]] = []
    monkeypatch.setattr(sweeper_digits.notebook, "_run_and_show", lambda command, _: started.append(command))
    assert search(["model=small", "study=mine"]) == Path.cwd() / "multirun" / "mine"  # it chooses another
    assert search(["search=quick", "hydra.sweep.dir=x/${study}", "seed=1,2"]) == Path.cwd() / "x" / "quick"
    assert started[0][1:6] == ["-m", "sweeper_digits", "train", "-m", "model=small"]


# A program that is searched with: it prints, and ends with an error, or when it is interrupted.
FAILS = "import sys; print('a line', flush=True); sys.exit('error: study=two: no')"
WAITS = """
import time
try:
    print("#0", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


def test_a_search_raises_the_error_of_its_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"^study=two: no$"):
        sweeper_digits.notebook._run_and_show([sys.executable, "-c", FAILS], dict(os.environ))
    assert capsys.readouterr().out == "a line\n"
    with pytest.raises(UserError, match=r"^the search ended with status 3$"):
        sweeper_digits.notebook._run_and_show([sys.executable, "-c", "exit(3)"], dict(os.environ))


def test_an_interrupt_stops_a_search() -> None:
    script = (
        "import os, sys\nfrom sweeper_digits import notebook\n"
        f"try:\n    notebook._run_and_show([sys.executable, '-c', {WAITS!r}], dict(os.environ))\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("#0"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 0 and lines == ["#0\n", "stopped\n", "interrupted\n"]


def test_the_import_loads_nothing_of_it() -> None:
    code = (
        "import sys, sweeper_digits\n"
        "loaded = {'keras', 'pandas', 'optuna', 'sweeper_digits.notebook', 'sweeper_digits.command_line'}\n"
        "print(loaded & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "set()\n", done.stderr
    assert dir(sweeper_digits) == ["Run", "compare", "compose", "register", "search", "train"]
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        sweeper_digits.serach  # noqa: B018
