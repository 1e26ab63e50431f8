"""Which files of the user's own a module imports: found by reading them, so that neither order nor process matters."""

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

from sweeper_digits.program import PACKAGE

# Folders of installed packages.
INSTALLED = {"site-packages", "dist-packages"}


def files_of(modules: Iterable[str]) -> set[str]:
    """Return the files of imported modules, and those of all that they import or may yet import, in functions too.

    Left out is what Python, this package or another installed package brings; not so other modules of the package that
    one of the modules is in. A name that is made up while the program runs is not found.

    Args:
        modules: Their dotted names.
    """
    waiting = [(name, _file_of(name)) for name in modules]
    tops = {name.partition(".")[0] for name in modules}
    found: dict[str, str] = {}
    while waiting:
        name, file = waiting.pop()
        if file is None or file in found:
            continue
        found[file] = name
        for imported in _imported(name, Path(file)):
            waiting += [pair for pair in _with_parents(imported) if _is_own(*pair, tops)]
    return set(found)


def _file_of(name: str) -> str | None:
    return getattr(sys.modules.get(name), "__file__", None)


def _is_own(name: str, file: str, tops: set[str]) -> bool:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or Path(file).resolve().is_relative_to(PACKAGE) or not Path(file).is_file():
        return False
    return top in tops or not INSTALLED & {*Path(file).parts}


def _imported(name: str, file: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, or that may be those of modules, its own packages first."""
    package = name if file.stem == "__init__" else name.rpartition(".")[0]
    if package:
        yield package
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):  # it has other contents than Python's, or will fail where it is imported
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = _absolute("." * level + (module or ""), package)
                yield from (base, *(f"{base}.{alias.name}" for alias in names)) if base else ()
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(text)), *_],
            ) if base := _absolute(text, package):
                yield base


def _absolute(name: str, package: str) -> str | None:
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:  # beyond the outermost package
        return None


def _with_parents(name: str) -> Iterator[tuple[str, str]]:
    """Yield a module, if there is one of this name, and the packages around it, each with its file; import none."""
    words, path = name.split("."), None
    for last in range(1, len(words) + 1):
        spec = _spec(".".join(words[:last]), path)
        if spec is None:
            return
        if spec.origin and spec.has_location:
            yield spec.name, spec.origin
        if spec.submodule_search_locations is None:
            return
        path = spec.submodule_search_locations


def _spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    try:
        return next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, path))), None)
    except (AttributeError, ImportError, KeyError):  # of a finder of another make, or of a folder without __init__.py
        return None
