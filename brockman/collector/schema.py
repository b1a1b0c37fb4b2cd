"""The tables of the store, and the SQL that is spoken to them. No I/O of its own.

Tables come from a list of migrations: to change one, append to the list; never edit what is in it. How many have
been applied is kept in the file itself (`PRAGMA user_version`).

Beside the index that makes `id` unique there is one on `recorded_at`: times come nearly in order, so it grows at
its end. One on `actor_id` would grow everywhere, which costs inserts most (tests/benchmarks/collector.py prints
how much); the filters on the other columns read through the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

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


Execute = Callable[[str], Iterator[Any]]

M001_INITIAL = (
    """
    CREATE TABLE triggers (
        arrival INTEGER PRIMARY KEY,   -- counts up: the order of arrival
        id TEXT NOT NULL UNIQUE,
        actor_id TEXT NOT NULL,
        action TEXT NOT NULL,
        object TEXT NOT NULL,
        recorded_at INTEGER NOT NULL,  -- microseconds since 1970, UTC
        received_at INTEGER NOT NULL,  -- microseconds since 1970, UTC
        body TEXT NOT NULL             -- the trigger's JSON
    )
    """,
    "CREATE INDEX triggers_recorded_at ON triggers (recorded_at)",
    """
    CREATE TABLE tally (               -- one row: counting the triggers would read through all of them
        triggers INTEGER NOT NULL,
        duplicates INTEGER NOT NULL,
        rejected INTEGER NOT NULL,
        requests INTEGER NOT NULL
    )
    """,
    "INSERT INTO tally VALUES (0, 0, 0, 0)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (M001_INITIAL,)

INSERT = """
    INSERT INTO triggers (id, actor_id, action, object, recorded_at, received_at, body)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""
COUNT = """
    UPDATE tally SET triggers = triggers + ?, duplicates = duplicates + ?, rejected = rejected + ?,
    requests = requests + 1
"""
TALLY = "SELECT triggers, duplicates, rejected, requests FROM tally"
_FILTERS = {
    "actor_id": "actor_id = ?",
    "action": "action = ?",
    "object": "object = ?",
    "id": "id = ?",
    "since": "recorded_at >= ?",
    "until": "recorded_at < ?",
}


class UnusableFile(Exception):
    """Raised when a file is no store, or has ceased to be one. The text says why."""


def migrate(execute: Execute, execute_on_empty: Execute) -> None:
    """Bring the tables of a file up to date, within a transaction of the caller.

    Args:
        execute: Runs a statement on the file.
        execute_on_empty: Runs one on an empty database, to have something to compare with.

    Raises:
        UnusableFile: When the file was made by something else, or tampered with.
    """
    (applied,) = next(execute("PRAGMA user_version"))
    if applied > len(MIGRATIONS):
        raise UnusableFile("it was made by a newer brockman, or by something else")
    if not applied and _objects(execute):
        raise UnusableFile("it is a SQLite file of something else")
    for run, missing in ((execute, MIGRATIONS[applied:]), (execute_on_empty, MIGRATIONS)):
        for migration in missing:
            for statement in migration:
                run(statement)
    if applied < len(MIGRATIONS):
        execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    found = _objects(execute)
    # An SQL trigger would run at every insert. Indexes and tables that somebody added do no harm.
    if not _objects(execute_on_empty) <= found or any(kind == "trigger" for kind, _, _ in found):
        raise UnusableFile("its tables are not as brockman made them")


def _objects(execute: Execute) -> set[tuple[str, str, str | None]]:
    return set(execute("SELECT type, name, sql FROM sqlite_master"))


def select(query: Query) -> tuple[str, str, list[str | int]]:
    """Return a statement that counts what passes the filters, one that finds it, and the filters' values for both.

    The one that finds takes another value: the arrival number to start after.
    """
    given = [name for name in _FILTERS if getattr(query, name) is not None]
    where = " AND ".join([_FILTERS[name] for name in given] or ["1"])
    counting = f"SELECT count(*) FROM triggers WHERE {where}" if given else "SELECT triggers FROM tally"
    finding = f"SELECT arrival, body FROM triggers WHERE {where} AND arrival > ? ORDER BY arrival"
    return counting, finding, [getattr(query, name) for name in given]
