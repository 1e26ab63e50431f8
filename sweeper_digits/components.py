"""The components that a config can name: models, data, augmentations, optimizers, schedules, callbacks, objectives.

`@register(kind)` makes a function a component: its name becomes an option of a config group, its parameters the keys of
this option. A config can call registered functions and no others. The program's own components are in the modules that
`OWN` names; they register in the same way as anyone's.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
import inspect
import os
import re
import sys
import traceback
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from sweeper_digits import imports
from sweeper_digits.errors import INFINITY, Range, UserError, check_range, check_ranges, closest, place_of
from sweeper_digits.quiet import quiet_import


@dataclass
class Data:
    """The keys that all data sources share: changes of the pixels after reading, and how many images are used.

    Attributes:
        invert: For a light background: 255 becomes 0.
        transpose: Rows become columns.
        limit: Use so many of the images, each class in its share; null: all.
        limit_seed: The seed of the draw of these images.
    """

    invert: bool = False
    transpose: bool = False
    limit: Annotated[int | None, Range(1, INFINITY)] = None
    limit_seed: Annotated[int, Range(0, 2**32 - 1)] = 0


@dataclass(frozen=True)
class Kind:
    """The rules for components of one kind.

    Attributes:
        group: The config group; None: the components have no options.
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
# Names that metrics.json and history.csv use for something else.
TAKEN = """
    loss accuracy val_loss val_accuracy params parameters seconds milliseconds_per_image epoch epochs best_epoch
    learning_rate images_per_second run_seconds state folds seed objective objectives directions classes image_shape
    data device precision pixels train_images validation_images confusion_matrix class_accuracy error versions
    git_commit code
""".split()  # noqa: SIM905 - as a list it has 30 lines
# How names of others end: a value's standard error over images, its standard deviation over folds; what images are.
DERIVED = ("_se", "_std", "fingerprint", "division")


