"""The layout holds: imports run one way, each room keeps out of the others' libraries, nothing grows too long."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "sweeper_digits"
MODULES = sorted(PACKAGE.rglob("*.py"))
# Each may import what stands before it; what stands in one row may also import its neighbours.
ORDER = [
    {"errors"},
    {"quiet", "options", "overrides", "program", "passwords"},
    {"signature", "imports"},
    {"registry"},
    {"__init__", "screen", "live", "schema", "json_schema"},
    {"data"},
    {"runs"},
    {"training"},
    {"parts"},
    {"sweep", "arguments", "help_text", "command_line"},
    {"replay"},
    {"editors"},
    {"results"},
    {"__main__", "surroundings", "interactive"},
]
KERAS = {"keras", "tensorflow"}
FORBIDDEN = {
    "data": KERAS | {"optuna"},
    "runs": KERAS | {"optuna"},
    "training": {"optuna"},
    "sweep": KERAS,
}


def name_of(path: Path) -> str:
    """A module's path as a test's name."""
    return path.relative_to(PACKAGE).as_posix()


def room(module: str) -> str:
    """The room of a module of the package, by its dotted name; a module at the top is a room of its own."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(tree: ast.AST, exempt: str | None = None) -> Iterator[str]:
    """The dotted names that a module imports, anywhere in it but in the function that is exempt."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name == exempt:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue  # it imports nothing
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from sweeper_digits import screen` imports the module screen.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imports(node, exempt)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    ranks = {name: rank for rank, row in enumerate(ORDER) for name in row}
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for module in imports(ast.parse(path.read_text())):
        if module.startswith("sweeper_digits.") and module != "sweeper_digits.__version__":
            assert ranks[room(module)] <= ranks[own], f"{own} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_keeps_out_of_libraries_that_are_not_its_own(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0]
    found = {module.split(".")[0] for module in imports(ast.parse(path.read_text()), exempt="load_keras")}
    assert not found & FORBIDDEN.get(own, set())


@pytest.mark.parametrize("path", [path for path in MODULES if "Reading order:" in path.read_text()], ids=name_of)
def test_a_reading_order_names_each_module_of_its_room(path: Path) -> None:
    named = re.findall(r"^    (\w+)  ", path.read_text(), re.MULTILINE)
    modules = [module.stem for module in path.parent.glob("*.py") if module != path]
    packages = [package.parent.name for package in path.parent.glob("*/__init__.py")]
    assert sorted(named) == sorted(modules + packages)


def test_tests_mirror_the_rooms() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    mirrored = {path.name for path in (ROOT / "tests").iterdir() if list(path.glob("test_*.py"))}
    assert mirrored - {"guards"} == rooms  # which know no room


def test_nothing_is_named_utils() -> None:
    names = {path.stem for path in MODULES} | {path.parent.name for path in MODULES}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_message_leaves_the_plural_open(path: Path) -> None:
    assert not re.search(r"\w\((?:e?s)\)", path.read_text(encoding="utf-8")), "use screen.counted"
