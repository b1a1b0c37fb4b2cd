"""Where a store is: the path of a SQLite file, or the URL of a PostgreSQL database. No I/O.

A URL may have a password. Only `postgresql.py` passes it on, to libpq.
"""

from __future__ import annotations

import os
import re

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_POSTGRESQL = re.compile(r"postgres(ql)?://")
# Greedy: a password with an unescaped `@` or `/` is cut out as a whole.
_CREDENTIALS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^:@/?]*):.*@", re.DOTALL)
# Behind the host and a colon, no port: perhaps a password whose host was forgotten.
_NO_PORT = re.compile(r"(?P<host>[^:]+://(?:[^@/?]*@|(?![^@/?]*@))[^:@/?\[]*):(?![0-9]*(?:[/?,]|\Z)).*", re.DOTALL)
_AT_IN_PATH = re.compile(r"[^:]*://[^/?]*/[^?]*@", re.DOTALL)


def is_url(location: str | os.PathLike[str]) -> bool:
    return isinstance(location, str) and _URL.match(location) is not None


def is_postgresql(location: str | os.PathLike[str]) -> bool:
    return isinstance(location, str) and _POSTGRESQL.match(location) is not None


def has_password(location: str | os.PathLike[str]) -> bool:
    """Return whether a URL has a password in it."""
    return is_url(location) and without_password(location) != location


def is_ambiguous(url: str) -> bool:
    """Return whether libpq may take a part of a password for a port or a database, and show it in an error."""
    return _NO_PORT.match(url) is not None or _AT_IN_PATH.match(url) is not None


def without_password(location: str | os.PathLike[str]) -> str:
    """Return the absolute path of a file, or a URL without a password."""
    if not is_url(location):
        return os.path.abspath(location)
    shown = _CREDENTIALS.sub(r"\g<scheme>\g<user>@", os.fspath(location), count=1)
    shown = _NO_PORT.sub(r"\g<host>", shown, count=1)
    address, _, parameters = shown.partition("?")
    return address if "password" in parameters.lower() or "%" in parameters else shown