@dataclass(frozen=True)
class Component:
    """A registered function.

    Attributes:
        kind: A key of `KINDS`.
        name: The name of the option.
        make: The function.
        option: A dataclass with the keys of the option, `_target_` with them.
        passed: Parameters that the framework passes.
        where: File and line of the function.
        summary: The first line of its docstring.
        meanings: Key -> what its docstring says of it.
        direction: The direction of an objective.
        watches: Whether a callback only watches: it changes nothing in the training.
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


def describe(kind: str, name: str, make: Callable[..., Any], direction: str | None, watches: bool) -> Component:
    """Return the component that a function is; see `register`."""
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
    return Component(kind, name, make, option, frozenset(passed), where, summary, meanings, direction, watches)


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
    # So a pickled config finds it: `__getattr__` below.
    option.__module__, option.__qualname__ = "sweeper_digits.components", f"{kind}__{name}"
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


# Names of modules to import, separated by commas.
PLUGINS = "SWEEPER_DIGITS_PLUGINS"
# The entry point group of installed packages that bring components.
ENTRY_POINTS = "sweeper_digits.plugins"
# The modules that register the program's own. None of them imports Keras before it builds something.
OWN = (
    "sweeper_digits.data.sources",
    "sweeper_digits.training.networks",
    "sweeper_digits.training.registered",
    "sweeper_digits.training.trackers.registered",
)

Made = TypeVar("Made", bound=Callable[..., Any])

_registered: dict[str, dict[str, Component]] = {}
_loaded: set[str] = set()
# Kind and name of a component -> the import of its module by which it was registered.
_imports: dict[tuple[str, str], Any] = {}


def register(
    kind: str, *, name: str | None = None, direction: str | None = None, watches: bool = False
) -> Callable[[Made], Made]:
    """Return a decorator that makes a function, or a class, an option of a config group.

    The parameters of the function are the keys of the option: each needs a type hint, its default is the default of the
    key, and a parameter without default must be given. `Annotated[float, Range(0, 1)]` sets a range. The docstring, in
    Google's style, says what the keys mean. What the framework passes, by the name of the parameter, is no key:

    | kind | returns | the framework passes |
    | --- | --- | --- |
    | `model` | logits, (n, classes) | `inputs`, float (n, height, width, channels), 0 to 1; `classes` |
    | `data` | images and labels, or a `Dataset` | |
    | `augmentation` | a Keras layer, called with float32 (n, height, width, channels), 0 to 255 | `seed` |
    | `optimizer` | a Keras optimizer; it needs the key `learning_rate` | `output_layer`, the name of the last layer |
    | `schedule` | a Keras learning-rate schedule | `peak`; `steps`, of the training; `steps_per_epoch` |
    | `callback` | a Keras callback | `run`, a `RunContext` |
    | `objective` | a float | `probabilities`, float32 (n, classes); `labels`, int (n,); `metrics` so far |

    Args:
        kind: One of the table.
        name: The name of the option; None: the name of the function.
        direction: The direction of an objective: `minimize` or `maximize`.
        watches: Whether a callback changes nothing in the training, so that runs with and without it are comparable.

    Raises:
        UserError: Another kind, a parameter without type hint or of a type that a config has not, a name that is
            taken; with the file and the line of the function.
    """
    if callable(kind):
        place = place_of(*source_of(kind))
        raise UserError(f'{place}: @register needs a kind; write for example @register("model")')

    def add(made: Made) -> Made:
        if made.__module__ == "__mp_main__":  # a script again, in a process of its own: its configs say __main__
            made.__module__ = "__main__"
        component = describe(kind, name or made.__name__, made, direction, watches)
        known = _registered.setdefault(kind, {})
        other = known.get(component.name)
        if other and not _replaces(component, other):
            raise UserError(
                f"{component.where}: {kind} {component.name}: registered already, at {other.where}; rename one"
            )
        known[component.name] = component
        _imports[kind, component.name] = _import_of(component)
        _store(component)
        return made

    return add


def _replaces(component: Component, other: Component) -> bool:
    """Return whether a component takes the place of another one of its name.

    * A function that was typed in is replaced by the next one of its name, in a file too.
    * A function of a file is replaced where its module is imported again; a second one of its name in that file is not.
    """
    again = _import_of(component) is not _imports.get((component.kind, component.name))
    return is_typed(other) or (other.target == component.target and (again or other.where == component.where))


def is_typed(component: Component) -> bool:
    """Return whether a component was typed in, in a notebook for example: no file that can be imported has it."""
    return component.make.__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__")


def _import_of(component: Component) -> Any:
    """Return what differs between two imports of the module of a component."""
    return getattr(sys.modules.get(component.make.__module__), "__spec__", None)


def _store(component: Component) -> None:
    """Hand the option to Hydra: as a schema for YAML files, and as an option where no YAML file has to give values."""
    if component.group is None:
        return
    package = f"{component.group}.{component.name}" if component.kind == "callback" else None
    store = ConfigStore.instance()
    store.store(group=f"schema/{component.group}", name=component.name, node=component.option, replace=True)
    if has_values(component):
        store.store(group=component.group, name=component.name, node=component.option, package=package, replace=True)


def load() -> None:
    """Import the program's own components, those of installed packages, and the modules of SWEEPER_DIGITS_PLUGINS.

    Modules that are imported already are left alone. Modules that registered components otherwise are added to
    SWEEPER_DIGITS_PLUGINS, so that processes started from here import them too.

    Raises:
        UserError: A module that cannot be imported; with the file and the line of the cause.
    """
    if not _loaded.issuperset(OWN):
        for module in OWN:
            importlib.import_module(module)
            _loaded.add(module)
        for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
            _import(
                entry.value.partition(":")[0],
                f"the installed package with the entry point {entry.name}; mend or uninstall it",
            )
    named = [module.strip() for module in os.environ.get(PLUGINS, "").split(",") if module.strip()]
    if named and str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))  # as `python -m` has it; a console script has not
    for module in named:
        if module.endswith(".py") or not all(word.isidentifier() for word in module.split(".")):
            raise UserError(
                f"{PLUGINS}={module}: the name of a module is expected, for example my_digits; no path, no .py"
            )
        _import(module, f"{PLUGINS}={module}")
    others = {component.make.__module__ for component in registered() if not component.own} - {"__main__", *named}
    if others:
        os.environ[PLUGINS] = ",".join([*named, *sorted(others)])


def _import(module: str, origin: str) -> None:
    if module in _loaded:
        return
    with quiet_import(keep_optional_imports=True):  # most bring Keras
        try:
            importlib.import_module(module)
        except UserError as error:
            raise UserError(f"{origin}: {error}") from error
        except ModuleNotFoundError as error:
            if error.name and (module == error.name or module.startswith(f"{error.name}.")):
                raise UserError(f"{origin}: no module {error.name}; its folder belongs into PYTHONPATH") from error
            raise UserError(f"{origin}: {_last_frame(error, module)}: {error}") from error
        except Exception as error:
            raise UserError(f"{origin}: {_last_frame(error, module)}: {type(error).__name__}: {error}") from error
    _loaded.add(module)


def _last_frame(error: Exception, module: str) -> str:
    """Return file and line of the last frame of an import that is not Python's own machinery."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if len(frames) > 1 else module


