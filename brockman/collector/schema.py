"""The tables of the store and their SQL. No I/O.

Tables are made by a list of migrations: to change one, append to the list; never edit an entry. The file stores
how many were applied (`PRAGMA user_version`).

Besides the unique index on `id` there is one on `recorded_at`: timestamps arrive nearly in order, so it grows at
its end. An index on `actor_id` would grow everywhere, which makes inserts slow (tests/benchmarks/collector.py
measures it); filters on the other columns scan the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from brockman.collector.timestamps import parse_timestamp
from brockman.collector.validation import parse_uuid

MAX_LIMIT = 10_000
_LAST_ARRIVAL = 2**63 - 1
_DIGITS = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Query:
    """A query. Filters that are not None are combined with AND."""

    actor_id: str | None = None
    action: str | None = None
    object: str | None = None
    id: str | None = None
    since: int | None = None  # microseconds since 1970; recorded at this time or later
    until: int | None = None  # microseconds since 1970; recorded before it
    limit: int = 100
    after: int = 0  # arrival number of the last trigger of the page before


@dataclass(frozen=True, slots=True)
class Page:
    """Triggers in the order of their arrival."""

    bodies: list[str]  # the JSON text of each
    total: int  # how many match, on all pages
    next: int | None  # the `after` of the next page; None on the last


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of a store since its file was created."""

    triggers: int  # stored
    duplicates: int  # dropped: a trigger with that id was stored before
    rejected: int  # invalid, in requests that were accepted
    requests: int  # accepted: 201 or 207


def parse_query(parameters: Iterable[tuple[str, str]]) -> Query:
    """Parse the query string of a URL; reject an unknown, repeated or malformed parameter with 400."""
    values: dict[str, str | int] = {}
    for name, text in parameters:
        if name not in _PARSERS:
            raise HTTPException(400, f"{name[:40]!a}: unknown parameter; there are {', '.join(_PARSERS)}")
        if name in values:
            raise HTTPException(400, f"{name}: given twice; give it once")
        values[name] = _PARSERS[name](name, text)
    return Query(**values)  # type: ignore[arg-type]  # each parser returns its field's type


def _text(name: str, text: str) -> str:
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


def _limit(name: str, text: str) -> int:
    limit = int(text) if _DIGITS.fullmatch(text) else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise HTTPException(400, f"{name}: {text[:40]!a} is not a whole number from 1 to {MAX_LIMIT}")
    return limit


def _after(name: str, text: str) -> int:
    arrival = int(text) if _DIGITS.fullmatch(text) else -1
    if not 0 <= arrival <= _LAST_ARRIVAL:
        raise HTTPException(400, f"{name}: {text[:40]!a} is not the next of a page")
    return arrival


_PARSERS: dict[str, Callable[[str, str], str | int]] = {
    "actor_id": _text,
    "action": _text,
    "object": _text,
    "id": _uuid,
    "since": _timestamp,
    "until": _timestamp,
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
UPDATE_COUNTS = """
    UPDATE tally SET triggers = triggers + ?, duplicates = duplicates + ?, rejected = rejected + ?,
    requests = requests + 1
"""
SELECT_COUNTS = "SELECT triggers, duplicates, rejected, requests FROM tally"
_FILTERS = {
    "actor_id": "actor_id = ?",
    "action": "action = ?",
    "object": "object = ?",
    "id": "id = ?",
    "since": "recorded_at >= ?",
    "until": "recorded_at < ?",
}


class UnusableFile(Exception):
    """Raised if a file is not, or no longer, a store. The text says why."""


def migrate(execute: Execute, execute_on_empty: Execute) -> None:
    """Apply missing migrations, within a transaction of the caller, and compare the tables with an empty database.

    Raises:
        UnusableFile: If another program made or changed the file.
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
    # An SQL trigger would run at every insert. Added indexes and tables do no harm.
    if not _objects(execute_on_empty) <= found or any(kind == "trigger" for kind, _, _ in found):
        raise UnusableFile("its tables are not as brockman made them")


def _objects(execute: Execute) -> set[tuple[str, str, str | None]]:
    return set(execute("SELECT type, name, sql FROM sqlite_master"))


def select(query: Query) -> tuple[str, str, list[str | int]]:
    """Return a statement that counts the matching triggers, one that selects them, and the filter values for both.

    The second takes one more value: the arrival number to start after.
    """
    given = [name for name in _FILTERS if getattr(query, name) is not None]
    where = " AND ".join([_FILTERS[name] for name in given] or ["1"])
    counting = f"SELECT count(*) FROM triggers WHERE {where}" if given else "SELECT triggers FROM tally"
    finding = f"SELECT arrival, body FROM triggers WHERE {where} AND arrival > ? ORDER BY arrival"
    return counting, finding, [getattr(query, name) for name in given]
