"""What is compared is comparable, and overrides mean in a sweep what they mean in one run."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import TINY
from tests.guards.conftest import Program, write_npz

OTHER_IMAGES = "other images"


@pytest.fixture
def small(program: Program, digits: Any) -> list[str]:
    """Overrides of a training of one epoch on 100 digits; b.npz has other pixels, and my/ holds options."""
    images, labels = digits.images[::3], digits.labels[::3]
    write_npz(program.folder / "b.npz", 255 - images, labels)
    return [*write_npz(program.folder / "a.npz", images, labels), *TINY, "epochs=1"]


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


@pytest.mark.parametrize(
    ("group", "text", "named", "typed"),
    [
        ("experiment", "objective: val_accuracy", "objective=val_accuracy", "objective=val_loss"),
        ("experiment", "objective: [val_loss, params]", "objective=[val_loss,params]", "objective=val_loss"),
        ("+extra", "objective: val_accuracy", "objective=val_accuracy", "objective=val_loss"),
        ("experiment", "study: mine", "study=mine", "study=sweep"),
        ("experiment", "search: {prior: 0.1}", "search.prior", None),
        ("optimizer", "defaults: [adam@optimizer]\nhydra: {sweeper: {n_trials: 7}}", "hydra.sweeper.n_trials", None),
        ("experiment", "hydra: {sweeper: {params: {seed: 'choice(1,2)'}}}", "hydra.sweeper.params", None),
        ("experiment", "defaults: [{override /hydra/sweeper/pruner: none}]", "hydra.sweeper.pruner", None),
        ("experiment", "hydra: {job: {env_set: {A: b}}}", "hydra.job.env_set", None),
        ("experiment", "resume: nowhere", "resume", None),
        ("experiment", "from_run: nowhere", "from_run", None),
    ],
)
def test_a_swept_option_that_sets_what_all_trials_share_is_refused_before_the_first_trial(
    program: Program, small: list[str], group: str, text: str, named: str, typed: str | None
) -> None:
    other = {"experiment": "best_small", "+extra": "other", "optimizer": "adam"}[group]
    write_option(program, f"{group.lstrip('+')}/mine", text)
    write_option(program, "extra/other", "epochs: 1")
    done = program.tries_to_train("-m", "--config-dir", "my", *small, f"{group}={other},mine")
    assert done.status == 1 and done.text.count("\n") == 1, done.text
    assert f"{group}=mine" in done.text and named in done.text
    assert not list(program.folder.glob("multirun/*/0"))
    if typed:  # the remedy that the line names
        assert typed in done.text


def test_a_run_that_a_file_names_is_refused(program: Program, small: list[str]) -> None:
    for key in ("resume", "from_run"):
        write_option(program, "experiment/mine", f"{key}: nowhere")
        done = program.tries_to_train("--config-dir", "my", *small, "experiment=mine", f"hydra.run.dir={key}")
        assert done.status == 1 and f"{key}=nowhere: a file sets it" in done.text, done.text
        assert not (program.folder / key / "metrics.json").exists(), key


def test_a_listed_run_that_sets_what_all_share_is_refused(program: Program, small: list[str]) -> None:
    write_option(program, "experiment/mine", "objective: val_accuracy")
    for listed in ("{experiment: mine}", "{seed: 3, experiment: mine}"):
        done = program.tries_to_train("-m", "--config-dir", "my", *small, f"search.points=[{{seed: 1}},{listed}]")
        assert done.status == 1 and done.text.count("\n") == 1, done.text
        assert "search.points: run 1" in done.text and "objective=val_accuracy" in done.text, listed


def test_options_that_agree_with_the_command_and_with_each_other_have_a_best(
    program: Program, small: list[str]
) -> None:
    """The refused command with what its line tells to type; seeds and folds are repetitions as before."""
    for name in ("one", "two"):
        write_option(program, f"experiment/{name}", "objective: val_accuracy\ndata: {invert: true}")
    split = ["split=kfold", "split.folds=3", "split.fold=0,1"]
    text = program.sweep(
        "--config-dir", "my", *small, "experiment=one,two", "objective=val_loss", "study=agree", *split
    )
    assert len(saved(program, "agree")) == 4
    assert OTHER_IMAGES not in text.split("trials  ")[0] and re.search(r"^best +#\d: val_loss", text, re.MULTILINE)
    assert {"best_params", "best_value", "best_trial"} <= results_of(program, "agree").keys()
    losses = [program.metrics(f"multirun/agree/{number}")["val_loss"] for number in range(4)]
    assert results_of(program, "agree")["best_value"] == pytest.approx(min(losses))


def check_no_best(program: Program, study: str, text: str, key: str) -> None:
    """A sweep has said at both ends that values are of other images, and names no trial as the best."""
    start, end = text.split("\ntrials  ")
    for part in (start, end):
        assert OTHER_IMAGES in part and key in part, text
    assert "best" not in text.replace("multirun", ""), text
    assert not {"best_params", "best_value", "best_trial", "solutions"} & results_of(program, study).keys()
    status = program.verb("status", study)
    assert "done" in status and "best" not in status.replace("no best", ""), status


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, digits: Any) -> tuple[Program, str]:
    """A sampled sweep over two files."""
    program = Program(tmp_path_factory.mktemp("mixed"))
    few = digits.images[::3]
    for name, images in (("a", few), ("b", 255 - few)):
        write_npz(program.folder / f"{name}.npz", images, digits.labels[::3])
    space = ["data.path=a.npz,b.npz", "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"]
    few = ["hydra.sweeper.n_trials=3", "hydra.sweeper.keep_models=1"]
    return program, program.sweep("hydra/launcher=local", "data=npz", *TINY, "study=mixed", *space, *few)


def test_a_sweep_over_data_names_no_best(mixed: tuple[Program, str]) -> None:
    program, text = mixed
    check_no_best(program, "mixed", text, "data.path")
    assert {config["data"]["path"] for config in saved(program, "mixed")} == {"a.npz", "b.npz"}


def test_values_of_other_images_neither_prune_nor_delete(mixed: tuple[Program, str]) -> None:
    program, _ = mixed
    for number in range(3):
        assert program.metrics(f"multirun/mixed/{number}")["state"] == "finished"
        assert (program.folder / f"multirun/mixed/{number}/model.keras").exists()


def test_options_whose_split_differs_name_no_best(program: Program, small: list[str]) -> None:
    write_option(program, "experiment/one", "split: {validation_size: 0.2}")
    write_option(program, "experiment/two", "split: {validation_size: 0.4}")
    objectives = "objective=[val_loss,val_accuracy]"  # nor a front
    text = program.sweep(
        "--config-dir", "my", "hydra/launcher=local", *small, "study=options", "experiment=one,two", objectives
    )
    check_no_best(program, "options", text, "split.validation_size")
    assert "Pareto" not in text


@pytest.mark.parametrize(
    ("space", "keys"),
    [
        (
            ["data={transpose:true},{transpose:false}", "split.seed=${seed}", "seed=1,2", "hydra.sweeper.n_trials=3"],
            "data.transpose, split.seed differ",
        ),
        (["search.points=[{split.test_size: 0.1},{split.test_size: 0.2}]"], "split.test_size differs"),
    ],
)
def test_whatever_changes_the_validation_images_is_found(
    program: Program, small: list[str], space: list[str], keys: str
) -> None:
    text = program.sweep("hydra/launcher=local", *small, "study=found", *space)
    check_no_best(program, "found", text, keys)


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
    typed = [*small, "augmentation=medium", *fixed, *drawn]
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
    done = program.tries_to_train("-m", *flags, *turned, "study=merged")
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
    done = program.tries_to_train("-m", *small, *overrides)
    assert done.status == 1 and done.text.count("\n") == 1 and message in done.text, done.text
    assert not list(Path(program.folder).glob("multirun/*/0"))
