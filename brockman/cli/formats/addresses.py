"""Finds the client's address in a log line: ports, proxies, IPv6. No I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

# The networks behind a proxy. Not `is_private`, which includes the addresses of documentation.
_INTERNAL = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.168.0.0/16", "::/127", "fc00::/7", "fe80::/10"),
        ),
    )
)


@lru_cache(maxsize=65536)
def parse_address(text: str) -> str | None:
    """Return an IP address in its usual spelling, or None: without port, brackets and zone.

    >>> parse_address("[2001:DB8::7%eth0]:443"), parse_address("203.0.113.7:51234"), parse_address("host")
    ('2001:db8::7', '203.0.113.7', None)
    """
    address = _parse(text)
    return None if address is None else str(address)


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if len(text) > 80 or not text:
        return None
    if text[0] == "[":
        text, _, port = text[1:].partition("]")
        is_port = not port or (port[0] == ":" and port[1:].isdigit())
    else:
        host, _, port = text.rpartition(":")
        is_port = True
        if "." in host and ":" not in host and port.isdigit():
            text = host
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if not is_port:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=65536)
def is_public(address: str) -> bool:
    parsed = _parse(address)
    return parsed is not None and not any(parsed in network for network in _INTERNAL)


def choose_client(addresses: Iterable[str]) -> str:
    """Return the first public address of a chain of proxies, or else its first, which may be a name."""
    chain = list(addresses)
    return next(filter(is_public, chain), chain[0])


def split_chain(text: str) -> list[str]:
    """Return the addresses in a list such as X-Forwarded-For; what is no address ("unknown", "-") is left out."""
    parsed = (parse_address(item.strip(' "')) for item in text[:4096].split(","))
    return [address for address in parsed if address is not None]
