"""Passwords in URLs: found before they are saved, hidden before they are shown."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from sweeper_digits.config import SHARED_STORAGE, STORAGE_KEY, STUDY_FILE
from sweeper_digits.errors import UserError

# A user's password reaches up to the last @: people forget to write /, @ and : as %2F, %40 and %3A.
USER_IN_URL = r"//[^/\s:@]*:\S*@"
# Git hosts and trackers take a token in place of a user.
USER_IN_WEB_PAGE = r"https?://[^/\s]+@"
NAMES = "pass|secret|token"
IN_A_QUERY = rf"(?<=[?&])([^=&#\s]*(?:{NAMES})[^=&#\s]*)=[^&#\s]+"
FOUND = re.compile("|".join((USER_IN_URL, USER_IN_WEB_PAGE, IN_A_QUERY)), re.IGNORECASE)


def has_password(text: str) -> bool:
    """Return whether a text has a URL with a password, or with a token."""
    return FOUND.search(text) is not None


def names_password(key: str) -> bool:
    """Return whether the value of a key in a URL's query is a password."""
    return re.search(NAMES, key, re.IGNORECASE) is not None


def without_passwords(text: str) -> str:
    """Return a text with stars for what stands before the @ of a URL, and for the passwords of a query."""
    return re.sub(IN_A_QUERY, r"\1=***", re.sub(r"//\S*@", "//***@", text), flags=re.IGNORECASE)


# Databases that Optuna's tables and this package's locks are for.
DATABASES = ("sqlite", "postgresql", "mysql", "mariadb")


def check_url(url: Any, key: str = STORAGE_KEY) -> None:
    """Raise a UserError unless a database of this URL can be shared by processes.

    Args:
        url: As a user gave it.
        key: Where it was given, for the message.
    """
    if not isinstance(url, str) or not url.strip():
        raise UserError(f"{key} is empty: unset OPTUNA_STORAGE, or give a URL, for example {SHARED_STORAGE}")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise UserError(
            f"{key}={hidden(url)}: not the URL of a database; for an SQLite file type sqlite:///FILE, for example "
            f"{SHARED_STORAGE}"
        ) from error
    kind = parsed.get_backend_name()
    if kind not in DATABASES:
        raise UserError(f"{key}={hidden(url)}: {kind} is not supported; choose from {', '.join(DATABASES)}")
    if kind == "sqlite" and (not parsed.database or ":memory:" in url or parsed.query.get("mode") == "memory"):
        raise UserError(
            f"{key}={hidden(url)}: a database in memory cannot be shared by processes; name a file, for example "
            f"{SHARED_STORAGE}"
        )


def url_of(folder: Path) -> str:
    """Return the URL of the database in the folder of a study."""
    return URL.create("sqlite", database=str(folder / STUDY_FILE)).render_as_string()


def sqlite_file(url: str) -> Path | None:
    """Return the file of an SQLite URL, or None."""
    parsed = _parsed(url)
    return Path(parsed.database) if parsed and parsed.get_backend_name() == "sqlite" and parsed.database else None


def hidden(url: str) -> str:
    """Return a URL with stars for its password."""
    parsed = _parsed(url)
    if parsed is None:
        return without_passwords(url)
    secret = {name: "hidden" for name in parsed.query if names_password(name)}
    return parsed.update_query_dict(secret).render_as_string(hide_password=True)


def without_password(text: str, url: str) -> str:
    """Return a text, for example of a driver's error, in which the URL and its password are hidden."""
    text = text.replace(url, hidden(url))
    parsed = _parsed(url)
    if parsed is None:
        return text
    secrets = [parsed.password, *(value for name, value in parsed.query.items() if names_password(name))]
    for secret in map(str, filter(None, secrets)):
        for form in {secret, quote(secret, safe=""), quote_plus(secret)}:
            # A short one is a part of other words.
            text = re.sub(re.escape(form) if len(secret) > 3 else rf"(?<!\w){re.escape(form)}(?!\w)", "***", text)
    return text


def first_line(error: BaseException, url: str) -> str:
    """Return the first line of what a driver says, without the URL's password; the error's type if it says nothing."""
    lines = str(error).splitlines() or [type(error).__name__]
    return without_password(lines[0], url)


def _parsed(url: str) -> URL | None:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        return None
