"""The layout holds: imports run one way and in no circle, and each room keeps out of the others' libraries.

Each test lists all offenders at once.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from tests.conftest import ROOT

PACKAGE = ROOT / "sweeper_digits"
FILES = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}
# Each may import what stands before it; what stands in one row may also import its neighbours.
ORDER = [
    {"errors", "text", "quiet", "program", "imports"},
    {"overrides"},
    {"schema"},
    {"components", "__init__"},
    {"config", "url", "screen", "habits"},
    {"bad_input", "live"},
    {"data"},
    {"runs"},
    {"training"},
    {"sweep"},
    {"help_text", "command_line"},
    {"predict"},
    {"results"},
    {"editors", "notebook", "__main__"},
]
KERAS = {"keras", "tensorflow"}
FORBIDDEN = {
    "data": KERAS | {"optuna"},
    "runs": KERAS | {"optuna"},
    "training": {"optuna"},
    "sweep": KERAS,
}


def room(module: str) -> str:
    """The room of a module of the package, by its dotted name; a module at the top is a room of its own."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(tree: ast.AST, exempt: str | None = None, inside: bool = False) -> Iterator[tuple[str, int, bool]]:
    """What a module imports, the line, and whether in a function; anywhere but in the function that is exempt."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name == exempt:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue  # it imports nothing
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:  # `from sweeper_digits import screen` imports the module screen
                name = f"{node.module}.{alias.name}"
                yield name if name in FILES or room(name) == "__init__" else str(node.module), node.lineno, inside
        yield from imports(node, exempt, inside or isinstance(node, ast.FunctionDef))


def own_imports(module: str) -> list[tuple[str, int, bool]]:
    """What a module imports of the package; not itself, and not the version."""
    found = imports(TREES[module])
    return [one for one in found if one[0] in FILES and one[0] not in (module, "sweeper_digits")]


def test_imports_run_one_way() -> None:
    ranks = {name: rank for rank, row in enumerate(ORDER) for name in row}
    assert ranks.keys() == {room(module) for module in FILES}
    backwards = [
        f"{module} imports {other}"
        for module in FILES
        for other, *_ in own_imports(module)
        if ranks[room(other)] > ranks[room(module)]
    ]
    # It hands on what is loaded when it is used.
    assert [one for one in backwards if not one.startswith("sweeper_digits imports ")] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: {other for other, *_ in own_imports(module)} for module in FILES if module != "sweeper_digits"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_an_import_of_ours_in_a_function_says_why_it_is_there() -> None:
    silent = []
    for module, path in FILES.items():
        lines = path.read_text().splitlines()
        for other, line, inside in own_imports(module):
            near = lines[max(0, line - 3) : line + 2]  # one reason does for imports that follow each other
            if inside and not any("import " in text and "  # " in text for text in near):
                silent.append(f"{path.relative_to(ROOT)}:{line} {other}")
    assert silent == []


def test_a_room_keeps_out_of_libraries_that_are_not_its_own() -> None:
    found = [
        f"{module} imports {name}"
        for module, tree in TREES.items()
        for name, *_ in imports(tree, exempt="load_keras")
        if name.split(".")[0] in FORBIDDEN.get(room(module), set())
    ]
    assert found == []


def test_a_reading_order_names_each_module_of_its_room() -> None:
    for path in FILES.values():
        if path.name != "__init__.py" or "Reading order:" not in path.read_text() or path.parent == PACKAGE:
            continue
        named = re.findall(r"^    (\w+)  ", path.read_text(), re.MULTILINE)
        modules = [module.stem for module in path.parent.glob("*.py") if module != path]
        packages = [package.parent.name for package in path.parent.glob("*/__init__.py")]
        assert sorted(named) == sorted(modules + packages), path


def test_tests_mirror_the_rooms() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    mirrored = {path.name for path in (ROOT / "tests").iterdir() if list(path.glob("test_*.py"))}
    assert mirrored - {"guards", "benchmarks"} == rooms  # the guards know no room, the benchmarks are beside them
