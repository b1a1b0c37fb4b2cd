"""The fields of a certificate that explain why it is refused. No I/O.

Python's `ssl` parses only certificates that it trusts, and those that it does not are the ones to explain.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

_SEQUENCE_OF_VERSION, _EXTENSIONS = 0xA0, 0xA3
_UTC_TIME = 0x17
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87
_COMMON_NAME, _ORGANIZATION = b"\x55\x04\x03", b"\x55\x04\x0a"
_SUBJECT_ALT_NAME = b"\x55\x1d\x11"


@dataclass(frozen=True)
class Certificate:
    """The fields of a certificate that explain why it is refused.

    Attributes:
        issuer: The organization and name of the authority; "" if it has none.
        names: The hosts and addresses that it is for.
        begins, ends: When it is valid.
    """

    issuer: str
    names: tuple[str, ...]
    begins: datetime
    ends: datetime


def parse_certificate(der: bytes) -> Certificate:
    """Return the fields of a certificate (RFC 5280, 4.1).

    Raises:
        ValueError: If it is not a certificate.
    """
    try:
        fields = list(_elements(_content(_content(der))))
        if fields[0][0] == _SEQUENCE_OF_VERSION:
            del fields[0]
        issuer, validity, subject = (content for _, content in fields[2:5])
        begins, ends = (_parse_time(tag, content) for tag, content in _elements(validity))
        extensions = next((content for tag, content in fields[5:] if tag == _EXTENSIONS), b"")
        names = tuple(_alternative_names(extensions)) or tuple(_texts(subject, _COMMON_NAME))
        authority = ", ".join(dict.fromkeys([*_texts(issuer, _ORGANIZATION), *_texts(issuer, _COMMON_NAME)]))
        return Certificate(authority, names, begins, ends)
    except IndexError:
        raise ValueError("not a certificate") from None


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each element of DER (X.690)."""
    place = 0
    while place < len(data):
        tag, length = data[place], data[place + 1]
        place += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[place : place + size], "big")
            place += size
        yield tag, data[place : place + length]
        place += length


def _content(data: bytes) -> bytes:
    """Return the content of the first element."""
    return next(_elements(data), (0, b""))[1]


def _texts(name: bytes, wanted: bytes) -> Iterator[str]:
    """Yield the texts of an attribute in a distinguished name."""
    for _, attributes in _elements(name):
        for _, attribute in _elements(attributes):
            (_, kind), (_, text) = list(_elements(attribute))[:2]
            if kind == wanted:
                yield text.decode("utf-8", "replace")


def _parse_time(tag: int, content: bytes) -> datetime:
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(content.decode("ascii"), form).replace(tzinfo=timezone.utc)


def _alternative_names(extensions: bytes) -> Iterator[str]:
    for _, extension in _elements(_content(extensions)):
        parts = list(_elements(extension))
        if parts[0][1] == _SUBJECT_ALT_NAME:
            for tag, content in _elements(_content(parts[-1][1])):
                if tag == _DNS_NAME:
                    yield content.decode("ascii", "replace")
                elif tag == _IP_ADDRESS:
                    yield str(ipaddress.ip_address(content))