def has_users() -> bool:
    """Return whether a component is not this package's own; its functions may use all of Keras."""
    return not all(component.own for component in registered())


def registered(kind: str | None = None) -> list[Component]:
    """Return the registered components of a kind, or all; load them before, if `load` has not."""
    if not _loaded.issuperset(OWN):
        load()
    return [component for known, named in _registered.items() if kind in (None, known) for component in named.values()]


def options_of(group: str) -> dict[str, Component]:
    """Return the components that are options of a config group, by name."""
    return {component.name: component for component in registered() if component.group == group}


def find(group: str, saved: dict[str, Any]) -> Component:
    """Return the component that an option names by `_target_`.

    Args:
        group: A config group.
        saved: The option's keys and values.

    Raises:
        UserError: None is registered under this name.
    """
    target = saved.get("_target_")
    options = options_of(group)
    for component in options.values():
        if component.target == target:
            return component
    if target is None:
        raise UserError(
            f"{group}._target_ is missing; a YAML file of conf/{group}/ begins with `defaults: "
            f"[/schema/{group}/NAME@_here_]`, NAME one of {', '.join(options)}"
        )
    module = str(target).rpartition(".")[0]
    raise UserError(
        f"{group}._target_={target}: not registered{closest(str(target), [one.target for one in options.values()])}; "
        f"set {PLUGINS}={module or 'MODULE'} if that module is yours"
    )


def has_values(component: Component) -> bool:
    """Return whether a component can be chosen as it is; our own with mandatory keys have YAML files in conf/."""
    return not (component.own and component.mandatory)


def unset_hint() -> str:
    """Return what to say of a name that is not known: that no modules are named; empty where some are."""
    return "" if os.environ.get(PLUGINS) else f"; {PLUGINS} is not set"


def files_of_others(used: Iterable[Component] | None = None) -> set[str]:
    """Return the files of the modules that registered components, without the program's own, and of their helpers.

    Args:
        used: The components; None: all that are registered.
    """
    return imports.files_of(
        {component.make.__module__ for component in (registered() if used is None else used) if not component.own}
    )


def blame(error: BaseException) -> str | None:
    """Return the file and the line of a registered component's code that an error came from; None: from ours.

    Args:
        error: Raised while a component was used.
    """
    files = files_of_others()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in files:
            return place_of(frame.filename, frame.lineno or 0)
    return None


def __getattr__(name: str) -> Any:
    """Return the dataclass of an option: so a pickled config finds it in another process."""
    kind, _, component = name.partition("__")
    if kind in KINDS and component:
        load()
        if component in _registered.get(kind, {}):
            return _registered[kind][component].option
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
