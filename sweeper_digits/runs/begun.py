"""The config, code and versions that a run was begun with. It keeps them from the first moment, and goes on with them.

The saved config alone would not do: it may refer to the environment, and it names functions whose code can change.
"""

import contextlib
import hashlib
import inspect
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sweeper_digits import components
from sweeper_digits.components import Component
from sweeper_digits.config import INCIDENTAL, Config
from sweeper_digits.errors import UserError
from sweeper_digits.overrides import override_key, override_text
from sweeper_digits.quiet import chosen_backend
from sweeper_digits.runs.folder import RunFolder, check_file, replacing
from sweeper_digits.runs.record import flatten, saved_config
from sweeper_digits.text import printable

# What stands before the hash of a value that is not written itself.
HIDDEN = "sha256:"
# Groups whose options are registered components.
USED = ("data", "model", "optimizer", "schedule", "augmentation")


class Begun(NamedTuple):
    """What the numbers of a run depend on beside its data.

    Attributes:
        settings: The config, flat, without what changes no number.
        callbacks: Those that may change the training, each with its values.
        code: File of registered components -> its hash.
        used: The files of `code` that the run uses.
        backend: Of Keras.
        precision: What it computes in.
        versions: Of packages.
    """

    settings: dict[str, Any]
    callbacks: dict[str, Any]
    code: dict[str, str]
    used: list[str]
    backend: str
    precision: str = ""
    versions: dict[str, str] = {}  # noqa: RUF012 - never changed

    @classmethod
    def now(cls, config: Config, precision: str = "", versions: dict[str, str] | None = None) -> "Begun":
        """Return what a run of a config would be begun with in this process, as JSON would give it back."""
        whole = config.plain()
        changing = {
            name: values
            for name, values in whole.pop("callbacks").items()
            if not components.find("callbacks", values).watches
        }
        # The objective chooses the best epoch. The data may have moved.
        kept = {key: value for key, value in whole.items() if key == "objective" or key not in INCIDENTAL}
        settings = {key: value for key, value in flatten(kept) if key != "data.path"}
        used = sorted(_texts(_used(config)))
        begun = cls(settings, changing, _code(), used, chosen_backend(), precision, versions or {})
        return cls(**json.loads(json.dumps(begun._asdict(), default=str)))  # an Enum as text


def save(begun: Begun, run: RunFolder) -> None:
    """Write what a run is begun with beside Hydra's own files, if they are there.

    A value that the environment gave may be a secret: only its hash is written.
    """
    if run.begun.parent.is_dir():
        _, secret = saved_config(run.folder)
        settings = {key: _hidden(value) if key in secret else value for key, value in begun.settings.items()}
        callbacks = {
            name: {key: _hidden(value) if f"callbacks.{name}.{key}" in secret else value for key, value in one.items()}
            for name, one in begun.callbacks.items()
        }
        begun = begun._replace(settings=settings, callbacks=callbacks)
        with replacing(run.begun) as temporary:
            temporary.write_text(json.dumps(begun._asdict(), indent=1) + "\n", encoding="utf-8")


def code_of(begun: Begun) -> str | None:
    """Return a short hash of the code of registered components that a run uses; None if it uses none."""
    codes = json.dumps(sorted(begun.code[name] for name in begun.used))
    return hashlib.sha256(codes.encode()).hexdigest()[:10] if begun.used else None


def _hidden(value: Any) -> str:
    return HIDDEN + hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _as_kept(now: Any, kept: Any) -> Any:
    """Return a value of this process as it was kept with the run: as a hash, if that was."""
    if isinstance(kept, dict) and isinstance(now, dict):
        return {key: _as_kept(value, kept.get(key)) for key, value in now.items()}
    return _hidden(now) if isinstance(kept, str) and kept.startswith(HIDDEN) else now


def read(run: RunFolder) -> Begun | None:
    """Return what a run was begun with; None if it did not keep it.

    Raises:
        UserError: The file is damaged.
    """
    check_file(run.begun)
    if not run.begun.exists():
        return None
    try:
        found = Begun(**json.loads(run.begun.read_text(encoding="utf-8")))
        for value, like in zip(found, Begun({}, {}, {}, [], ""), strict=True):
            if not isinstance(value, type(like)):
                raise TypeError(f"{str(value)[:80]} is unexpected")
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{run.begun}: not readable ({printable(str(error))})") from error
    return found


