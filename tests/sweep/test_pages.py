"""A small sweep that trains, in Optuna's dashboard and in TensorBoard, in a real browser."""

import contextlib
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest
import yaml

from tests.conftest import ROOT

SPACE = ["optimizer=choice(adam,sgd)", "optimizer.learning_rate=tag(log,interval(1e-3,1e-2))"]
OTHERS = ["study=seen", "figures=true", "callbacks=[tensorboard]", "model.dropout=0.1"]
SWEEPER = ["hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=1", "hydra/sweeper/pruner=none"]


pytestmark = pytest.mark.slow  # real servers


class Seen(NamedTuple):
    """A sweep that has ended."""

    folder: Path  # where it was started
    printed: str
    trials: list[optuna.trial.FrozenTrial]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Seen:
    folder = tmp_path_factory.mktemp("seen")
    command = [sys.executable, str(ROOT / "train.py"), "-m", *tiny, *SPACE, *OTHERS, *SWEEPER]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=200)
    study = optuna.load_study(study_name="seen", storage=f"sqlite:///{folder}/multirun/seen/study.db")
    return Seen(folder, done.stdout, study.trials)


@contextlib.contextmanager
def served(folder: Path, command: list[str], ready: str) -> Iterator[str]:
    """Start a server of this environment, and give its address once a page of it answers."""
    program = Path(sys.executable).with_name(command[0])
    if not program.exists():
        pytest.skip(f"the package {command[0]} is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [str(program), *command[1:], "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(arguments, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=10).close()
                    break
                assert server.poll() is None and time.monotonic() < end, f"{command[0]} does not answer"
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@contextlib.contextmanager
def opened(browser: Any, address: str) -> Iterator[Any]:
    """Open a page that may show no error and ask nobody else."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(90_000)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda sent: None if sent.url.startswith((address, "data:", "blob:")) else wrong.append(sent.url)
    )
    yield page
    page.close()
    assert wrong == []


def test_the_dashboard_shows_the_sweep_and_each_trial_with_pictures_and_its_command(browser: Any, seen: Seen) -> None:
    (command,) = re.findall(r"^dashboard +(.*)$", seen.printed, re.MULTILINE)
    best = yaml.safe_load((seen.folder / "multirun/seen/optimization_results.yaml").read_text())["best_trial"]
    with served(seen.folder, shlex.split(command), "/dashboard") as address, opened(browser, address) as page:
        page.goto(f"{address}/dashboard")
        page.get_by_text("1. seen").click()
        plots = page.locator(".js-plotly-plot text")
        for text in ("optimizer.learning_rate", "trial #3"):  # importances, intermediate values
            plots.filter(has_text=text).first.wait_for()
        titles = page.locator("h6").all_inner_texts()
        assert {"History", "Hyperparameter Importance", "Intermediate values", "Study User Attributes"} <= {*titles}
        assert plots.filter(has_text="val_loss").count()  # history
        assert re.search("Study User Attributes.*1.2 of 2", page.inner_text("body"), re.DOTALL)
        page.goto(f"{address}/dashboard/studies/1/trials?numbers={best['number']}")
        page.wait_for_function("[...document.images].filter(one => one.naturalWidth > 300).length == 5")
        text = page.inner_text("body")
        for name, value in seen.trials[best["number"]].params.items():
            assert f"{name} {value}" in text
        assert {"Complete", "Best Trial", "confusion_matrix.png", "learning_curves.png"} <= {*text.splitlines()}
        repeats = shlex.split(page.locator("pre").inner_text().replace("\\\n", ""))
        assert repeats[2:] == [f"from_run=multirun/seen/{best['number']}"]
        shown = text.partition("User Attributes")[2].partition("Artifacts")[0].split("\n\n")
        read = {"epochs", "worker", "point_from", "scout", "standard_error"}
        assert {line.split()[0] for line in shown if line} <= read
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_tensorboard_compares_the_trials_by_what_was_drawn_and_by_their_best_values(browser: Any, seen: Seen) -> None:
    command = ["tensorboard", "--logdir", "multirun/seen"]
    with served(seen.folder, command, "/") as address, opened(browser, address) as page:
        page.goto(f"{address}/#hparams")
        named = rf"^\s*[0-3] in {re.escape(str(seen.folder.resolve()))}/multirun/seen\s*$"
        trials = page.get_by_text(re.compile(named))
        trials.nth(3).wait_for()
        assert trials.count() == 4
        # Columns of the table, in reading order; what follows from the optimizer is none of them.
        names = ("optimizer", "optimizer.learning_rate", "best_val_accuracy", "best_val_loss", "train.epoch_accuracy")
        titles = [page.get_by_text(name, exact=True).locator("visible=true").last for name in names]
        places = [title.bounding_box()["x"] for title in titles]
        assert places == sorted(places) and not page.get_by_text("optimizer.epsilon").count()
