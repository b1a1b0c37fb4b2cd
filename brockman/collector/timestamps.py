"""Timestamps: RFC 3339 on the wire, whole microseconds since 1970 (UTC) in the store. No I/O."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1)
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)
_FIRST, _LAST = ((moment - _EPOCH) // _MICROSECOND for moment in (datetime.min, datetime.max))
_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)", re.ASCII)
_REST = re.compile(r"(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII)
_SECONDS_CHARS = len("2026-11-23T17:22:32")


def parse_timestamp(text: str) -> int | None:
    """Return microseconds since 1970 (UTC), or None when the text is not RFC 3339.

    Digits beyond the microsecond are cut off. A leap second counts as the second after it.
    """
    seconds = _seconds(text[:_SECONDS_CHARS])
    if seconds is None:
        return None
    rest = text[_SECONDS_CHARS:]
    if len(rest) == 8 and rest[0] == "." and rest[7] == "Z" and rest.isascii() and rest[1:7].isdigit():
        return seconds * 1_000_000 + int(rest[1:7])  # the form that brockman sends
    match = _REST.fullmatch(rest)
    if match is None:
        return None
    fraction, sign, hours, minutes = match.groups()
    if sign is not None:
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds += -offset if sign == "+" else offset
    return seconds * 1_000_000 + (int(fraction[:6].ljust(6, "0")) if fraction else 0)


@lru_cache(maxsize=1024)  # the triggers of one request share a few seconds
def _seconds(text: str) -> int | None:
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    date, time = match.groups()
    leap = time.endswith(":60")
    try:
        moment = datetime.fromisoformat(f"{date}T{time[:6]}59" if leap else f"{date}T{time}")
    except ValueError:  # February 30
        return None
    return (moment - _EPOCH) // _SECOND + leap


def format_timestamp(micros: int) -> str:
    """Return RFC 3339 in UTC with microseconds, e.g. `2026-11-23T17:22:32.123456Z`.

    An offset may move a moment out of the years 1 to 9999: then the first or the last one is returned.
    """
    moment = _EPOCH + max(_FIRST, min(micros, _LAST)) * _MICROSECOND
    return moment.isoformat(timespec="microseconds") + "Z"
