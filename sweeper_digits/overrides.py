"""Overrides as text: those that a user types, and those that are made of values from elsewhere.

One rule: a value from a run folder, a database, a file of points or the name of a folder is a plain value of a known
key. It is never interpolated, it starts no callback, and it is printed without control characters. Only what the user
types in this command may do more. Such values enter Hydra by `override_text` and `escaped`, and leave a saved config by
`plain`.
"""

import contextlib
import re
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf

from sweeper_digits.errors import UserError

SIMPLE = re.compile(r"[A-Za-z_./-][\w./:+@%-]*", re.ASCII)
# Words that Hydra's command line does not read as strings.
WORDS = {"null", "true", "false", "nan", "inf", "-nan", "-inf"}
# The forms of a key, and of an option's name.
KEY = re.compile(r"[A-Za-z_]\w*", re.ASCII)
OPTION = re.compile(r"\w[\w./-]*")
# Keys whose values are names, also where they look like numbers.
NAMES = ("study", "hydra.sweeper.study_name")
# Keys whose values can be paths of what is there, and paths of folders that are made.
PATHS = ("data.path", "resume", "from_run", "search.from_sweep", "search.points")
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")

# In OmegaConf, `${` begins an interpolation unless an odd number of backslashes stands before it.
OPENING = re.compile(r"(\\*)\$\{")
REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}", re.ASCII)
MOST_REFERENCES = 8  # from one to the next


def override_key(override: str) -> str:
    """Return the key that an override sets, adds or deletes: of `+seed=1` it is `seed`."""
    return override.lstrip("+~").partition("=")[0]


def override_keys(override: str) -> list[str]:
    """Return the keys that an override sets: of `optimizer={learning_rate: 0.1}` it is `optimizer.learning_rate`."""
    key, _, written = override.lstrip("+~").partition("=")
    # Only then: a text that is no override, for example a flag, has the key that it seems to have.
    values = OverridesParser.create().parse_override(override).value() if written.lstrip().startswith("{") else None
    found, nested = [], [(key, values)]
    for name, value in nested:  # it grows
        if isinstance(value, dict):
            nested += [(f"{name}.{inner}", one) for inner, one in value.items()]
        else:
            found.append(name)
    return found


def override_text(value: Any) -> str:
    """Write a value as Hydra's command line takes it; `${` in it stays text.

    Raises:
        UserError: A mapping with a key that no option has.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(override_text(item) for item in value)}]"
    if isinstance(value, dict):
        for key in value:
            if not KEY.fullmatch(str(key)):
                raise UserError(f"{str(key)[:80]!r}: not the name of a key")
        return f"{{{','.join(f'{key}:{override_text(item)}' for key, item in value.items())}}}"
    text = str(value)
    if SIMPLE.fullmatch(text) and text.lower() not in WORDS:
        return text
    return QuotedString(escaped(text), Quote.single).with_quotes()


def check_no_reference(folder: str) -> None:
    """Refuse a folder with `${` in its path: Hydra keeps paths in its config, and would take that for a reference."""
    if "${" in folder:
        raise UserError(f"{folder}: Hydra takes ${{ in the path of a folder for a reference; rename the folder")


def escaped(value: Any) -> Any:
    """Return a plain value, with all that is in it, as OmegaConf gives it back unchanged."""
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    return OPENING.sub(lambda found: rf"{found[1] * 2}\${{", value) if isinstance(value, str) else value


def plain(saved: Any) -> tuple[Any, set[str]]:
    """Return a config that Hydra saved, read as YAML, as plain values, and the keys of those that are none.

    A reference to another key of the config, `${seed}`, is followed. Another interpolation, for example
    `${oc.env:HOME}`, stays the text that it is; its key is among the returned ones.
    """
    unknown = set()

    def read(node: Any, name: str) -> Any:
        if isinstance(node, dict):
            return {key: read(value, f"{name}.{key}".lstrip(".")) for key, value in node.items()}
        if isinstance(node, list):
            return [read(item, name) for item in node]
        value = _followed(node, saved)
        if not isinstance(value, str):
            return value
        if any(len(found[1]) % 2 == 0 for found in OPENING.finditer(value)):
            unknown.add(name)
            return node
        return OPENING.sub(lambda found: f"{found[1][: len(found[1]) // 2]}${{", value)

    return read(saved, ""), unknown


def _followed(node: Any, saved: Any) -> Any:
    """Return the single value that a reference stands for; what is no such reference, as it is."""
    value = node
    for _ in range(MOST_REFERENCES):
        found = REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            return value
        value = saved
        for key in found[1].split("."):
            value = value.get(key, node) if isinstance(value, dict) else node
        if isinstance(value, dict | list):
            return node
    return node


def typed_value(argument: str) -> Any:
    """Return the value of an argument that the user typed, its interpolations followed; of a sweep, its text."""
    override = OverridesParser.create().parse_override(argument)
    if override.is_delete() or override.is_sweep_override() or override.is_list_extend():
        return argument.partition("=")[2]
    return OmegaConf.to_container(OmegaConf.create({"value": override.value()}), resolve=True)["value"]  # type: ignore[index, call-overload]


def as_typed(argument: str) -> str:
    """Quote a name that Hydra would read as a number or a word, and a path that its grammar refuses.

    Of `study=1e3` it would make 1000.0; `data.path=digits (1).zip` it would not read at all. A path that is there is
    text; in the path of a folder that is to be made, the user's interpolations are kept.
    """
    key, _, value = argument.partition("=")
    name = key.lstrip("+")
    if name in PATHS and value and _exists(value):
        return f"{key}={override_text(value)}"
    is_name = name in NAMES and re.fullmatch(r"[\w.+-]+", value, re.ASCII)
    if not (is_name or (name in FOLDERS and value)) or _is_text(argument):
        return argument
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def _exists(path: str) -> bool:
    with contextlib.suppress(OSError, RuntimeError):  # a name that is too long, a `~user` that is not there
        return Path(path).expanduser().exists()
    return False


def _is_text(argument: str) -> bool:
    try:
        return isinstance(OverridesParser.create().parse_override(argument).value(), str)
    except HydraException:
        return False
