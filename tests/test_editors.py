"""The schemas for editors take what Hydra and the program take, and refuse what these refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from annotated_types import Interval
from jsonschema import Draft7Validator
from omegaconf import OmegaConf

from sweeper_digits import editors, register
from sweeper_digits.editors import files_of
from tests.conftest import ROOT

FILES = sorted(path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml"))
FILES = [file for file in FILES if not {"help", "hydra_logging", "job_logging"} & {*file.parts}]
Schemas = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    found = editors.schemas()
    for one in found.values():
        Draft7Validator.check_schema(one)
    return found


def passes(schema: dict[str, Any], text: str) -> bool:
    return Draft7Validator(schema).is_valid(OmegaConf.to_container(OmegaConf.create(text)))


def test_every_file_of_conf_passes_its_schema_and_no_other_key_does(schemas: Schemas) -> None:
    wrong = []
    for file in FILES:
        (name,) = [name for name, patterns in files_of().items() if any(map(file.match, patterns))]
        text = (ROOT / "conf" / file).read_text()
        if not passes(schemas[name], text) or passes(schemas[name], f"{text}\nmisspelt: 1\n"):
            wrong.append(file)
    assert wrong == []


def test_mistakes_do_not_pass(schemas: Schemas) -> None:
    cases = [
        ("model", "{defaults: [batchnorm], filters: 48}", "{defaults: [batchnorm], filter: 48}"),
        ("model", "{filters: 48}", "{filters: many}"),
        ("model", "{filters: '${seed}'}", "{filters: 0}"),
        ("model", "{filters: '???'}", "{filters: 2000}"),
        ("model", "{dropout: 0}", "{dropout: 1}"),
        ("model", "{defaults: [mine, _self_], activation: elu}", "{activation: elo}"),
        ("optimizer", "{defaults: [sgd], momentum: 0.5}", "{defaults: [sgd], rho: 0.5}"),
        ("optimizer", "{defaults: [sgd, {/model: small}]}", "{defaults: sgd}"),
        ("optimizer", "{global_clipnorm: null}", "{learning_rate: null}"),
        ("optimizer", "{learning_rate: 1e-3}", "{learning_rate: 0}"),
        ("data", "{path: '???', part: test, invert: true}", "{part: tests}"),
        ("data", "{label: 784}", "{invert: dark}"),
        ("split", "{folds: 3, fold: null}", "{folds: 1}"),
        ("split", "{validation_size: 0.5}", "{folds: 3, validation_size: 0.5}"),
        ("callbacks", "{histogram_freq: 1}", "{histogram_frequency: 1}"),
        ("callbacks", "{tensorboard: {histogram_freq: 1}}", "{tensorboard: {histogram_frequency: 1}}"),
        ("experiment", "{model: {filters: 4}, epochs: 3}", "{modle: {filters: 4}}"),
        ("experiment", "{model: {filters: 4}}", "{model: {filter: 4}}"),
        ("experiment", "{epochs: 1, patience: null}", "{epochs: null}"),
        ("experiment", "{objective: [val_loss, params]}", "{objective: val_los}"),
        ("experiment", "{export: [onnx]}", "{export: [onxx]}"),
        ("experiment", "{defaults: [{override /model: mine}, {optional data: x}, _self_]}", "{defaults: [3]}"),
        ("experiment", "{callbacks: {mlflow: {model: false}}}", "{callbacks: {mlflow: {modle: false}}}"),
        ("experiment", "{hydra: {sweep: {dir: x}}}", "{hydra: {sweep: {dri: x}}}"),
        ("experiment", "{hydra: {sweeper: {n_trials: 3}}}", "{hydra: {sweeper: {n_trial: 3}}}"),
        ("experiment", "{hydra: {sweeper: {params: {seed: '1,2'}}}}", "{hydra: {sweeper: {params: {sede: '1,2'}}}}"),
        ("experiment", "{hydra: {sweeper: {params: null}}}", "{hydra: {sweeper: {params: {model.filter: '1,2'}}}}"),
        ("hydra.sweeper", "{direction: [minimize, maximize]}", "{direction: down}"),
        ("hydra.sweeper.pruner", "{n_startup_trials: 3}", "{n_startup_trails: 3}"),
        ("hydra.sweeper.sampler", "{_target_: mine.Sampler, x: 1}", "{_target_: optuna.samplers.TPESampler, sede: 1}"),
    ]
    wrong = [case for case in cases if not passes(schemas[case[0]], case[1]) or passes(schemas[case[0]], case[2])]
    assert wrong == []


def wide(inputs: Any, classes: int, breadth: Annotated[int, Interval(ge=1, le=9)] = 3) -> None:
    """Wide.

    Args:
        inputs: Given.
        classes: Given.
        breadth: Of all.
    """


def test_registered_parts_are_in_it_with_their_ranges_meanings_and_defaults(clean_registry: None) -> None:
    register("model")(wide)
    model = editors.schemas()["model"]
    assert passes(model, "{breadth: 9}") and not passes(model, "{breadth: 10}")
    (option,) = [one for one in model["anyOf"] if "breadth" in one["properties"]]
    key = option["properties"]["breadth"]
    assert key["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 9}
    assert (key["description"], key["default"]) == ("Of all.", 3)


def test_what_conf_says_of_a_key_is_its_description(schemas: Schemas) -> None:
    keys = schemas["experiment"]["properties"]
    assert keys["batch_size"]["description"] == "images per step" and keys["batch_size"]["default"] == 100
    assert keys["patience"]["description"].startswith("Epochs without a better val_loss")
    assert keys["hydra"]["properties"]["sweeper"]["properties"]["n_jobs"]["description"].startswith("trials at the")


def test_the_verb_writes_them_and_says_how_an_editor_finds_them(
    tool: Callable[..., str],
) -> None:
    out = tool("schema", "my schemas")
    written = {path.name for path in Path("my schemas").iterdir()}
    assert written == {f"{name}.schema.json" for name in files_of()}
    (line,) = [line for line in out.splitlines() if "$schema=" in line and "model" in line]
    place = Path("conf", "model", line.partition("$schema=")[2])
    assert json.loads(Path(*place.parts[4:]).read_text())["$schema"].endswith("draft-07/schema#")
    settings = json.loads(out[out.index("{") :])["yaml.schemas"]
    assert all(Path(file).is_file() for file in settings) and len(settings) == len(written)


def test_components_of_plugins_are_in_it(
    clean_registry: None, tool: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPER_DIGITS_PLUGINS", "tests.my_digits")
    out = tool("schema", "schemas")
    assert ", with Diary, halves, jitter, lion, pairs, tiny, worst_class" in out.splitlines()[0]
    assert "tests.my_digits." in Path("schemas", "model.schema.json").read_text()


def test_a_line_for_the_editor_stands_below_the_package(tmp_path: Path) -> None:
    """As the program says; Hydra reads its own lines only at the top."""
    from hydra import compose, initialize_config_dir

    (tmp_path / "config.yaml").write_text("defaults: [experiment: mine]\n")
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("# @package _global_\n# yaml-language-server: $schema=x.json\nepochs: 3\n")
    with initialize_config_dir(str(tmp_path)):
        assert compose("config") == {"epochs": 3}
    assert yaml.safe_load(file.read_text()) == {"epochs": 3}
