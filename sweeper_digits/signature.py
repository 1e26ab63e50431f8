"""From a function's signature to the option of a config group: keys, types, defaults, ranges, meanings."""

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Literal

from omegaconf import MISSING

from sweeper_digits.errors import Range as Range  # parts import it from here
from sweeper_digits.errors import UserError, check_range, check_ranges, closest, place_of
from sweeper_digits.options import Data


@dataclass(frozen=True)
class Kind:
    """What parts of one kind have in common.

    Attributes:
        group: The config group; None: the parts have no options.
        needed: Parameters that the framework passes and that a function must have.
        passed: Further parameters that the framework passes where a function has them.
        keys: Keys that a function must have.
        base: A dataclass with keys that every option of the group has.
    """

    group: str | None
    needed: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    base: type | None = None


KINDS = {
    "model": Kind("model", needed=("inputs", "classes")),
    "data": Kind("data", base=Data),
    "augmentation": Kind("augmentation", passed=("seed",)),
    "optimizer": Kind("optimizer", passed=("output_layer",), keys=("learning_rate",)),
    "schedule": Kind("schedule", needed=("peak",), passed=("steps", "steps_per_epoch")),
    "callback": Kind("callbacks", passed=("run",)),
    "objective": Kind(None, needed=("probabilities", "labels"), passed=("metrics",)),
}
SCALARS = (bool, int, float, str)
DIRECTIONS = ("minimize", "maximize")
# What metrics.json and history.csv have under other meanings.
TAKEN = (
    *("loss", "accuracy", "val_loss", "val_accuracy", "params", "parameters", "seconds", "milliseconds_per_image"),
    *("epoch", "epochs", "best_epoch", "learning_rate", "images_per_second", "run_seconds", "state", "folds", "seed"),
    *("objective", "objectives", "directions", "classes", "image_shape", "data", "device", "precision", "pixels"),
    *(
        "train_images",
        "validation_images",
        "confusion_matrix",
        "class_accuracy",
        "error",
        "versions",
        "git_commit",
        "code",
    ),
)
# How names of others end: a value's standard error over images, its standard deviation over folds; what images are.
DERIVED = ("_se", "_std", "fingerprint", "division")


@dataclass(frozen=True)
class Part:
    """A registered function.

    Attributes:
        kind: A key of `KINDS`.
        name: Of the option.
        make: The function.
        option: A dataclass with the keys of the option, `_target_` with them.
        passed: Parameters that the framework passes.
        where: File and line of the function.
        summary: The first line of its docstring.
        meanings: Key -> what its docstring says of it.
        direction: Of an objective.
        watches: Of a callback: it changes nothing in the training.
    """

    kind: str
    name: str
    make: Callable[..., Any]
    option: type
    passed: frozenset[str]
    where: str
    summary: str
    meanings: dict[str, str]
    direction: str | None = None
    watches: bool = False

    @property
    def group(self) -> str | None:
        """Return the config group."""
        return KINDS[self.kind].group

    @property
    def target(self) -> str:
        """Return the dotted name of the function, which stands in a config as `_target_`."""
        return _target(self.make)

    @property
    def own(self) -> bool:
        """Return whether the program brought it."""
        return self.make.__module__.partition(".")[0] == "sweeper_digits"

    @property
    def keys(self) -> list[str]:
        """Return the keys of the option, in order."""
        return [one.name for one in dataclasses.fields(self.option) if one.name != "_target_"]

    @property
    def mandatory(self) -> list[str]:
        """Return the keys that have no default."""
        return [one.name for one in dataclasses.fields(self.option) if one.default is MISSING]

    def build(self, option: Any, **context: Any) -> Any:
        """Call the function with the values of an option, and with what it wants of the context."""
        base = {one.name for one in dataclasses.fields(KINDS[self.kind].base or _Nothing)}
        values = {name: getattr(option, name) for name in self.keys if name not in base} if option is not None else {}
        return self.make(**{name: value for name, value in context.items() if name in self.passed}, **values)


@dataclass
class _Nothing:
    """No keys."""


def describe(kind: str, name: str, make: Callable[..., Any], direction: str | None, watches: bool) -> Part:
    """Return the part that a function is; see `registry.register`."""
    where = place_of(*source_of(make))
    problem = functools.partial(_problem, where, f"{kind} {name}")
    if kind not in KINDS:
        raise problem(f"no such kind{closest(kind, KINDS)}; choose from {', '.join(KINDS)}")
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise problem("a name has letters, digits and '_', and begins with a letter; give another by name=...")
    if (kind == "objective") != (direction is not None) or direction not in (None, *DIRECTIONS):
        raise problem('an objective, and nothing else, needs direction="minimize" or direction="maximize"')
    if kind == "objective" and (name in TAKEN or name.endswith(DERIVED)):
        raise problem("every run has a value of this name; give another by name=...")
    given = KINDS[kind]
    parameters = _parameters(make, problem)
    passed = {*given.needed, *given.passed} & set(parameters)
    if lacking := [key for key in (*given.needed, *given.keys) if key not in parameters]:
        raise problem(f"it needs the parameter {lacking[0]}")
    hints = {
        key: hint if hint is None else _evaluated(make, key, hint, problem)
        for key, (_, hint) in parameters.items()
        if key not in passed
    }
    keys = [_key(parameters[key][0], hint, problem) for key, hint in hints.items()]
    if keys and given.group is None:
        raise problem(f"an {kind} has no keys; leave {keys[0][0]} out")
    shared = {one.name for one in dataclasses.fields(given.base or _Nothing)}
    if taken := sorted(shared.intersection(key for key, _, _ in keys)):
        raise problem(f"every option of {given.group} has a key {taken[0]} already; rename the parameter")
    summary, meanings = docstring(make)
    option = _option(kind, name, make, keys)
    meanings |= docstring(given.base)[1] if given.base else {}
    return Part(kind, name, make, option, frozenset(passed), where, summary, meanings, direction, watches)


