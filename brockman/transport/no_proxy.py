"""NO_PROXY as curl and Go read it; `requests` knows neither `*.corp` nor IPv6 networks."""

from __future__ import annotations

import ipaddress
import os
import re
from contextlib import suppress
from urllib.parse import urlsplit


def is_excepted(url: str) -> bool:
    """Return whether the environment's NO_PROXY names the host of a URL, or its network or domain.

    An entry is a name, which includes its subdomains, `.name` or `*.name`, an address, a network such as
    `10.0.0.0/8`, any of the former with a port, or `*`.
    """
    parts = urlsplit(url)
    host, port = (parts.hostname or "").rstrip("."), parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    entries = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return any(_matches(entry, host, port) for entry in re.split(r"[,\s]+", entries.lower()) if entry)


def _matches(entry: str, host: str, port: int | None) -> bool:
    entry = entry.rstrip(".")  # of a fully qualified name; the host has none either
    with suppress(ValueError):  # neither is an address: names are compared
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit():
        return int(wanted) == port and _matches(name, host, port)
    if entry.startswith("*."):
        return host.endswith(entry[1:])
    name = entry.lstrip(".")
    return entry == "*" or (bool(name) and f".{host}".endswith(f".{name}"))
