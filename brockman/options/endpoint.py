"""The URL of the API: the check, and how a message shows a wrong one. No I/O: no name is looked up."""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from brockman.options.fields import show

DEFAULT_ENDPOINT = "https://api.focuslab.io/api/v1/"
_LONGEST_HOST = 253  # bytes, as in the DNS
_AUTHORITY = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>[0-9]*))?")
_PART = r"[A-Za-z0-9_\u0080-\U0010ffff-]{1,63}"  # of a name
_NAME = re.compile(rf"{_PART}(?:\.{_PART})*\.?")
_NUMBERS = re.compile(r"[0-9.]+")
# A wrong endpoint that may be shown: it begins as a URL does, or is a host without a scheme. Others may be a key.
_LABEL = "[A-Za-z0-9_-]{1,20}"
_HOST = rf"(?:localhost|{_LABEL}(?:\.{_LABEL})*\.(?:[A-Za-z]{{2,20}}|[0-9]{{1,3}}))"
_MAY_BE_SHOWN = re.compile(
    rf"|https?:.*|(?:[a-z][a-z0-9+.-]*:)?//.*|{_HOST}(?::[0-9]*)?(?:[/?#].*)?", re.DOTALL | re.IGNORECASE
)
_START = re.compile(r"\s*(?:[A-Za-z0-9+.-]*:)?/*")
_LONGEST_NUMBER = 4  # characters; longer ones may be a key
_PARAMETER = re.compile(r"[A-Za-z_-]{1,30}=(?=[^=])")


def check_endpoint(value: Any) -> str:
    """Return the URL with a slash at its end.

    Raises:
        ValueError: With what would be right, for every URL that could not be used.
    """
    url = _as_text(value)
    if url is None or not _is_usable(url):
        raise ValueError(f"a URL such as {DEFAULT_ENDPOINT}, without user, query or fragment")
    return url if url.endswith("/") else url + "/"


def _as_text(value: Any) -> str | None:
    """Return a str without the methods of a subclass; None for other types. Runs no foreign code."""
    return str.__str__(value) if issubclass(type(value), str) else None


def _is_usable(url: str) -> bool:
    if not url.isprintable() or any(character in url for character in " ?#"):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    found = _AUTHORITY.fullmatch(parts.netloc)
    if parts.scheme not in ("http", "https") or found is None or "@" in parts.netloc:
        return False
    if found["port"] == "" and parts.path.startswith("//"):  # two schemes: https://https://host/
        return False
    port = (found["port"] or "443").lstrip("0")
    is_port = 0 < len(port) <= 5 and int(port) <= 65535
    return is_port and (_is_name(found["name"]) if found["name"] else _is_ipv6(found["address"]))


def _is_name(name: str) -> bool:
    """Return whether a host can be looked up. `requests`, which encodes it, refuses some that are not ASCII."""
    if len(name.removesuffix(".")) > _LONGEST_HOST or not _NAME.fullmatch(name):
        return False
    return not _NUMBERS.fullmatch(name) or _is_ipv4(name)


def _is_ipv4(name: str) -> bool:
    """Return whether numbers are an IPv4 address; 127.1 is one too."""
    if name.endswith("."):
        return False
    *first, last = map(int, name.split("."))
    return len(first) < 4 and all(part < 256 for part in first) and last < 256 ** (4 - len(first))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text.replace("%25", "%", 1))  # before a zone, as in RFC 6874
    except ValueError:
        return False
    return True


def show_endpoint(value: Any) -> str:
    """Return a wrong endpoint for a message: without password, values of the query, and what may be a key."""
    is_bytes = type(value) is bytes
    text = value.decode("latin-1") if is_bytes else _as_text(value)
    if text is None:
        shown = show(value)
        return shown if len(shown) <= _LONGEST_NUMBER else f"a value of type {type(value).__name__}"
    if not _MAY_BE_SHOWN.fullmatch(text.strip()):
        return "not shown, since it may be a key"
    head, *tail = re.split("([?#&;])", text)
    start = text[: len(text) - len(_START.sub("", text, 1))]
    shown = head + "".join(_show_parameter(part) for part in tail)
    if any("@" in part for part in tail):  # of a password with a question mark, perhaps
        shown = f"{start}..."
    elif "@" in head:
        shown = f"{start}...{shown[shown.rindex('@') :]}"
    return show(shown.encode("latin-1") if is_bytes else shown)


def _show_parameter(part: str) -> str:
    if part in ("", "?", "#", "&", ";"):
        return part
    name = _PARAMETER.match(part)
    return f"{name[0] if name else ''}..."
