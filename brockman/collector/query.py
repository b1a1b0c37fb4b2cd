"""The query string of a request for triggers. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.exceptions import HTTPException

from brockman.collector.store.statements import LAST_ARRIVAL
from brockman.collector.store.values import Query
from brockman.collector.timestamps import parse_timestamp
from brockman.collector.validation import parse_uuid

MAX_LIMIT = 10_000
_MAX_SEARCH_CHARS = 1000
_DIGITS = re.compile(r"[0-9]{1,19}")


def parse_query(parameters: Iterable[tuple[str, str]]) -> Query:
    """Parse the query string of a URL; reject an unknown, repeated or malformed parameter with 400."""
    values = parse_parameters(parameters, _PARSERS)
    return Query(**{_FIELDS.get(name, name): value for name, value in values.items()})


def parse_parameters(
    parameters: Iterable[tuple[str, str]], parsers: Mapping[str, Callable[[str, str], Any]]
) -> dict[str, Any]:
    """Return the values of parameters by their names; reject an unknown, repeated or malformed one with 400."""
    values: dict[str, Any] = {}
    for name, text in parameters:
        if name not in parsers:
            raise HTTPException(400, f"{name[:40]!a}: unknown parameter; there are {', '.join(parsers) or 'none'}")
        if name in values:
            raise HTTPException(400, f"{name}: given twice; give it once")
        values[name] = parsers[name](name, text)
    return values


def parse_text(name: str, text: str) -> str:
    return text


def parse_search(name: str, text: str) -> str:
    if len(text) > _MAX_SEARCH_CHARS:  # SQLite has a limit for patterns
        raise HTTPException(400, f"{name}: {len(text)} characters; give at most {_MAX_SEARCH_CHARS}")
    return text


def _uuid(name: str, text: str) -> str:
    canonical = parse_uuid(text)
    if canonical is None:
        raise HTTPException(400, f"{name}: {text[:40]!a} is not a UUID")
    return canonical


def _timestamp(name: str, text: str) -> int:
    micros = parse_timestamp(text)
    if micros is None:
        raise HTTPException(
            400, f"{name}: {text[:40]!a} is not RFC 3339, as 2026-11-23T17:22:32Z (a '+' in a URL is written %2B)"
        )
    return micros


def _total(name: str, text: str) -> bool:
    if text not in ("yes", "no"):
        raise HTTPException(400, f"{name}: {text[:40]!a} is not yes or no")
    return text == "yes"


def parse_order(name: str, text: str) -> bool:
    if text not in ("oldest", "newest"):
        raise HTTPException(400, f"{name}: {text[:40]!a} is not oldest or newest")
    return text == "newest"


def parse_limit(name: str, text: str) -> int:
    limit = int(text) if _DIGITS.fullmatch(text) else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise HTTPException(400, f"{name}: {text[:40]!a} is not a whole number from 1 to {MAX_LIMIT}")
    return limit


def parse_cursor(name: str, text: str) -> int:
    arrival = int(text) if _DIGITS.fullmatch(text) else -1
    if not 0 <= arrival <= LAST_ARRIVAL:
        raise HTTPException(400, f"{name}: {text[:40]!a} is not the next of a page")
    return arrival


_PARSERS: dict[str, Callable[[str, str], str | int]] = {
    "actor_id": parse_text,
    "action": parse_text,
    "object": parse_text,
    "id": _uuid,
    "since": _timestamp,
    "until": _timestamp,
    "search": parse_search,
    "order": parse_order,
    "total": _total,
    "limit": parse_limit,
    "after": parse_cursor,
}
_FIELDS = {"order": "newest_first", "total": "count"}  # of the query, where its name is another