def _problem(where: str, what: str, text: str) -> UserError:
    return UserError(f"{where}: {what}: {text}")


def source_of(make: Callable[..., Any]) -> tuple[str, int]:
    """Return the file of a function, and the line of its `def` or `class`."""
    try:
        lines, first = inspect.getsourcelines(make)
        begin = next((n for n, line in enumerate(lines) if re.match(r"\s*(def|class)\b", line)), 0)
        return inspect.getsourcefile(make) or make.__module__, first + begin
    except (OSError, TypeError):  # of a notebook without its cells, or of C
        return make.__module__, 0


def _target(make: Callable[..., Any]) -> str:
    return f"{make.__module__}.{make.__qualname__}"


def _parameters(make: Callable[..., Any], problem: Any) -> dict[str, tuple[inspect.Parameter, Any]]:
    """Return the parameters of a function or of a class, each with its type hint."""
    found = inspect.signature(make).parameters
    for one in found.values():
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD, one.POSITIONAL_ONLY):
            raise problem(f"the parameter {one} has no name of its own; write each parameter out")
    return {key: (one, None if one.annotation is one.empty else one.annotation) for key, one in found.items()}


def _evaluated(make: Callable[..., Any], name: str, hint: Any, problem: Any) -> Any:
    """Return a type hint that may be written as text."""
    stub = types.SimpleNamespace(__annotations__={name: hint})
    function = make.__init__ if inspect.isclass(make) else make
    try:
        return typing.get_type_hints(stub, getattr(function, "__globals__", {}), include_extras=True)[name]
    except (NameError, SyntaxError, TypeError) as error:
        raise problem(f"the type hint of {name} cannot be read ({error})") from error


def _key(one: inspect.Parameter, hint: Any, problem: Any) -> tuple[str, Any, Any]:
    """Return name, type and default of a key as `make_dataclass` takes them."""
    if hint is None:
        raise problem(f"the parameter {one.name} has no type hint; write for example {one.name}: int = 1")
    kind = _bare(hint)
    if not _is_known(kind):
        shown = getattr(kind, "__name__", kind)
        raise problem(
            f"the parameter {one.name} is of type {shown}; a config has bool, int, float, str, Literal, "
            "Enum, lists of them, and None"
        )
    about = {"range": _range(hint)}
    if one.default is one.empty:
        return one.name, kind, field(default=MISSING, metadata=about)
    if not _fits(one.default, kind):
        raise problem(
            f"the default of {one.name}, {one.default!r}, is not of its type, {getattr(kind, '__name__', kind)}"
        )
    if (allowed := about["range"]) and one.default is not None:
        try:
            check_range(one.name, one.default, **dataclasses.asdict(allowed))
        except UserError as error:
            raise problem(f"the default {error}") from error
    if isinstance(one.default, list):
        return one.name, kind, field(default_factory=lambda: list(one.default), metadata=about)
    return one.name, kind, field(default=one.default, metadata=about)


def _bare(hint: Any) -> Any:
    """Return a type hint without its annotations."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _range(hint: Any) -> Range | None:
    found = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range)]
    return found[0] if found else None


def _is_known(kind: Any) -> bool:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return all(isinstance(one, str | int | bool) for one in inner)
    if origin in (types.UnionType, typing.Union, list):
        return all(_is_known(one) for one in inner)
    return kind in (*SCALARS, Any, type(None)) or (isinstance(kind, type) and issubclass(kind, Enum))


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a default is of a type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin is Literal:
        return value in inner
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, one) for one in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _option(kind: str, name: str, make: Callable[..., Any], keys: list[Any]) -> type:
    """Return a dataclass of the keys; its instances have been checked."""
    prefix = f"callbacks.{name}" if kind == "callback" else kind
    base = KINDS[kind].base

    def check(self: Any) -> None:
        check_ranges(f"{prefix}.", self)

    option = dataclasses.make_dataclass(
        name,
        [("_target_", str, field(default=_target(make))), *keys],
        bases=(base,) if base else (),
        namespace={"__post_init__": check, "__doc__": inspect.getdoc(make) or ""},
    )
    # So a pickled config finds it: `registry.__getattr__`.
    option.__module__, option.__qualname__ = "sweeper_digits.registry", f"{kind}__{name}"
    return option


def default_of(key: dataclasses.Field[Any]) -> Any:
    """Return the default of a key of an option; MISSING where a value must be given."""
    return key.default if key.default_factory is dataclasses.MISSING else key.default_factory()


def docstring(documented: Any) -> tuple[str, dict[str, str]]:
    """Return the first line of a docstring in Google's style, and what it says of each parameter or attribute."""
    text = inspect.getdoc(documented) or ""
    summary = text.partition("\n")[0].strip()
    section = re.search(r"^(?:Args|Arguments|Parameters|Attributes):\n((?:[ \t]+.*\n?|\n)*)", text, re.MULTILINE)
    meanings: dict[str, str] = {}
    last, first = "", 0
    for line in section[1].splitlines() if section else ():
        indent = len(line) - len(line.lstrip())
        begin = re.match(r"\s+(\w+)\s*(?:\([^)]*\))?:\s*(.*)", line)
        if begin and (not meanings or indent == first):
            first, last = indent, begin[1]
            meanings[last] = begin[2].strip()
        elif last and line.strip():
            meanings[last] = f"{meanings[last]} {line.strip()}".strip()
    return summary, meanings
