"""Passwords in URLs: found before they are saved, hidden before they are shown."""

import re

# A user's password reaches up to the last @: people forget to write /, @ and : as %2F, %40 and %3A.
OF_A_USER = r"//[^/\s:@]*:\S*@"
# Git hosts and trackers take a token in place of a user.
OF_A_WEB_PAGE = r"https?://[^/\s]+@"
NAMES = "pass|secret|token"
IN_A_QUERY = rf"(?<=[?&])([^=&#\s]*(?:{NAMES})[^=&#\s]*)=[^&#\s]+"
FOUND = re.compile("|".join((OF_A_USER, OF_A_WEB_PAGE, IN_A_QUERY)), re.IGNORECASE)


def has_password(text: str) -> bool:
    """Return whether a text has a URL with a password, or with a token."""
    return FOUND.search(text) is not None


def names_password(key: str) -> bool:
    """Return whether the value of a key in a URL's query is a password."""
    return re.search(NAMES, key, re.IGNORECASE) is not None


def without_passwords(text: str) -> str:
    """Return a text with stars for what stands before the @ of a URL, and for the passwords of a query."""
    return re.sub(IN_A_QUERY, r"\1=***", re.sub(r"//\S*@", "//***@", text), flags=re.IGNORECASE)