def check_same(run: RunFolder, now: Begun) -> Begun | None:
    """Return what a run that goes on was begun with; None if it did not keep it.

    Raises:
        UserError: It was begun with something else, so that its numbers would be those of no uninterrupted run.
    """
    if (begun := read(run)) is None:
        return None
    now = now._replace(
        **{name: _as_kept(getattr(now, name), getattr(begun, name)) for name in ("settings", "callbacks")}
    )
    where, otherwise = f"resume={run.folder}", f"or begin another run with from_run={run.folder}"
    for key in sorted(begun.settings.keys() & now.settings.keys()):  # another version of the program has other keys
        was, given = (override_text(settings[key]) for settings in (begun.settings, now.settings))
        if was != given:
            raise UserError(
                f"{where}: this run was begun without {key}={given}, with {was}, and goes on as it was begun; leave it "
                f"out, {otherwise}"
            )
    if begun.callbacks != now.callbacks:
        was = printable(shlex.join(as_options(begun.callbacks))) or "no such callback"
        raise UserError(
            f"{where}: this run was begun with {was}, and a callback may change the training; no run folder starts "
            f"one: type the same beside resume=, {otherwise}"
        )
    if begun.backend != now.backend:
        raise UserError(
            f"{where}: this run was begun with KERAS_BACKEND={begun.backend}, and here it is {now.backend}; set it "
            f"as it was, {otherwise}"
        )
    if changed := changed_code(begun, now):
        raise UserError(
            f"{where}: {', '.join(changed)} changed since this run was begun, and the run uses it; put the earlier "
            f"code back, {otherwise}"
        )
    return begun


def changed_code(begun: Begun, now: Begun, used: bool = True) -> list[str]:
    """Return the names of the files of registered components that are not what they were; a file may have moved.

    Args:
        begun: What the run was begun with.
        now: What it would be begun with.
        used: Whether the files are those that the run uses, or the others.
    """
    before = {Path(file).name for file in begun.code if (file in begun.used) == used}
    changed = {Path(file).name for file, code in now.code.items() if code not in begun.code.values()}
    return sorted(changed & before)  # others were not imported then, or are not yet


def notes(begun: Begun | None, now: Begun) -> list[str]:
    """Return the lines on versions and code that changed since a run was begun that goes on."""
    if begun is None:
        return []
    lines = [
        f"begun with {name} {begun.versions[name]}, goes on with {now.versions[name]}: an uninterrupted run may have "
        "other numbers"
        for name in begun.versions.keys() & now.versions.keys()
        if begun.versions[name] != now.versions[name]
    ]
    if changed := changed_code(begun, now, used=False):
        lines.append(f"{', '.join(changed)} changed since this run was begun, which uses nothing of it")
    return lines


def not_started(folder: str, typed: list[str]) -> list[str]:
    """Return a line on the callbacks of the run in a folder; nothing if it has none or the user typed which start."""
    saved = saved_config(Path(folder))[0].get("callbacks") or {}
    if not isinstance(saved, dict | list) or "callbacks" in map(override_key, typed):
        return []
    callbacks = {str(name): saved[name] if isinstance(saved, dict) else {} for name in saved}
    shown = printable(shlex.join(as_options(callbacks)))
    return [f"note       without {shown}: a run folder starts no callback; type that too to have it"] if saved else []


def as_options(callbacks: dict[str, Any]) -> list[str]:
    """Return callbacks, with their values that are not the defaults, as overrides."""
    known = components.options_of("callbacks")
    words = [f"callbacks=[{','.join(callbacks)}]"]
    for name, values in callbacks.items():
        if not isinstance(values, dict):
            continue
        defaults = (known[name].node if name in known else {}) | {"_target_": values.get("_target_")}
        for key, value in values.items():
            if value != defaults.get(key, values):
                words.append(f"callbacks.{name}.{key}={override_text(value)}")
    return words if callbacks else []


def _used(config: Config) -> list[Component]:
    """Return the registered components that change the numbers of a run."""
    options = [(group, vars(getattr(config, group))) for group in USED]
    used = [components.find(group, option) for group, option in options]
    used += [component for component in components.registered("objective") if component.name in config.objective]
    callbacks = [components.find("callbacks", vars(one)) for one in config.callbacks.values()]
    return used + [component for component in callbacks if not component.watches]


def _texts(named: Iterable[Component]) -> dict[str, bytes]:
    """Return the content of each file that registered components, and the text of each component that was typed in."""
    named = list(named)
    texts = {file: Path(file).read_bytes() for file in sorted(components.files_of_others(named))}
    for component in named:
        if components.is_typed(component):
            with contextlib.suppress(OSError, TypeError):  # a text that Python has not kept
                texts[component.name] = inspect.getsource(component.make).encode()
    return texts


def _code() -> dict[str, str]:
    return {name: hashlib.sha256(text).hexdigest() for name, text in _texts(components.registered()).items()}
