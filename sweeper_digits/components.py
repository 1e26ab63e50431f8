"""The components that a config can name: models, data, augmentations, optimizers, schedules, callbacks, objectives.

`@register(kind)` makes a function a component: its name becomes an option of a config group, its parameters the keys of
this option. A config can call registered functions and no others. The program's own components are in the modules that
`OWN` names; they register in the same way as anyone's.
"""

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
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

from annotated_types import Ge, Interval
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from sweeper_digits import imports
from sweeper_digits.errors import UserError, closest, place_of
from sweeper_digits.quiet import quiet_import

if TYPE_CHECKING:
    from pydantic import BaseModel


class Key(NamedTuple):
    """A parameter that is a key of the config.

    Attributes:
        hint: Its type; in an `Annotated`, with its limits.
        default: MISSING where a value must be given.
    """

    hint: Any
    default: Any = MISSING


# An option of a config group, judged: its values by their keys, and `_target_`.
Option = types.SimpleNamespace


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
    limit: Annotated[int | None, Ge(1)] = None
    limit_seed: Annotated[int, Interval(ge=0, le=2**32 - 1)] = 0


@dataclass(frozen=True)
class Kind:
    """The rules for components of one kind.

    Attributes:
        group: The config group; None: the components have no options.
        needed: Parameters that the framework passes and that a function must have.
        passed: Further parameters that the framework passes where a function has them.
        keys: Keys that a function must have.
        base: A dataclass with keys that every option of the group has, and that no function takes.
    """

    group: str | None
    needed: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    base: type | None = None

    @property
    def shared(self) -> dict[str, Key]:
        """Return the keys that every option of the group has."""
        return keys_of(self.base) if self.base else {}


KINDS = {
    "model": Kind("model", needed=("inputs", "classes")),
    "data": Kind("data", base=Data),
    "augmentation": Kind("augmentation", passed=("seed",)),
    "optimizer": Kind("optimizer", passed=("output_layer",), keys=("learning_rate",)),
    "schedule": Kind("schedule", needed=("peak",), passed=("steps", "steps_per_epoch")),
    "split": Kind("split"),
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
        keys: The keys of the option, in order.
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
    keys: dict[str, Key]
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
        return f"{self.make.__module__}.{self.make.__qualname__}"

    @property
    def own(self) -> bool:
        """Return whether the program brought it."""
        return self.make.__module__.partition(".")[0] == "sweeper_digits"

    @property
    def prefix(self) -> str:
        """Return what stands before a key on the command line."""
        return f"callbacks.{self.name}." if self.kind == "callback" else f"{self.kind}."

    @property
    def node(self) -> dict[str, Any]:
        """Return the option as Hydra composes it: the defaults, and `???` where a value must be given."""
        defaults = {key: one.default for key, one in self.keys.items()}
        plain = {key: one.name if isinstance(one, Enum) else one for key, one in defaults.items()}
        return {"_target_": self.target} | plain

    @functools.cached_property
    def model(self) -> "type[BaseModel]":
        """Return what judges the values of an option."""
        from sweeper_digits import schema  # Pydantic: --help does without

        return schema.model_of(self.name, self.keys, self.meanings)

    def judged(self, values: dict[str, Any]) -> Any:
        """Return an option with these values, and the defaults of keys that have none.

        Raises:
            UserError: A line for each key that is unknown, missing, of another type, or out of its range.
        """
        from sweeper_digits import schema  # Pydantic: --help does without

        given = {key: value for key, value in values.items() if key != "_target_"}
        return Option(_target_=self.target, **schema.judged(self.prefix, self.keys, self.model, given))

    def check_defaults(self) -> None:
        """Raise a UserError for a default that no option could have."""
        from sweeper_digits import schema  # Pydantic: --help does without

        keys = {key: one for key, one in self.keys.items() if one.default is not MISSING}
        model, defaults = schema.model_of(self.name, keys), {key: one.default for key, one in keys.items()}
        schema.judged("the default ", keys, model, defaults)

    def build(self, option: Any, **context: Any) -> Any:
        """Call the function with the values of an option, and with what it wants of the context."""
        values = {} if option is None else {key: getattr(option, key) for key in self.keys}
        for key in KINDS[self.kind].shared:
            values.pop(key, None)
        return self.make(**{name: value for name, value in context.items() if name in self.passed}, **values)


def describe(kind: str, name: str, make: Callable[..., Any], direction: str | None, watches: bool) -> Component:
    """Return the component that a function is; see `register`."""
    where = place_of(*source_of(make))
    try:
        _check_kind(kind, name, direction)
        given, parameters = KINDS[kind], inspect.signature(make).parameters
        if lacking := [key for key in (*given.needed, *given.keys) if key not in parameters]:
            raise UserError(f"it needs the parameter {lacking[0]}")
        passed = frozenset({*given.needed, *given.passed} & set(parameters))
        keys = keys_of(make, passed)
        if keys and given.group is None:
            raise UserError(f"an {kind} has no keys; leave {next(iter(keys))} out")
        if taken := sorted(given.shared.keys() & keys.keys()):
            raise UserError(f"every option of {given.group} has a key {taken[0]} already; rename the parameter")
        summary = docstring(make)[0]
        documented = [*([given.base] if given.base else []), *reversed(getattr(make, "__mro__", [make]))]
        meanings = {key: meaning for one in documented for key, meaning in docstring(one)[1].items()}
        found = Component(kind, name, make, given.shared | keys, passed, where, summary, meanings, direction, watches)
        if not found.own:  # of ours, a test does: Pydantic takes time
            found.check_defaults()
    except UserError as error:
        raise UserError(f"{where}: {kind} {name}: {error}") from error
    return found


def _check_kind(kind: str, name: str, direction: str | None) -> None:
    if kind not in KINDS:
        raise UserError(f"no such kind{closest(kind, KINDS)}; choose from {', '.join(KINDS)}")
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise UserError("a name has letters, digits and '_', and begins with a letter; give another by name=...")
    if (kind == "objective") != (direction is not None) or direction not in (None, *DIRECTIONS):
        raise UserError('an objective, and nothing else, needs direction="minimize" or direction="maximize"')
    if kind == "objective" and (name in TAKEN or name.endswith(DERIVED)):
        raise UserError("every run has a value of this name; give another by name=...")


def source_of(make: Callable[..., Any]) -> tuple[str, int]:
    """Return the file of a function, and the line of its `def` or `class`."""
    try:
        lines, first = inspect.getsourcelines(make)
        begin = next((n for n, line in enumerate(lines) if re.match(r"\s*(def|class)\b", line)), 0)
        return inspect.getsourcefile(make) or make.__module__, first + begin
    except (OSError, TypeError):  # of a notebook without its cells, or of C
        return make.__module__, 0


def keys_of(make: Callable[..., Any], left_out: Collection[str] = ()) -> dict[str, Key]:
    """Return the parameters of a function or a class as keys.

    Args:
        make: The function, or the class.
        left_out: Parameters that are no keys.

    Raises:
        UserError: A parameter that cannot be a key.
    """
    found = {}
    for name, one in inspect.signature(make).parameters.items():
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD, one.POSITIONAL_ONLY):
            raise UserError(f"the parameter {one} has no name of its own; write each parameter out")
        if name not in left_out:
            found[name] = Key(_hint(make, one), MISSING if one.default is one.empty else one.default)
    return found


