"""What is compared is comparable, and overrides mean in a sweep what they mean in one run."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeper_digits.data.dataset import Dataset
from tests.guards.conftest import TINY, Program, write_npz


@pytest.fixture
def small(program: Program, digits: Dataset) -> list[str]:
    """Overrides of a training of one epoch on 300 digits; b.npz has other pixels, and my/ holds options."""
    write_npz(program.folder / "b.npz", 255 - digits.images, digits.labels)
    return [*write_npz(program.folder / "a.npz", digits.images, digits.labels), *TINY, "epochs=1"]


def write_option(program: Program, name: str, text: str) -> None:
    """Write my/NAME.yaml, an option of a config group that sets keys of the whole config."""
    file = program.folder / "my" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"# @package _global_\n{text}\n")


def results_of(program: Program, study: str) -> dict[str, Any]:
    """What a sweep's optimization_results.yaml says."""
    found = yaml.safe_load((program.folder / "multirun" / study / "optimization_results.yaml").read_text())
    assert isinstance(found, dict)
    return found


def saved(program: Program, study: str) -> list[dict[str, Any]]:
    """The saved configs of a sweep's trials, by number."""
    files = (program.folder / "multirun" / study).glob("[0-9]*/.hydra/config.yaml")
    return [yaml.safe_load(file.read_text()) for file in sorted(files, key=lambda file: int(file.parts[-3]))]


def in_one_run(program: Program, *overrides: str) -> dict[str, Any]:
    """What Hydra composes of overrides without -m."""
    found = yaml.safe_load(program.train("--cfg", "job", *overrides))
    assert isinstance(found, dict)
    return found


def test_overrides_mean_in_a_sweep_what_they_mean_in_one_run(program: Program, small: list[str]) -> None:
    write_option(program, "extra/one", "batch_size: 25")
    write_option(program, "extra/two", "batch_size: 50")
    fixed = [
        "optimizer=adam",
        "optimizer.learning_rate=0.1,0.2",  # the mapping below sets it
        "optimizer=sgd",
        "optimizer={learning_rate:0.02,weight_decay:0.1}",
        "optimizer={weight_decay:0.2}",
        "optimizer.momentum=0.5",
        "++optimizer.momentum=0.6",
        "++optimizer.momentum=0.7",
        "~patience",
        "+patience=3",
        "seed=1,2",
        "seed=5",
    ]
    drawn = ["augmentation={rotation_degrees:3.0},{rotation_degrees:4.0}", "+extra=one,two"]
    typed = [*small, *fixed, *drawn]
    flags = ["--config-dir", "my"]
    program.sweep(*flags, *typed, "study=merged")
    found = saved(program, "merged")
    alone = [one for one in typed if one not in (*drawn, "optimizer.learning_rate=0.1,0.2", "seed=1,2")]
    expected = [
        in_one_run(program, *flags, *alone, f"augmentation={{rotation_degrees:{degrees}}}", f"+extra={extra}")
        for degrees in (3.0, 4.0)
        for extra in ("one", "two")
    ]
    for config in (*found, *expected):
        for key in ("study", "figures"):
            del config[key]
    assert sorted(map(str, found)) == sorted(map(str, expected))
    assert expected[0]["optimizer"]["learning_rate"] == 0.02 and expected[0]["optimizer"]["momentum"] == 0.7
    assert "sgd" in expected[0]["optimizer"]["_target_"] and expected[0]["seed"] == 5
    # The command of the best composes the same again.
    best = results_of(program, "merged")["best_trial"]
    words = shlex.split(best["command"])
    again = in_one_run(program, *words[next(n for n, word in enumerate(words) if word.startswith("--")) :])
    del again["study"], again["figures"]
    assert again == found[best["number"]]
    # Two orders of the same overrides are two sweeps.
    turned = [*typed]
    first, second = turned.index(fixed[3]), turned.index(fixed[4])
    turned[first], turned[second] = turned[second], turned[first]
    assert in_one_run(program, *flags, *(one for one in turned if one in alone))["optimizer"]["weight_decay"] == 0.1
    done = program.tries_to_sweep(*flags, *turned, "study=merged")
    assert done.status == 1 and "was begun with other settings" in done.text, done.text
    # A past run gives way only where a mapping says so.
    repeated = in_one_run(program, "from_run=multirun/merged/0", "optimizer={learning_rate:0.03}")
    assert repeated["optimizer"] == expected[0]["optimizer"] | {"learning_rate": 0.03}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+seed=1,2"], "An item is already at 'seed'"),
        (
            ["optimizer=adam,sgd", "optimizer={learning_rate:0.1},{learning_rate:0.2}"],
            "optimizer.learning_rate=0.1,0.2",
        ),
    ],
)
def test_what_one_run_refuses_a_sweep_refuses_before_the_first_trial(
    program: Program, small: list[str], overrides: list[str], message: str
) -> None:
    done = program.tries_to_sweep(*small, *overrides)
    assert done.status == 1 and done.text.count("\n") == 1 and message in done.text, done.text
    assert not list(Path(program.folder).glob("multirun/*/0"))
