"""Every option composes and parses; every key is read; mistakes are refused with the way out."""

import ast
import re
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest
from hydra import compose, initialize_config_dir

from sweeper_digits import components
from sweeper_digits.config import Config, StudySweeperConf, objectives, parse
from sweeper_digits.errors import UserError
from sweeper_digits.training.network import build_network
from tests.conftest import ROOT
from tests.tables import unlike

CONF = ROOT / "conf"
GROUPS = ["data", "model", "optimizer", "schedule", "augmentation", "split", "search", "experiment"]
FILES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
OPTIONS = FILES + [(group, name) for group in GROUPS for name in components.options_of(group)]


def parsed(*overrides: str) -> Config:
    with initialize_config_dir(str(CONF)):
        return parse(compose("config", list(overrides)))


def name_of(optimizer: object) -> str:
    return components.find("optimizer", vars(optimizer)).name


def test_every_option_composes_and_every_file_says_what_it_is_for_and_stays_short() -> None:
    needs_path = {("data", name) for name in ("file", "kaggle", "idx", "npz")}
    for group, name in OPTIONS:
        parsed(f"{group}={name}", *(["data.path=x"] if (group, name) in needs_path else []))
    wrong = []
    for group, name in FILES:
        lines = [line for line in (CONF / group / f"{name}.yaml").read_text().splitlines() if "@package" not in line]
        if not re.match(r"# \S.{10,}", lines[0]) or len(lines) > 26:
            wrong.append((group, name))
    assert wrong == []


def test_the_defaults_of_a_signature_are_judged_too() -> None:
    """Of a user's component when it is registered; of ours here, for it takes time."""
    for component in components.registered():
        if component.group:
            component.check_defaults()


def test_help_lists_every_option_and_key_on_one_screen(command: Callable[..., CompletedProcess[str]]) -> None:
    printed = command("--help").stdout
    lines = printed.rstrip().splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= 80
    examples = re.findall(r"^  [a-z ]+  python train\.py (?:-m )?(.*)$", printed, re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        parsed(*(one for one in example.split() if not one.startswith("from_run=")))
    assert {path.stem for path in (CONF / "hydra/sweeper/pruner").glob("*")} <= {*printed.split()}
    options, keys = re.sub(r"\n {8,}", " ", printed).split("Values in groups")
    for group, name in OPTIONS:
        assert re.search(rf"^ *{group} .*\b{name}\b", options, re.MULTILINE), (group, name)
    for part in components.registered():
        for key in part.keys if part.group not in (None, "callbacks") else ():
            assert re.search(rf"^ *{part.group} .*\b{key}\b", keys, re.MULTILINE), (part.group, key)
    for name in objectives():
        assert re.search(rf"^ *objective .*\b{name}\b", keys, re.MULTILINE), name


def test_help_says_what_the_keys_of_a_chosen_option_mean(command: Callable[..., CompletedProcess[str]]) -> None:
    printed = command("--help", "schedule=cosine").stdout
    assert "schedule cosine:\n  Half a cosine.\n" in printed
    meaning = "Epochs in which the rate rises to the peak."
    assert f"  schedule.warmup_epochs: float in [0, inf) = 1.0\n      {meaning}\n" in printed


def test_readme_names_every_option() -> None:
    text = (ROOT / "README.md").read_text()
    for group, name in OPTIONS:
        assert re.search(rf"^\| `{group}` \|.*`{name}`", text, re.MULTILINE), (group, name)


def attributes_read(*owners: str) -> set[str]:
    """The names that the code reads as `owner.name` or `something.owner.name`; comments and texts do not count."""
    found = set()
    for path in (ROOT / "sweeper_digits").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())) if path.stem != "config" else ():
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner = node.value
                name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", None)
                found |= {node.attr} if name in owners else set()
    return found


def test_every_key_is_read_somewhere() -> None:
    assert set(Config.__dataclass_fields__) <= attributes_read("config")
    assert set(StudySweeperConf.__dataclass_fields__) - {"_target_"} <= attributes_read("options", "sweeper")


def test_notebook_is_the_notebook() -> None:
    config = parsed("experiment=notebook")
    assert (config.epochs, config.batch_size, config.patience) == (30, 86, 4)
    optimizer = config.optimizer
    assert name_of(optimizer) == "rmsprop"
    assert (optimizer.learning_rate, optimizer.rho, optimizer.epsilon) == (0.001, 0.9, 1e-8)
    augmentation = config.augmentation
    assert (augmentation.rotation_degrees, augmentation.zoom_fraction, augmentation.shift_fraction) == (10, 0.1, 0.1)
    assert config.split.validation_size == 0.15


