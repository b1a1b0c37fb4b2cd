"""Parses the times in files: ISO 8601, Unix time, and the times of access logs. No I/O."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache

from brockman.cli.source import excerpt

_ISO = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)"
    r"(?:[Tt ](\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d{1,12}))?)?)?"
    r" ?(Z|z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_LOG = re.compile(r"(\d\d?)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d)(?:[.,:](\d{1,9}))? ([+-]\d\d:?\d\d)", re.ASCII)
_UNIX = re.compile(r"(-?\d{1,20})(?:\.(\d{1,12})\d*)?", re.ASCII)
_DIGITS_OF_A_DATE = re.compile(r"(?:19|20)(?:\d{6}|\d{12})", re.ASCII)  # 20251010, 20251010135536
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_DAYS_OF_A_SPREADSHEET = range(25_569, 73_051)  # from 1970 to 2100: a cell's date as a number, without a zone
# Unix time in seconds is below the first number until the year 5138, and so on.
_MICROSECONDS_PER_UNIT = ((10**11, 1_000_000.0), (10**14, 1000.0), (10**17, 1.0), (10**20, 0.001))


def parse_time(value: object) -> datetime:
    """Return an aware datetime.

    Args:
        value: A text in ISO 8601 or as in an access log, with a time zone; or Unix time as a number or text, in
            seconds, milliseconds, microseconds or nanoseconds, which differ in magnitude.

    Raises:
        ValueError: With what is wrong and what would be right.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{excerpt(str(value))} is not a time")
    text = value.strip() if isinstance(value, str) else repr(value)
    try:
        found = _parse_unix(text) or _parse_iso(text) or _parse_log(text)
    except (ValueError, OverflowError):  # the 31st of February, a zone of 99 hours
        found = None
    if found is None:
        raise ValueError(f"{excerpt(text)} is not a time; it should look like 2025-10-10T13:55:36+02:00")
    if found.tzinfo is None:
        raise ValueError(f"{excerpt(text)} has no time zone; it should end with one: +02:00, or Z for UTC")
    return found


@lru_cache(maxsize=1024)
def parse_log_time(text: str) -> tuple[datetime, str] | None:
    """Return the time of a line of an access log, and its text in ISO 8601, or None."""
    try:
        time = parse_time(text)
    except ValueError:
        return None
    return time, time.isoformat()


def _parse_unix(text: str) -> datetime | None:
    match = _UNIX.fullmatch(text)
    if match is None or _DIGITS_OF_A_DATE.fullmatch(text):
        return None
    whole, fraction = int(match[1]), match[2]
    if whole in _DAYS_OF_A_SPREADSHEET:
        return None
    for limit, factor in _MICROSECONDS_PER_UNIT:
        if abs(whole) < limit:
            microseconds = int(whole * factor) if factor >= 1 else whole // 1000
            if fraction:
                microseconds += int(float(f"0.{fraction}") * factor + 0.5) * (-1 if text[0] == "-" else 1)
            return _EPOCH + timedelta(microseconds=microseconds)
    return None


def _parse_iso(text: str) -> datetime | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    date = int(year), int(month), int(day)
    return _combine(date, (hour or "0", minute or "0", second or "0"), fraction, zone)


def _parse_log(text: str) -> datetime | None:
    match = _LOG.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        return None
    day, month, year, hour, minute, second, fraction, zone = match.groups()
    return _combine((int(year), _MONTHS.index(month) + 1, int(day)), (hour, minute, second), fraction, zone)


def _combine(
    date: tuple[int, int, int], clock: tuple[str, str, str], fraction: str | None, zone: str | None
) -> datetime:
    if not 1 < date[0] < 9999:  # of these, `datetime` has no time in another zone
        raise ValueError(f"year {date[0]} is out of range")
    hour, minute, second = map(int, clock)
    second = 59 if second == 60 else second  # a leap second, which `datetime` rejects
    microsecond = int((fraction or "0")[:6].ljust(6, "0"))
    return datetime(*date, hour, minute, second, microsecond, tzinfo=_parse_zone(zone))


@lru_cache(maxsize=64)
def _parse_zone(text: str | None) -> timezone | None:
    if text is None:
        return None
    if text[0] not in "+-":
        return timezone.utc
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)
