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

_CARE = (
    "ALTER TABLE tally ADD COLUMN removed INTEGER NOT NULL DEFAULT 0",
    "CREATE TABLE erased (id TEXT PRIMARY KEY) WITHOUT ROWID",  # ids that are not stored again
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

# People, joined from the triggers (`people`). Numbers are small, so that facts are. A row of `events` is read in
# the order of arrival, by kind and time, or along the chain of an actor: an index by actor would grow everywhere.
_PEOPLE = (
    """
    CREATE TABLE actors (
        actor INTEGER PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,   -- of actor_id
        actor_id TEXT NOT NULL,
        person INTEGER NOT NULL,       -- the number of one of the person's actors
        first_seen INTEGER NOT NULL,   -- microseconds since 1970, UTC: the earliest recorded_at
        last_seen INTEGER NOT NULL,
        triggers INTEGER NOT NULL,
        newest INTEGER NOT NULL        -- arrival of its last event
    )
    """,
    "CREATE INDEX actors_person ON actors (person)",
    """
    CREATE TABLE identities (
        identity INTEGER PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,   -- of name and value, as they are compared
        name TEXT NOT NULL,
        value TEXT NOT NULL,           -- JSON
        actors INTEGER NOT NULL,       -- that carry it
        is_joining INTEGER NOT NULL    -- 0: a placeholder, or carried by too many
    )
    """,
    "CREATE INDEX identities_shared ON identities (actors) WHERE is_joining = 0",
    """
    CREATE TABLE links (
        identity INTEGER NOT NULL,
        actor INTEGER NOT NULL,
        PRIMARY KEY (identity, actor)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX links_actor ON links (actor)",
    """
    CREATE TABLE attributes (          -- the latest value of each
        actor INTEGER NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,           -- JSON
        recorded_at INTEGER NOT NULL,
        PRIMARY KEY (actor, name)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE kinds (
        kind INTEGER PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,   -- of action and object
        action TEXT NOT NULL,
        object TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE events (              -- one for each trigger that was joined
        arrival INTEGER PRIMARY KEY,
        actor INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        recorded_at INTEGER NOT NULL,
        previous INTEGER NOT NULL      -- arrival of the event before it of the same actor, or 0
    )
    """,
    "CREATE INDEX events_kind ON events (kind, recorded_at, actor)",
    """
    CREATE TABLE joined (              -- one row
        arrival INTEGER NOT NULL,      -- of the last trigger that was joined
        actor INTEGER NOT NULL,        -- the highest numbers that were given
        identity INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        removals INTEGER NOT NULL      -- counts up when numbers become invalid
    )
    """,
    "INSERT INTO joined VALUES (0, 0, 0, 0, 0)",
)

_SENDERS = (
    """
    CREATE TABLE senders (             -- clients that send their counts; senders.py explains them
        id TEXT PRIMARY KEY,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started INTEGER NOT NULL,      -- microseconds since 1970, UTC, as the next two
        first_seen INTEGER NOT NULL,
        last_seen INTEGER NOT NULL,
        recorded INTEGER NOT NULL,     -- by its own word, as the next four and `dropped`
        recovered INTEGER NOT NULL,
        delivered INTEGER NOT NULL,
        rejected INTEGER NOT NULL,
        waiting INTEGER NOT NULL,
        dropped TEXT NOT NULL,         -- a JSON object: a number for each reason
        delivered_before INTEGER NOT NULL,
        ahead INTEGER NOT NULL,
        stored INTEGER NOT NULL,
        refused INTEGER NOT NULL,
        missing INTEGER NOT NULL,
        missing_since INTEGER          -- microseconds since 1970, UTC
    )
    """,
)

_GROUPS = (
    """
    CREATE TABLE groups (
        name TEXT PRIMARY KEY NOT NULL,
        definition TEXT NOT NULL,      -- JSON
        created_at INTEGER NOT NULL,   -- microseconds since 1970, UTC
        updated_at INTEGER NOT NULL
    )
    """,
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    M001_INITIAL,
    M002_REMOVAL,
    _REFUSED,
    _PEOPLE,
    _SENDERS,
    _CARE,
    _GROUPS,
)

# The triggers of a person after an arrival number, up to another: the newest of each chain is the next. The end of
# a chain may be the number of an event that was removed.
_CHAINS = """
    WITH RECURSIVE
    bounds (first, last, number, person) AS (VALUES (?, ?, ?, ?)),
    chains (arrival, previous) AS (
        SELECT events.arrival, events.previous FROM bounds CROSS JOIN actors CROSS JOIN events
        WHERE actors.person = bounds.person AND events.arrival = actors.newest
        UNION ALL
        SELECT events.arrival, events.previous FROM chains CROSS JOIN bounds CROSS JOIN events
        WHERE events.arrival = chains.previous AND chains.previous > bounds.first
        ORDER BY 1 DESC LIMIT -1 -- without a limit, SQLite may leave out the order
    )
"""
TIMELINE = {
    True: f"""
        {_CHAINS} SELECT triggers.arrival, triggers.body FROM chains CROSS JOIN bounds CROSS JOIN triggers
        WHERE triggers.arrival = chains.arrival AND chains.arrival BETWEEN bounds.first + 1 AND bounds.last
        LIMIT (SELECT number FROM bounds)
    """,
    False: f"""
        {_CHAINS}, oldest (arrival) AS (
            SELECT chains.arrival FROM chains CROSS JOIN bounds
            WHERE chains.arrival BETWEEN bounds.first + 1 AND bounds.last
            ORDER BY 1 LIMIT (SELECT number FROM bounds)
        )
        SELECT triggers.arrival, triggers.body FROM oldest CROSS JOIN triggers
        WHERE triggers.arrival = oldest.arrival ORDER BY 1
    """,
}
# Of those that were joined after an arrival number, the newest first.
TRIGGERS_OF_ACTOR = """
    WITH RECURSIVE
    bounds (actor, first) AS (VALUES (?, ?)),
    chain (arrival) AS (
        SELECT newest FROM bounds CROSS JOIN actors WHERE actors.actor = bounds.actor AND newest > bounds.first
        UNION ALL
        SELECT events.previous FROM chain CROSS JOIN bounds CROSS JOIN events
        WHERE events.arrival = chain.arrival AND events.previous > bounds.first
    )
    SELECT recorded_at, body FROM chain CROSS JOIN triggers WHERE triggers.arrival = chain.arrival
"""


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