def test_best_small_is_small() -> None:
    assert build_network(parsed("experiment=best_small").model, (28, 28, 1), 10).model.count_params() == 92_044


def test_experiment_gives_way_to_the_command_line() -> None:
    config = parsed("experiment=notebook", "optimizer=sgd", "epochs=3")
    assert name_of(config.optimizer) == "sgd" and config.epochs == 3


def test_ranges() -> None:
    """Both sides of each limit."""
    limits = [
        ("split.validation_size=0.5", "split.validation_size=1.5", r"split.validation_size=1.5: must be in \(0, 1\)"),
        ("epochs=1", "epochs=0", r"epochs=0: must be in \[1, 1000000000\]"),
        ("clean_fraction=1", "clean_fraction=2", r"clean_fraction=2: must be in \[0, 1\]"),
        ("optimizer.learning_rate=1", "optimizer.learning_rate=-1", r"learning_rate=-1: must be in \(0, inf\)"),
        ("optimizer.learning_rate=1", "optimizer.learning_rate=nan", r"learning_rate=nan: must be in"),
        ("optimizer.beta_1=0.5", "optimizer.beta_1=1", r"beta_1=1: must be in \[0, 1\)"),
        ("model.dropout=0", "model.dropout=1", r"model.dropout=1: must be in \[0, 1\)"),
        ("model.stages=7", "model.stages=8", r"model.stages=8: must be in \[1, 7\]"),
        ("schedule.warmup_epochs=0", "schedule.warmup_epochs=-1", r"warmup_epochs=-1"),
        ("augmentation.zoom_fraction=0", "augmentation.zoom_fraction=1", r"zoom_fraction=1: must be in \[0, 0.9\]"),
        ("split.test_size=0", "split.test_size=1", r"test_size=1: must be in \[0, 1\)"),
        ("seed=0", "seed=-1", r"seed=-1"),
        ("objective=val_loss", "objective=val_los", r"no such objective \(did you mean 'val_loss'\?\)"),
        ("batch_size=1", "batch_size=0", r"batch_size=0"),
        ("patience=null", "patience=0", r"patience=0"),
        ("epochs=1", "+epoch=1", r"epoch: no such key \(did you mean 'epochs'\?\)"),
        ("epochs=1", "+model.dropuot=1", r"model.dropuot: no such key \(did you mean 'dropout'"),
    ]
    assert unlike([(bad, message) for _, bad, message in limits], parsed) == []
    for good in {good for good, _, _ in limits}:
        parsed(good)


def test_types_and_unknown_keys_are_refused() -> None:
    bad = [
        ("epochs=many", r"^epochs=many: a whole number in \[1, 1000000000\] is expected$"),
        ("epochs=1.5", r"^epochs=1.5: a whole number in \[1, 1000000000\] is expected$"),
        ("epochs=true", r"^epochs=true: a whole number in \[1, 1000000000\] is expected$"),
        ("precision=half", "^precision=half: no such value; choose from auto, float32, bfloat16, float16$"),
        ("figures=maybe", "^figures=maybe: true or false is expected$"),
        ("export=onnx", r"^export=onnx: a list is expected, for example \[onnx\]$"),
        ("model.dropuot=1", "^model.dropuot: cnn, the chosen model, has no such key"),
        ("optimizer.rho=1", "^optimizer.rho: adamw, the chosen optimizer, has no such key; choose optimizer=rmsprop$"),
        ("epoch=1", r"^epoch: no such key \(did you mean 'epochs'\?\)$"),
        ("hydra.job.nme=x", r"^hydra.job.nme: no such key \(did you mean 'name'"),
        ("hydra.job.env_set.A=x", r"^hydra.job.env_set.A: no such key; to add it, type \+hydra.job.env_set.A=...$"),
        ("~model", "^model: a value is needed; add model=VALUE$"),
    ]
    assert unlike(bad, parsed) == []


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(UserError) as found:
        parsed("epochs=0", "model.dropout=2", "split=kfold", "split.fold=5", "study=${seed}/b", "+optimizer.rho=1")
    assert list(found.value.lines) == [
        "epochs=0: must be in [1, 1000000000]",
        "study=0/b: it names a folder; use letters, digits, '_', '-' and '.'",
        "model.dropout=2: must be in [0, 1)",
        "optimizer.rho: no such key",
        "split.fold=5: must be in [0, 4]",
    ]


def test_fold_beyond_folds_is_refused() -> None:
    assert parsed("split=kfold", "split.fold=4").split.fold == 4
    with pytest.raises(UserError, match=r"split.fold=5: must be in \[0, 4\]"):
        parsed("split=kfold", "split.fold=5")


def test_missing_path_is_named() -> None:
    with pytest.raises(UserError, match=r"data.path: a value is needed"):
        parsed("data=kaggle")
