"""A function's signature and docstring become an option; what cannot become one is refused with its place."""

import importlib
import os
import re
import sys
import types
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Interval
from omegaconf import MISSING
from pydantic import Field

from sweeper_digits import command_line, components, config, register
from sweeper_digits.errors import UserError
from sweeper_digits.runs import recipe
from tests.tables import unlike


class Side(Enum):
    LEFT = 1
    RIGHT = 2


def everything(
    inputs: Any,
    classes: int,
    path: str,
    width: int = 3,
    share: Annotated[float, Interval(ge=0, lt=1)] = 0,
    kind: Literal["a", "b"] = "a",
    most: "int | None" = None,
    sizes: list[int] = [1, 2],  # noqa: B006 - as a user may write it
    side: Side = Side.LEFT,
) -> None:
    """Every type that a config has.

    It is described at length.

    Args:
        inputs: Given.
        width (int): Pixels a side,
            of all: squares.
        share: From 0 to 1.

    Returns:
        Nothing: at all.
    """


def test_a_part_of_the_users_is_known_as_such(clean_registry: None) -> None:
    assert not components.has_users()

    @register("augmentation")
    def mine() -> None:
        """Nothing."""

    assert components.has_users()


def test_parameters_become_keys_and_the_docstring_their_meanings(clean_registry: None) -> None:
    register("model")(everything)
    part = components.options_of("model")["everything"]
    assert list(part.keys) == ["path", "width", "share", "kind", "most", "sizes", "side"]
    assert part.passed == {"inputs", "classes"}
    assert part.summary == "Every type that a config has."
    expected = {"inputs": "Given.", "width": "Pixels a side, of all: squares.", "share": "From 0 to 1."}
    assert part.meanings == expected
    assert re.fullmatch(r"tests/test_registry\.py:\d+|.*/tests/test_registry\.py:\d+", part.where)
    defaults = {"path": MISSING, "width": 3, "share": 0, "kind": "a", "most": None, "sizes": [1, 2], "side": "LEFT"}
    assert part.node == {"_target_": "tests.test_registry.everything"} | defaults


def test_a_config_names_its_keys(clean_registry: None) -> None:
    register("model")(everything)
    compose = recipe.composer(command_line.CONF)

    def parsed(override: str) -> Any:
        return config.parse(recipe.without_hydra(compose(["model=everything", "model.path=x", override]))).model

    for key, typed, value in (
        ("width", "4", 4),
        ("most", "4", 4),
        ("sizes", "[5]", [5]),
        ("side", "RIGHT", Side.RIGHT),
    ):
        assert getattr(parsed(f"model.{key}={typed}"), key) == value
    cases = [
        ("model.width=four", "model.width=four: a whole number is expected"),
        ("model.width=true", "model.width=true: a whole number is expected"),
        ("model.most=1.5", "model.most=1.5: a whole number or null is expected"),
        ("model.sizes=[1,a]", r"model.sizes=\[1,a\]: a list, each item a whole number, is expected"),
        ("model.sizes=1", r"model.sizes=1: a list is expected, for example \[1\]"),
        ("model.kind=c", "model.kind=c: no such value; choose from a, b"),
        ("model.side=RIHGT", r"model.side=RIHGT: no such value \(did you mean 'RIGHT'\?\); choose from LEFT, RIGHT"),
        ("model.path=null", "model.path=null: a text is expected"),
        ("model.share=1", r"model\.share=1: must be in \[0, 1\)"),
        ("model.widht=4", "has no such key \\(did you mean 'width'\\?\\)"),
        ("+model.widht=4", r"model\.widht: no such key \(did you mean 'width'\?\)"),
        ("~model.path", "model.path: a value is needed; add model.path=VALUE"),
    ]
    assert unlike(cases, parsed) == []


def test_a_key_may_have_any_name_and_pydantics_own_limits(clean_registry: None) -> None:
    @register("augmentation")
    def odd(
        width: Annotated[int | None, Field(ge=1, lt=9)] = 3,
        sizes: list[Annotated[int, Interval(gt=0)]] = [1],  # noqa: B006 - as a user may write it
        copy: str = "x",
        model_config: bool = True,
    ) -> None:
        """Nothing."""

    part = components.options_of("augmentation")["odd"]
    assert vars(part.judged({"copy": 3})) == part.node | {"copy": "3"}
    cases = [
        ({"width": 9}, r"^augmentation.width=9: must be in \[1, 9\)$"),
        ({"width": True}, r"^augmentation.width=true: a whole number or null in \[1, 9\) is expected$"),
        ({"sizes": [0]}, r"^augmentation.sizes=\[0\]: a list, each item a whole number in \(0, inf\), is expected$"),
        ({"model_config": None}, "^augmentation.model_config=null: true or false is expected$"),
        ({"schema": 1}, "^augmentation.schema: no such key$"),
    ]
    assert unlike(cases, part.judged) == []


def test_only_what_is_registered_is_called() -> None:
    targets = ("os.system", "builtins.eval", "tests.test_registry.everything", "cnn")
    cases = [(target, rf"model\._target_={re.escape(target)}: not registered") for target in targets]
    assert unlike(cases, lambda target: config.typed("model", {"_target_": target})) == []


def noise(stddev: float = 1.0) -> None:
    """Noise."""


def no_hint(inputs: Any, classes: int, width=3) -> None:  # type: ignore[no-untyped-def]
    """One line."""


def odd_type(inputs: Any, classes: int, width: complex = 3j) -> None:
    """One line."""


def odd_default(inputs: Any, classes: int, width: int = 1.5) -> None:  # type: ignore[assignment]
    """One line."""


def unread_hint(inputs: Any, classes: int, width: "Nowhere" = 3) -> None:  # type: ignore[name-defined] # noqa: F821
    """One line."""


