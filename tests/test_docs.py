"""README, docs and --help name only what exists: files, commands, options and keys."""

import dataclasses
import io
import itertools
import re
import shlex
import shutil
import sys
import types
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeper_digits import __main__, bad_input, components
from sweeper_digits.config import Config, Search, StudySweeperConf, parse
from tests.conftest import ROOT, forget_components

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
TEXT = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
REGISTERED = ("data", "model", "optimizer", "schedule", "augmentation", "split")
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LAYOUTS = re.compile(r"^\| .+? \| `(?:data=|python ).+?` \|$", re.MULTILINE)
INLINE = [
    " ".join(found.split())
    for text in TEXT.values()
    for found in re.findall(r"`([^`]+)`", LAYOUTS.sub("", BLOCK.sub("", text)))
]
# `key=value`, also several; a value with `|` lists choices, and one with `<` or `...` is a placeholder.
OVERRIDES = [text for text in INLINE if re.fullmatch(r"(?:\+?[a-z][\w./]*=[^\s<]+ ?)+", text) and "..." not in text]
KEYS = {group: {key for one in components.options_of(group).values() for key in one.keys} for group in REGISTERED}
KEYS |= {"search": set(components.keys_of(Search))}
VERBS = tuple(verb[0] for verb in __main__.VERBS)


def commands(program: str) -> list[str]:
    """Return the arguments of each command of the documents that runs a program."""
    blocks = [body for text in TEXT.values() for _, language, body in BLOCK.findall(text) if not language]
    lines = [line for body in blocks for line in body.replace("\\\n", " ").splitlines()] + INLINE
    lines = [line for line in lines if not line.startswith('eval "$(')]  # tests/test_completion.py has these
    ran = [re.search(rf"\b{program} *([^>]*)", line) for line in lines]
    return list(dict.fromkeys(found[1].strip() for found in ran if found))


@pytest.fixture(scope="module", autouse=True)
def own_components(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The parts that the README tells the reader to write."""
    known = set(map(id, components.registered()))
    module = types.ModuleType("my_digits")
    module.__file__ = str(tmp_path_factory.mktemp("own") / "my_digits.py")
    (code,) = [
        body
        for _, language, body in BLOCK.findall(TEXT[ROOT / "README.md"])
        if language == "python" and "@register" in body
    ]
    Path(module.__file__).write_text(code)
    sys.modules["my_digits"] = module
    exec(compile(code, module.__file__, "exec"), vars(module))
    yield
    forget_components(known)


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of conf/ with the two files that the README tells the reader to write."""
    folder = tmp_path_factory.mktemp("docs") / "conf"
    shutil.copytree(ROOT / "conf", folder)
    blocks = {language: body for _, language, body in BLOCK.findall(TEXT[ROOT / "README.md"])}
    for name in ("wide", "wider"):  # in conf/, and in a folder of the reader's own
        (folder / "model" / f"{name}.yaml").write_text(blocks["yaml"])
    shutil.copy(folder / "search" / "quick.yaml", folder / "search" / "mine.yaml")
    return folder


def draws(override: Override) -> list[str]:
    """Return an override for each choice of a sweep, or for the lower bound of an interval."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [f"{override.get_key_element()}={value.start}"]
    if override.is_sweep_override():
        return [f"{override.get_key_element()}={text}" for text in override.sweep_string_iterator()]
    return [str(override.input_line)]


def check_overrides(arguments: list[str]) -> None:
    """Compose and parse the overrides of a command; each choice of a sweep occurs once."""
    if any(argument.startswith("data.group=") for argument in arguments):
        arguments = ["data=file", *arguments]
    needs_path = any(argument in ("data=file", "data=kaggle", "data=idx", "data=npz") for argument in arguments)
    if needs_path and not any(argument.startswith("data.path=") for argument in arguments):
        arguments = [*arguments, "data.path=x"]
    named = {found[1] for argument in arguments if (found := re.match(r"callbacks\.(\w+)\.", argument))}
    if named and not any(argument.startswith("callbacks=") for argument in arguments):
        arguments = [f"callbacks=[{','.join(named)}]", *arguments]
    each = [draws(override) for override in OverridesParser.create().parse_overrides(arguments)]
    for row in itertools.zip_longest(*each) if each else [()]:
        overrides = [one or first[0] for one, first in zip(row, each, strict=True)]
        swept = {first[0].partition("=")[0] for first in each if len(first) > 1}
        try:
            parse(compose("config", overrides))
        except HydraException:  # a key that only some of the swept options have
            kept = [one for one in overrides if one.partition(".")[0] not in swept]
            assert len(kept) < len(overrides)
            parse(compose("config", kept))


def printed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Parse a command line of `python -m sweeper_digits`, without doing it, and return what is printed."""
    monkeypatch.setattr(bad_input, "exit_in_one_line", lambda do: None)
    monkeypatch.setattr(sys, "argv", ["sweeper_digits", *arguments])
    with redirect_stdout(io.StringIO()) as screened:
        try:
            __main__.main()
        except SystemExit as ended:
            assert ended.code == 0, arguments
    return screened.getvalue()


def test_links_lead_to_files() -> None:
    links = [(path, target) for path in DOCUMENTS for target in re.findall(r"\]\((?!https?:)([^)#]+)", TEXT[path])]
    assert [(path.name, target) for path, target in links if not (path.parent / target).exists()] == []


def test_paths_exist(conf: Path) -> None:
    rooted = re.compile(r"(?:conf|docs|tests|benchmarks|sweeper_digits|\.ci)/[\w./]*")
    named = [name for name in INLINE if rooted.fullmatch(name) and not re.search(r"\b(NAME|GROUP|ROOM)\b", name)]
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists() and not (conf.parent / name).exists()] == []


