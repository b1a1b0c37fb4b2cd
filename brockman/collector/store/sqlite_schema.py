"""The tables of a SQLite file. No I/O.

Tables are made by a list of migrations: to change one, append to the list; never edit an entry. The file stores
how many were applied (`PRAGMA user_version`).

Besides the unique index on `id` there is one on `recorded_at`: timestamps arrive nearly in order, so it grows at
its end. An index on `actor_id` would grow everywhere, which makes inserts slow (tests/benchmarks/collector.py
measures it); filters on the other columns scan the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

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

M002_REMOVAL = (  # the highest arrival number at a removal: it is not used again
    "ALTER TABLE tally ADD COLUMN last_removed INTEGER NOT NULL DEFAULT 0",
)

_REFUSED = (
    """
    CREATE TABLE refused (
        number INTEGER PRIMARY KEY,     -- counts up, with gaps
        id TEXT UNIQUE,                -- of the trigger, if it has a valid one
        actor_id TEXT,
        action TEXT,
        object TEXT,
        reason TEXT NOT NULL,
        received_at INTEGER NOT NULL,  -- microseconds since 1970, UTC
        sender_id TEXT,
        body TEXT,                     -- the trigger's JSON
        text TEXT,                     -- the start of what is no trigger
        size INTEGER NOT NULL           -- bytes
    )
    """,
    """
    CREATE TABLE refused_tally (       -- one row
        kept INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        removed INTEGER NOT NULL,      -- by newer ones
        last INTEGER NOT NULL          -- number
    )
    """,
    "INSERT INTO refused_tally VALUES (0, 0, 0, 0)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (M001_INITIAL, M002_REMOVAL, _REFUSED)


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