def no_classes(inputs: Any, width: int = 3) -> None:
    """One line."""


def many(inputs: Any, classes: int, **options: int) -> None:
    """One line."""


def no_rate(beta: float = 0.9) -> None:
    """One line."""


def out_of_range(inputs: Any, classes: int, width: Annotated[float, Interval(ge=0, le=1)] = 3.0) -> None:
    """One line."""


def val_loss(probabilities: Any, labels: Any) -> float:
    """One line."""
    return 0.0


def twice(path: str, invert: bool = True) -> None:
    """One line."""


def with_keys(probabilities: Any, labels: Any, power: int = 2) -> float:
    """One line."""
    return 0.0


def test_what_cannot_become_an_option_is_refused_with_its_place(clean_registry: None) -> None:
    refused: list[tuple[str, Callable[..., Any], dict[str, Any], str]] = [
        ("model", no_hint, {}, "the parameter width has no type hint; write for example width: int = 1"),
        ("model", odd_type, {}, "the parameter width is of type complex; a config has bool, int, float"),
        ("model", odd_default, {}, "the default width=1.5: a whole number is expected"),
        ("model", unread_hint, {}, "the type hint of width cannot be read"),
        ("model", no_classes, {}, "it needs the parameter classes"),
        ("model", many, {}, "has no name of its own; write each parameter out"),
        ("model", noise, {"name": "käse"}, "a name has letters, digits and '_'"),
        ("model", out_of_range, {}, "the default width=3.0: must be in [0, 1]"),
        ("objective", val_loss, {"direction": "minimize"}, "every run has a value of this name; give another"),
        ("data", twice, {}, "every option of data has a key invert already; rename the parameter"),
        ("optimizer", no_rate, {}, "it needs the parameter learning_rate"),
        ("objective", with_keys, {"direction": "minimize"}, "an objective has no keys; leave power out"),
        ("objective", with_keys, {}, 'an objective, and nothing else, needs direction="minimize"'),
        ("model", everything, {"direction": "minimize"}, 'an objective, and nothing else, needs direction="minimize"'),
        ("augmentatoin", noise, {}, "no such kind (did you mean 'augmentation'?)"),
    ]
    cases = []
    for kind, function, options, message in refused:
        place = f"test_registry.py:{function.__code__.co_firstlineno}: {kind} "
        cases.append(((kind, options, function), f"{re.escape(place)}.*{re.escape(message)}"))
    assert unlike(cases, lambda given: register(given[0], **given[1])(given[2])) == []


def test_a_decorator_without_a_kind_says_so() -> None:
    with pytest.raises(UserError, match=r"test_registry\.py:\d+: @register needs a kind; write for example @register"):
        register(noise)  # type: ignore[arg-type]


def test_two_of_one_name_are_refused_with_both_places(clean_registry: None) -> None:
    register("augmentation")(noise)
    register("augmentation")(noise)  # a notebook's cell that is run again
    with pytest.raises(UserError, match=r"registered already, at .*test_registry\.py:\d+; rename one"):
        register("augmentation", name="noise")(everything_else)
    with pytest.raises(UserError, match=r"cnn: registered already, at .*networks\.py:\d+; rename one"):
        register("model", name="cnn")(everything)


def everything_else(stddev: float = 1.0) -> None:
    """One line."""


def test_a_part_is_replaced_when_its_module_is_imported_again(
    clean_registry: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    head = "from sweeper_digits import register\n"
    part = "@register('augmentation')\ndef blur(width: int = {}) -> None:\n    pass\n"
    (tmp_path / "bad.py").write_text(head + part.format(1))
    module = importlib.import_module("bad")
    (tmp_path / "bad.py").write_text(head + "\n\n" + part.format(22))
    importlib.reload(module)
    assert components.options_of("augmentation")["blur"].keys["width"].default == 22
    (tmp_path / "bad.py").write_text(head + "\n" + part.format(333) + part.format(4444))
    with pytest.raises(
        UserError, match=r"bad\.py:7: augmentation blur: registered already, at .*bad\.py:4; rename one"
    ):
        importlib.reload(module)


def test_what_is_typed_in_is_replaced(clean_registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def noise(stddev: float = {}) -> None:\n    pass\n"
    spaces: list[dict[str, Any]] = [{"__name__": "__main__"}, {"__name__": "__main__"}]
    for space, default in zip(spaces, ("2.0", "3.0"), strict=True):
        exec(compile(code.format(default), f"cell {default}", "exec"), space)
    monkeypatch.setattr(components, "source_of", lambda make: (make.__code__.co_filename, 1))
    script = types.ModuleType("__main__")
    script.__file__ = "script.py"
    monkeypatch.setitem(sys.modules, "__main__", script)
    typed, changed = (space["noise"] for space in spaces)
    register("augmentation")(typed)
    with pytest.raises(UserError, match=r"cell 3\.0:1: augmentation noise: registered already, at cell 2\.0:1"):
        register("augmentation")(changed)
    del script.__file__
    register("augmentation")(changed)
    assert components.options_of("augmentation")["noise"].keys["stddev"].default == 3
    register("augmentation")(noise)  # it was written to a file
    assert components.options_of("augmentation")["noise"].keys["stddev"].default == 1
    with pytest.raises(UserError, match=r"cell 3\.0:1: augmentation noise: registered already"):
        register("augmentation")(changed)


def test_modules_of_parts_reach_the_processes_started_from_here(
    clean_registry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPER_DIGITS_PLUGINS", "")
    register("augmentation")(noise)
    components.load()
    assert os.environ["SWEEPER_DIGITS_PLUGINS"] == "tests.test_registry"
