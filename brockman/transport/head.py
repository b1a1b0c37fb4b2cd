"""The head of an answer, read leniently: once its status is known, nothing in its headers makes it unknown.

http.client raises for more than 100 headers and for a long line, and believes a Content-Length beside another one.
"""

from __future__ import annotations

import http.client
from typing import BinaryIO

_MAX_LINE = 64 * 1024  # bytes
_MAX_HEAD = 1024 * 1024
# All that http.client, urllib3 and the transport read; the others are skipped.
_NAMES = {
    name.lower().encode(): name
    for name in (
        *("Content-Length", "Transfer-Encoding", "Connection", "Proxy-Connection", "Keep-Alive"),
        *("Content-Type", "Content-Encoding", "Retry-After", "Date", "Location"),
    )
}


def read_line(reader: BinaryIO) -> bytes:
    """Return a line, cut to 64 KiB; without a line break at its end if it was longer or broke off.

    Raises:
        http.client.LineTooLong: When it is longer than 1 MiB.
    """
    line = rest = reader.readline(_MAX_LINE)
    for _ in range(_MAX_HEAD // _MAX_LINE):
        if len(rest) < _MAX_LINE or rest.endswith(b"\n"):
            return line
        rest = reader.readline(_MAX_LINE)
    raise http.client.LineTooLong("line")


def read_head(reader: BinaryIO) -> tuple[http.client.HTTPMessage, bool]:
    """Read the headers, and the empty line after them.

    Returns:
        Those that matter, each once; and whether the body can be read. It cannot if the connection broke, the
        headers do not end within 1 MiB, or the length of the body is not clear.
    """
    found: dict[str, list[bytes]] = {}
    is_whole = _collect(reader, found)
    lengths = {length.strip() for value in found.pop("Content-Length", ()) for length in value.split(b",")}
    if "Transfer-Encoding" not in found and lengths:
        is_whole = is_whole and len(lengths) == 1 and min(lengths).isdigit() and len(min(lengths)) < 19
        found["Content-Length"] = [*lengths]
    if not is_whole:
        found.pop("Transfer-Encoding", None)
        found |= {"Connection": [b"close"], "Content-Length": [b"1"]}  # of which nothing comes
    message = http.client.HTTPMessage()
    for name, values in found.items():
        message[name] = values[0].strip().decode("latin-1")
    return message, is_whole


def _collect(reader: BinaryIO, found: dict[str, list[bytes]]) -> bool:
    """Add the values of each header to what was found; return whether the headers ended."""
    values: list[bytes] = []  # of the header of the line before
    size = 0
    while size < _MAX_HEAD:
        try:
            line = read_line(reader)
        except (ConnectionError, http.client.LineTooLong):
            return False
        size += len(line)
        if line in (b"\r\n", b"\n"):
            return True
        if not line:
            return False
        if line[:1] in b" \t":  # the value goes on
            if values:
                values[-1] += b" " + line.strip()
            continue
        name, colon, value = line.partition(b":")
        known = _NAMES.get(name.strip().lower())
        values = found.setdefault(known, []) if known and colon and line.endswith(b"\n") else []
        values.append(value.strip().replace(b"\r", b" "))
    return False