def _hint(make: Callable[..., Any], one: inspect.Parameter) -> Any:
    """Return the type of a parameter, which may be written as text."""
    if one.annotation is one.empty:
        raise UserError(f"the parameter {one.name} has no type hint; write for example {one.name}: int = 1")
    stub = types.SimpleNamespace(__annotations__={one.name: one.annotation})
    function = make.__init__ if inspect.isclass(make) else make
    try:
        hints = typing.get_type_hints(stub, getattr(function, "__globals__", {}), include_extras=True)
    except (NameError, SyntaxError, TypeError) as error:
        raise UserError(f"the type hint of {one.name} cannot be read ({error})") from error
    if not _is_known(hint := hints[one.name]):
        raise UserError(
            f"the parameter {one.name} is of type {getattr(hint, '__name__', hint)}; a config has bool, int, float, "
            "str, Literal, Enum, lists of them, and None"
        )
    return hint


def _is_known(hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _is_known(inner[0])
    if origin is Literal:
        return all(isinstance(one, str | int | bool) for one in inner)
    if origin in (types.UnionType, typing.Union, list):
        return all(_is_known(one) for one in inner)
    return hint in (*SCALARS, Any, type(None)) or (isinstance(hint, type) and issubclass(hint, Enum))


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
    key, and a parameter without default must be given. `Annotated[float, Interval(ge=0, lt=1)]`, of
    annotated_types, or Pydantic's `Field(ge=0, lt=1)`, sets a range. The docstring, in Google's style, says what the
    keys mean. What the framework passes, by the name of the parameter, is no key:

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
    """Hand the option to Hydra."""
    if component.group is not None:
        package = component.prefix[:-1] if component.kind == "callback" else None
        store = ConfigStore.instance()
        store.store(group=component.group, name=component.name, node=component.node, package=package, replace=True)


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
            f"{group}._target_ is missing; a YAML file of conf/{group}/ begins with `defaults: [NAME]`, NAME one of "
            f"{', '.join(options)}"
        )
    module = str(target).rpartition(".")[0]
    raise UserError(
        f"{group}._target_={target}: not registered{closest(str(target), [one.target for one in options.values()])}; "
        f"set {PLUGINS}={module or 'MODULE'} if that module is yours"
    )


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
