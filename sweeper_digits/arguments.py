"""One argument of a command line: which text it may be, and how Hydra takes a name or a path as it was typed."""

import re
import sys
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from sweeper_digits.errors import UserError
from sweeper_digits.passwords import has_password

STORAGE = "hydra.sweeper.storage"
# Keys whose values are names, also where they look like numbers.
NAMES = ("study", "hydra.sweeper.study_name")


def check_text(arguments: list[str], conf: Path) -> None:
    """Refuse what is no text here: Hydra writes the arguments, the present folder and ours into files, as UTF-8."""
    for text in (*arguments, str(Path.cwd()), str(conf)):
        try:
            text.encode()
        except UnicodeEncodeError:
            encoding = sys.getfilesystemencoding()
            raise UserError(f"{text}: it is not {encoding} text; set PYTHONUTF8=1, or rename the file") from None
    for text in arguments:
        key, _, value = text.partition("=")
        # A sweep never saves the password of its own database.
        if has_password(value) and not (key == STORAGE and begins_sweep(arguments)):
            hint = "put the URL into OPTUNA_STORAGE" if key == STORAGE else "see docs/own.md"
            raise UserError(f"{key}: its URL holds a password, which would be saved with the run; {hint}")


def begins_sweep(arguments: list[str]) -> bool:
    """Return whether arguments begin a sweep; Hydra takes --multi and --mul for --multirun too."""
    return any(text in ("-m", "hydra.mode=MULTIRUN") or text.startswith("--mu") for text in arguments)


def as_typed(argument: str) -> str:
    """Quote a name that Hydra would read as a number or a word, and the path of a file that its grammar refuses.

    Of `study=1e3` it would make 1000.0; `data.path=digits (1).zip` it would not read at all.
    """
    key, _, value = argument.partition("=")
    if key.lstrip("+") == "data.path" and value and Path(value).expanduser().exists():
        from sweeper_digits.runs.recipe import override_text

        return f"{key}={override_text(value)}"
    if key not in NAMES or not re.fullmatch(r"[\w.+-]+", value, re.ASCII):
        return argument
    return (
        argument if isinstance(OverridesParser.create().parse_override(argument).value(), str) else f"{key}='{value}'"
    )
