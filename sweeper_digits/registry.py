"""The parts that a config can name: models, data, augmentations, optimizers, schedules, callbacks, objectives.

A function becomes a part by `@register(kind)`. Its name becomes an option of a config group, its parameters the keys of
this option. Only registered functions are ever called for a config: the registry is the whitelist. The program's own
parts are in `sweeper_digits.parts`; they register in the same way as anyone's.
"""

import importlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore

from sweeper_digits import imports
from sweeper_digits.errors import UserError, closest, place_of
from sweeper_digits.quiet import quiet_import
from sweeper_digits.signature import KINDS, Part, describe, source_of

# Names of modules to import, separated by commas.
PLUGINS = "SWEEPER_DIGITS_PLUGINS"
# The entry point group of installed packages that bring parts.
ENTRY_POINTS = "sweeper_digits.plugins"
OWN = "sweeper_digits.parts"

Made = TypeVar("Made", bound=Callable[..., Any])

_parts: dict[str, dict[str, Part]] = {}
_loaded: set[str] = set()
# Kind and name of a part -> the import of its module by which it was registered.
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
        name: Of the option; None: the name of the function.
        direction: Of an objective: `minimize` or `maximize`.
        watches: Of a callback: it changes nothing in the training, so that runs with and without it are comparable.

    Raises:
        UserError: Another kind, a parameter without type hint or of a type that a config has not, a name that is
            taken; with the file and the line of the function.
    """
    if callable(kind):
        place = place_of(*source_of(kind))
        raise UserError(f'{place}: @register needs a kind; write for example @register("model")')

    def add(made: Made) -> Made:
        part = describe(kind, name or made.__name__, made, direction, watches)
        known = _parts.setdefault(kind, {})
        other = known.get(part.name)
        if other and not _replaces(part, other):
            raise UserError(f"{part.where}: {kind} {part.name}: registered already, at {other.where}; rename one")
        known[part.name] = part
        _imports[kind, part.name] = _import_of(part)
        _store(part)
        return made

    return add


def _replaces(part: Part, other: Part) -> bool:
    """Return whether a part takes the place of another one of its name.

    Of what was typed in, the last counts; it may have been written to a file since. Of a function in a file, its
    module may have been imported again; a second function of the same name in one file is another one.
    """
    again = _import_of(part) is not _imports.get((part.kind, part.name))
    return is_typed(other) or (other.target == part.target and (again or other.where == part.where))


def is_typed(part: Part) -> bool:
    """Return whether a part was defined in a notebook, or where Python is typed in: in no file that can be imported."""
    return part.make.__module__ == "__main__" and not hasattr(sys.modules["__main__"], "__file__")


def _import_of(part: Part) -> Any:
    """Return what differs between two imports of the module of a part."""
    return getattr(sys.modules.get(part.make.__module__), "__spec__", None)


def _store(part: Part) -> None:
    """Hand the option to Hydra: as a schema for YAML files, and as an option where no YAML file has to give values."""
    if part.group is None:
        return
    package = f"{part.group}.{part.name}" if part.kind == "callback" else None
    store = ConfigStore.instance()
    store.store(group=f"schema/{part.group}", name=part.name, node=part.option, replace=True)
    if has_values(part):
        store.store(group=part.group, name=part.name, node=part.option, package=package, replace=True)


def load() -> None:
    """Import the program's own parts, those of installed packages, and the modules that SWEEPER_DIGITS_PLUGINS names.

    Modules that are imported already are left alone. The modules of parts that were registered otherwise are added to
    SWEEPER_DIGITS_PLUGINS, so that processes started from here have them too.

    Raises:
        UserError: A module that cannot be imported; with the file and the line of the cause.
    """
    if OWN not in _loaded:
        importlib.import_module(OWN)
        _loaded.add(OWN)
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
    others = {part.make.__module__ for part in parts() if not part.own} - {"__main__", *named}
    if others:
        os.environ[PLUGINS] = ",".join([*named, *sorted(others)])


def _import(module: str, origin: str) -> None:
    if module in _loaded:
        return
    with quiet_import(users=True):  # most bring Keras
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
    """Return whether a part is not this package's own; its functions may use all of Keras."""
    return not all(part.own for part in parts())


def parts(kind: str | None = None) -> list[Part]:
    """Return the registered parts of a kind, or all; load them before, if `load` has not."""
    if OWN not in _loaded:
        load()
    return [part for known, named in _parts.items() if kind in (None, known) for part in named.values()]


def options_of(group: str) -> dict[str, Part]:
    """Return the parts that are options of a config group, by name."""
    return {part.name: part for part in parts() if part.group == group}


def find(group: str, saved: dict[str, Any]) -> Part:
    """Return the part that an option names by `_target_`.

    Only the last part of the target counts, without `load_`: older versions had the functions in other modules.

    Args:
        group: A config group.
        saved: The option's keys and values.

    Raises:
        UserError: None is registered under this name.
    """
    target = saved.get("_target_") or LEGACY.get(group, "") + str(saved.get("shape", ""))
    options = options_of(group)
    for part in options.values():
        if part.target == target:
            return part
    for part in options.values():
        if part.own and target and str(target).startswith(("sweeper_digits.", "keras.")) and _last(target) == part.name:
            return part
    module = str(target).rpartition(".")[0]
    raise UserError(
        f"{group}._target_={target}: not registered{closest(str(target), [part.target for part in options.values()])}; "
        f"set {PLUGINS}={module or 'MODULE'} if that module is yours"
    )


# What an option without `_target_` is: configs of version 0.1, and YAML files that were written for it.
LEGACY = {
    "model": f"{OWN}.networks.cnn",
    "augmentation": f"{OWN}.augmentations.warp",
    "schedule": f"{OWN}.schedules.",  # with its `shape`
}


def _last(target: str) -> str:
    return target.rpartition(".")[2].lower().removeprefix("load_")


def has_values(part: Part) -> bool:
    """Return whether a part can be chosen as it is; the program's own with mandatory keys have YAML files in conf/."""
    return not (part.own and part.mandatory)


def unset_hint() -> str:
    """Return what to say of a name that is not known: that no modules are named; empty where some are."""
    return "" if os.environ.get(PLUGINS) else f"; {PLUGINS} is not set"


def files_of_others(used: Iterable[Part] | None = None) -> set[str]:
    """Return the files of the modules that registered parts, without the program's own, and of their helpers.

    Args:
        used: The parts; None: all that are registered.
    """
    return imports.files_of({part.make.__module__ for part in (parts() if used is None else used) if not part.own})


def blame(error: BaseException) -> str | None:
    """Return the file and the line in the code of a registered part that an error came from; None: it came from ours.

    Args:
        error: Raised while a part was used.
    """
    files = files_of_others()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in files:
            return place_of(frame.filename, frame.lineno or 0)
    return None


def __getattr__(name: str) -> Any:
    """Return the dataclass of an option: so a pickled config finds it in another process."""
    kind, _, part = name.partition("__")
    if kind in KINDS and part:
        load()
        if part in _parts.get(kind, {}):
            return _parts[kind][part].option
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
