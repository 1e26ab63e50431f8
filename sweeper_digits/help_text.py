"""What `python train.py --help` takes from conf/ and from what is registered."""

import shlex
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, get_args, get_origin

from omegaconf import MISSING, DictConfig, OmegaConf

from sweeper_digits import components, config, program
from sweeper_digits.components import Component, keys_of
from sweeper_digits.text import interval_text

WIDTH = 80
GROUPS = (*config.GROUPS, "search", "experiment")
# Options that are most used, first.
FIRST = ("mnist_5k", "file", "kaggle")
INDENT = " " * 6


def install() -> None:
    """Let the template in conf/hydra/help name what this module writes."""
    writers: dict[str, Callable[..., str]] = {
        "groups": groups,
        "keys": keys,
        "objectives": objectives,
        "chosen": chosen,
        "train": lambda: program.command("train"),
        "example": example,
        "verbs": lambda: " ".join(program.name()),
    }
    for name, write in writers.items():
        OmegaConf.register_resolver(f"sweeper_digits.{name}", write, replace=True)


def example() -> str:
    """Return what an example begins with: how to train, without the folder of a script, which may be long."""
    return shlex.join(Path(word).name for word in shlex.split(program.command("train")))


def groups(*, _root_: DictConfig) -> str:
    found = ((group, _options(group, _root_)) for group in GROUPS)
    return "\n".join(_line(group, " ".join(options)) for group, options in found if options)


def keys() -> str:
    """Return a line for each config group, with the keys that its options have."""
    lines = []
    for group in GROUPS:
        found = [key for component in components.options_of(group).values() for key in component.keys]
        found += keys_of(config.Search) if group == "search" else ()
        if found and group != "callbacks":
            lines.append(_line(group, " ".join(dict.fromkeys(found))))
    return "\n".join(lines)


def objectives() -> str:
    return textwrap.fill(
        " ".join(config.objectives()), WIDTH, initial_indent=" " * 18, subsequent_indent=" " * 18
    ).strip()


def chosen(*, _root_: DictConfig) -> str:
    """Return what the options mean that the command chooses, with all their keys."""
    given = [text.partition("=")[0] for text in _root_.hydra.overrides.task]
    nodes = [_root_[group] for group in GROUPS if group in given and group in _root_]
    if "callbacks" in given:
        nodes += list(_root_.callbacks.values())
    described = {
        target: component
        for node in nodes
        if OmegaConf.is_dict(node) and (target := node.get("_target_"))
        for component in components.registered()
        if component.target == target
    }
    return "".join(f"\n\n{_described(component)}" for component in described.values())


def _described(component: Component) -> str:
    where = "" if component.own else f", {component.where}"
    lines = [
        f"{component.kind} {component.name}{where}:",
        *textwrap.wrap(component.summary, WIDTH, initial_indent="  ", subsequent_indent="  "),
    ]
    for key, (hint, default) in component.keys.items():
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        kind = bare.__name__ if isinstance(bare, type) else str(bare).replace("typing.", "")
        limits = f" in {found}" if (found := interval_text(hint)) else ""
        given = "" if default is MISSING else f" = {default}"
        lines += textwrap.wrap(f"{component.prefix}{key}: {kind}{limits}{given}", WIDTH, initial_indent="  ")
        lines += textwrap.wrap(component.meanings.get(key, ""), WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    return "\n".join(lines)


def _options(group: str, root: DictConfig) -> list[str]:
    found = set(components.options_of(group))
    for source in root.hydra.runtime.config_sources:
        if source.schema == "file":
            found |= {file.stem for file in (Path(source.path) / group).glob("*.yaml")}
    first = [root.hydra.runtime.choices.get(group), *FIRST]
    return sorted(found, key=lambda name: (first.index(name) if name in first else len(first), name))


def _line(group: str, text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=f"  {group:12s}  ", subsequent_indent=" " * 16)
