"""The process of a local slot: it runs the script of its parent again, for what that defines."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, TINY

SCRIPT = """
from sweeper_digits import register
from sweeper_digits.command_line import main


@register("objective", direction="maximize")
def confidence(probabilities, labels):
    return float(probabilities.max(axis=1).mean())


@register("model")
def flat(inputs, classes, units: int = 4):
    from keras import layers

    return layers.Dense(classes)(layers.Dense(units)(layers.Flatten()(inputs)))


"""


@pytest.mark.slow
@pytest.mark.parametrize("call", ["main()", "if __name__ == '__main__':\n    main()"])
def test_a_script_searches_over_components_of_its_own(tmp_path: Path, npz: Path, call: str) -> None:
    (tmp_path / "mine.py").write_text(SCRIPT + call + "\n")
    data = ["data=npz", f"data.path={npz}", *(one for one in TINY if not one.startswith("model")), "epochs=1"]
    command = ["-m", "model=flat", "model.units=2,3", "objective=confidence", "study=own", *data]
    done = subprocess.run(
        [sys.executable, "mine.py", *command],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = yaml.safe_load((tmp_path / "multirun/own/optimization_results.yaml").read_text())
    assert results["trials"] == {"complete": 2} and 0.1 < results["best_value"] < 1