def overrides_of(command: str) -> list[str]:
    """The overrides of a command that trains or searches; its other arguments are checked."""
    arguments = shlex.split(command, comments=True)
    if "--cfg" in arguments:
        assert "-m" not in arguments  # Hydra takes only one of them
        del arguments[arguments.index("--cfg") : arguments.index("--cfg") + 2]
    for flag in ("--config-dir", "--config-name"):
        if flag in arguments:
            del arguments[arguments.index(flag) : arguments.index(flag) + 2]
    flags = [argument for argument in arguments if argument.startswith("-")]
    assert set(flags) <= {"-m", "--help"}
    elsewhere = "hydra.searchpath="  # the reader's folders
    return [one for one in arguments if one not in flags and not one.startswith(elsewhere)]


def test_commands_and_overrides_compose(conf: Path) -> None:
    """Those of the tables of data.md are run by tests/data/test_layouts.py."""
    ran = commands(r"(?:python train\.py|sweeper-digits train|sweeper_digits train)")
    sets = {command: overrides_of(command) for command in ran}
    for text in OVERRIDES:
        launcher = "ray" if "launcher.ray" in text else "submitit_slurm"
        needed = [f"hydra/launcher={launcher}"] if "hydra.launcher." in text else []
        sets.setdefault(text, [*needed, *shlex.split(text.replace("|", ","))])
    wrong, known = {}, set()
    with initialize_config_dir(str(conf)):
        for text, overrides in sets.items():
            if tuple(overrides) not in known:
                known.add(tuple(overrides))
                try:
                    check_overrides(overrides)
                except (AssertionError, HydraException, OmegaConfBaseException) as error:
                    wrong[text] = repr(error)
    assert wrong == {} and len(known) > 50


def test_commands_on_runs_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in commands("(?:python -m sweeper_digits|sweeper-digits) +(?!train)"):
        for verb in command.split(" ")[0].split("|"):
            printed(monkeypatch, verb, *(shlex.split(command, comments=True)[1:] or ["--help"]))


def test_benchmarks_have_their_flags() -> None:
    for name, *arguments in (command.split() for command in commands(r"python benchmarks/")):
        code = (ROOT / "benchmarks" / name).read_text()
        assert [flag for flag in arguments if flag.startswith("--") and f'"{flag}"' not in code] == [], name


def test_flags_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    known = "--cfg --config-dir --config-name --help ruff format --check shtab --shell docker --build-arg "
    known += "".join(printed(monkeypatch, verb, "--help") for verb in VERBS)
    known += "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    for flag in {flag for text in INLINE for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}:
        assert re.search(rf"{flag}\b", known), flag


def test_keys_exist(conf: Path) -> None:
    with initialize_config_dir(str(conf)):
        launchers = ("submitit_slurm", "ray")
        configs = [compose("config", [f"hydra/launcher={name}"], return_hydra_config=True) for name in launchers]
    for name in {name for name in INLINE if re.fullmatch(r"\w+(\.\w+)+", name)} - {"model.keras"}:
        first, *middle, last = name.split(".")
        if first in KEYS:
            assert last in KEYS[first], name
        elif first == "hydra":
            nodes = [OmegaConf.select(config, ".".join([first, *middle])) for config in configs]
            assert any(node is not None and last in node for node in nodes), name


def test_help_names_every_runwide_key() -> None:
    texts = yaml.safe_load((ROOT / "conf" / "hydra" / "help" / "digits.yaml").read_text())
    others, sweeps = re.findall(r"^(?:Other values|Sweeps).*:\n((?:  .*\n)+)", texts["template"], re.MULTILINE)
    header = re.findall(r"(\w+)=FOLDER", texts["header"])
    runwide = {field.name for field in dataclasses.fields(Config)} - {*KEYS, "callbacks"}
    assert {line.split()[0] for line in others.splitlines()} | set(header) == runwide
    named = re.search(r"hydra\.sweeper\. +((?:.*\n?)+)", re.sub(r"\$\{.*\}", "", sweeps))
    assert named and set(named[1].split()) <= {field.name for field in dataclasses.fields(StudySweeperConf)}
