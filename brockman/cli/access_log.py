r"""Parses a web server's access log in common or combined format: each line is a trigger. No I/O.

    203.0.113.7 - ada [10/Oct/2025:13:55:36 +0200] "GET /blog?page=2 HTTP/1.1" 200 2326 "https://..." "Mozilla/5.0"

Every pattern matches in linear time, whatever the line: no two of its parts can match the same text.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache

from brockman.cli.source import Arguments, BadLine, excerpt

_QUOTED = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
LINE = re.compile(
    r"(\S+) \S+ ([^\[]+) \[([^\]]{1,40})\] " + _QUOTED + r" (\d{3}) (\d{1,18}|-)"
    # Fields after the user agent are ignored: many servers are configured to append some.
    r"(?: " + _QUOTED + " " + _QUOTED + r"(?: .*)?)?\s*",
    re.ASCII,
)
_REQUEST = re.compile(r"([A-Za-z][A-Za-z_-]{0,31}) (.*[^ ]) HTTP/\d(?:\.\d)?", re.ASCII)
_TIME = re.compile(r"(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_CONTROLS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def parse(line: str) -> Arguments | BadLine:
    match = LINE.fullmatch(line)
    if match is None:
        return BadLine(f"not a line of a common or combined log: {excerpt(line)}")
    address, user, when, request, status, size, referer, agent = match.groups()
    requested = _REQUEST.fullmatch(unescape(request))
    if requested is None:
        return BadLine(f"not a request: {excerpt(request)}")
    time = parse_time(when)
    if time is None:
        return BadLine(f"not a time: {excerpt(when)}")
    path, separator, query = requested[2].partition("?")
    # The common format has "-" for no bytes.
    variables = {"time": time, "status": int(status), "bytes": 0 if size == "-" else int(size)}
    if separator and query:
        variables["query"] = query
    if referer and referer != "-":
        variables["referer"] = unescape(referer)
    if agent and agent != "-":
        variables["user_agent"] = unescape(agent)
    identities = None if user == "-" else {"user": unescape(user)}
    return Arguments(address, requested[1], path, identities, None, variables)


@lru_cache(maxsize=1024)
def parse_time(text: str) -> str | None:
    """Return `10/Oct/2025:13:55:36 +0200` as ISO 8601, or None if it is not a time."""
    match = _TIME.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        return None
    day, hour, minute, second = (int(match[group]) for group in (1, 4, 5, 6))
    offset = timedelta(hours=int(match[8]), minutes=int(match[9])) * (-1 if match[7] == "-" else 1)
    try:
        zone = timezone(offset)
        second = 59 if second == 60 else second  # a leap second, which `datetime` rejects
        month = _MONTHS.index(match[2]) + 1
        return datetime(int(match[3]), month, day, hour, minute, second, tzinfo=zone).isoformat()
    except ValueError:
        return None


def unescape(text: str) -> str:
    r"""Undo the escapes of servers: `\"`, `\\`, `\x22`, `\n`."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(_unescape_one, text.encode()).decode("utf-8", "replace")


def _unescape_one(match: re.Match[bytes]) -> bytes:
    digits, character = match.groups()
    return bytes.fromhex(digits.decode()) if digits else _CONTROLS.get(character, character)
