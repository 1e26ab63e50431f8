"""The arguments of a command line: which text they may be, and whether they begin a sweep."""

import sys
from pathlib import Path

from sweeper_digits.errors import UserError
from sweeper_digits.overrides import check_no_reference
from sweeper_digits.passwords import has_password

STORAGE = "hydra.sweeper.storage"


def check_text(arguments: list[str], conf: Path) -> None:
    """Refuse what is no text here: Hydra writes the arguments, the present folder and ours into files, as UTF-8."""
    for text in (*arguments, str(Path.cwd()), str(conf)):
        try:
            text.encode()
        except UnicodeEncodeError:
            encoding = sys.getfilesystemencoding()
            raise UserError(f"{text}: it is not {encoding} text; set PYTHONUTF8=1, or rename the file") from None
    check_no_reference(str(Path.cwd()))
    for text in arguments:
        key, _, value = text.partition("=")
        # A sweep never saves the password of its own database.
        if has_password(value) and not (key == STORAGE and begins_sweep(arguments)):
            hint = "put the URL into OPTUNA_STORAGE" if key == STORAGE else "see docs/own.md"
            raise UserError(f"{key}: its URL holds a password, which would be saved with the run; {hint}")


def begins_sweep(arguments: list[str]) -> bool:
    """Return whether arguments begin a sweep; Hydra takes --multi and --mul for --multirun too."""
    return any(text in ("-m", "hydra.mode=MULTIRUN") or text.startswith("--mu") for text in arguments)
