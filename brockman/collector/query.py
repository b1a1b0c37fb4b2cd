"""What can be asked of the store, and what it answers. The parameters of `GET trigger/` are checked here. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from brockman.collector.errors import Refusal
from brockman.collector.timestamps import parse_instant
from brockman.collector.validation import parse_uuid

MAX_LIMIT = 10_000
_LAST_ARRIVAL = 2**63 - 1
_DIGITS = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Query:
    """One question to the store. A filter that is None lets everything pass; all filters must hold."""

    actor_id: str | None = None
    action: str | None = None
    object: str | None = None
    id: str | None = None
    since: int | None = None  # microseconds since 1970; recorded then or later
    until: int | None = None  # microseconds since 1970; recorded before
    limit: int = 100
    after: int = 0  # arrival number of the last trigger already seen


@dataclass(frozen=True, slots=True)
class Page:
    """Triggers in the order of their arrival."""

    bodies: list[str]  # the JSON text of each
    total: int  # how many pass the filters, on all pages
    next: int | None  # the `after` of the next page; None when this is the last


@dataclass(frozen=True, slots=True)
class Tally:
    """What a store has seen since its file was made."""

    triggers: int  # stored, each once
    duplicates: int  # dropped: a trigger of that id was stored already
    rejected: int  # refused, in requests that were answered with a verdict for each
    requests: int  # answered with 201 or 207


def parse_query(parameters: Iterable[tuple[str, str]]) -> Query:
    """Return the question that the parameters of a URL ask.

    Raises:
        Refusal: Naming the parameter that is unknown, given twice, or malformed.
    """
    values: dict[str, str | int] = {}
    for name, text in parameters:
        if name not in _PARSERS:
            raise Refusal(400, f"{name[:40]!a}: no such parameter; there are {', '.join(_PARSERS)}")
        if name in values:
            raise Refusal(400, f"{name}: given twice; give it once")
        values[name] = _PARSERS[name](name, text)
    return Query(**values)  # type: ignore[arg-type]  # each parser returns its field's type


def _text(name: str, text: str) -> str:
    return text


def _uuid(name: str, text: str) -> str:
    canonical = parse_uuid(text)
    if canonical is None:
        raise Refusal(400, f"{name}: {text[:40]!a} is not a UUID")
    return canonical


def _instant(name: str, text: str) -> int:
    micros = parse_instant(text)
    if micros is None:
        raise Refusal(
            400, f"{name}: {text[:40]!a} is not RFC 3339, as 2026-11-23T17:22:32Z (a '+' in a URL is written %2B)"
        )
    return micros


def _limit(name: str, text: str) -> int:
    limit = int(text) if _DIGITS.fullmatch(text) else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise Refusal(400, f"{name}: {text[:40]!a} is not a whole number from 1 to {MAX_LIMIT}")
    return limit


def _after(name: str, text: str) -> int:
    arrival = int(text) if _DIGITS.fullmatch(text) else -1
    if not 0 <= arrival <= _LAST_ARRIVAL:
        raise Refusal(400, f"{name}: {text[:40]!a} is not what an answer gave as next")
    return arrival


_PARSERS: dict[str, Callable[[str, str], str | int]] = {
    "actor_id": _text,
    "action": _text,
    "object": _text,
    "id": _uuid,
    "since": _instant,
    "until": _instant,
    "limit": _limit,
    "after": _after,
}
