"""The tables of a PostgreSQL database, and the SQL that only it has. No I/O.

Tables are made by a list of migrations: to change one, append to the list; never edit an entry. They are in a
schema of their own, `brockman`, and `brockman.version` has how many were applied.

Uniqueness. `triggers` is partitioned by the month of receipt, so that retention drops a partition. PostgreSQL can
make an id unique within a partition only, and a trigger may be repeated in the next month: the ids are in a table
without partitions. `triggers` has no column for the id; the body has it.

Order. A transaction draws a block of arrival numbers (`draw_block`), and transactions commit in another order than
they draw. A reader that has seen 200 must not find 100 later, so it reads up to a horizon: below the blocks that
are not committed. While it stores, a transaction shares an advisory lock whose key has the last block that was
drawn before its own.

Indexes of a partition, chosen by EXPLAIN over a million triggers:

* `arrival`: pages, in both directions. Correlated with the table, so a page reads neighbours.
* `left(actor_id, 64), arrival`: all triggers of an actor in their order, without a sort. An index entry may have
  2700 bytes at most, an actor_id more: the first 64 characters are enough to find it.
* `recorded_at`: `since` and `until`, counts over time. Nearly in order, so it grows at its end.

There is none on action and object: they have few values, each with many triggers, so a scan finds a page soon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

SCHEMA = "brockman"
TABLES_LOCK, PRUNE_LOCK = 0x62726F636B6D616E, 0x62726F636B6D616F  # keys of advisory locks
CHANNEL = "brockman_triggers"
BLOCK = 2**16  # arrival numbers that a transaction draws at once
TALLY_ROWS = 64  # connections rarely wait for each other's
_LOCKS = 2**62  # keys of advisory locks from here have a block
_EPOCH = datetime(1970, 1, 1)

_M001_INITIAL = (
    f"CREATE SEQUENCE blocks INCREMENT {BLOCK} START {BLOCK}",
    "SELECT nextval('blocks')",
    "CREATE TABLE ids (id uuid PRIMARY KEY, arrival bigint NOT NULL)",
    # Nearly in order of arrival: retention finds the ids of a month in few pages.
    "CREATE INDEX ids_arrival ON ids USING brin (arrival)",
    """
    CREATE TABLE triggers (
        arrival bigint NOT NULL,
        actor_id text COLLATE "C" NOT NULL,
        action text COLLATE "C" NOT NULL,
        object text COLLATE "C" NOT NULL,
        recorded_at bigint NOT NULL,  -- microseconds since 1970, UTC
        received_at bigint NOT NULL,  -- microseconds since 1970, UTC
        body text NOT NULL            -- the trigger's JSON; `jsonb` rejects NUL characters
    ) PARTITION BY RANGE (received_at)
    """,
    "CREATE INDEX triggers_arrival ON triggers (arrival)",
    "CREATE INDEX triggers_actor_id ON triggers (left(actor_id, 64), arrival)",
    "CREATE INDEX triggers_recorded_at ON triggers (recorded_at)",
    """
    CREATE TABLE tally (               -- the counts are the sums
        slot int PRIMARY KEY,
        triggers bigint NOT NULL DEFAULT 0,
        duplicates bigint NOT NULL DEFAULT 0,
        rejected bigint NOT NULL DEFAULT 0,
        requests bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50)           -- updates stay within the page
    """,
    f"INSERT INTO tally (slot) SELECT generate_series(0, {TALLY_ROWS - 1})",
    f"""
    CREATE FUNCTION draw_block() RETURNS bigint LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared({_LOCKS} + last_value) FROM {SCHEMA}.blocks;
        RETURN nextval('{SCHEMA}.blocks');
    END $$
    """,
)
_CARE = ("ALTER TABLE tally ADD COLUMN removed bigint NOT NULL DEFAULT 0",)

_REFUSED = (
    """
    CREATE TABLE refused (
        number bigint PRIMARY KEY,     -- counts up, with gaps
        id text UNIQUE,                -- of the trigger, if it has a valid one
        actor_id text COLLATE "C",
        action text COLLATE "C",
        object text COLLATE "C",
        reason text COLLATE "C" NOT NULL,
        received_at bigint NOT NULL,  -- microseconds since 1970, UTC
        sender_id text,
        body text,                     -- the trigger's JSON
        text text,                     -- the start of what is no trigger
        size bigint NOT NULL           -- bytes
    )
    """,
    """
    CREATE TABLE refused_tally (       -- one row
        kept bigint NOT NULL,
        bytes bigint NOT NULL,
        removed bigint NOT NULL,      -- by newer ones
        last bigint NOT NULL          -- number
    ) WITH (fillfactor = 50)           -- updates stay within the page
    """,
    "INSERT INTO refused_tally VALUES (0, 0, 0, 0)",
)

# As in `sqlite_schema`. The index of `triggers` on actor_id finds the triggers of an actor.
_PEOPLE = (
    """
    CREATE TABLE actors (
        actor bigint PRIMARY KEY,
        digest bytea NOT NULL UNIQUE,  -- of actor_id
        actor_id text COLLATE "C" NOT NULL,
        person bigint NOT NULL,        -- the number of one of the person's actors
        first_seen bigint NOT NULL,    -- microseconds since 1970, UTC: the earliest recorded_at
        last_seen bigint NOT NULL,
        triggers bigint NOT NULL,
        newest bigint NOT NULL         -- arrival of its last event
    ) WITH (fillfactor = 70)           -- updates stay within the page
    """,
    "CREATE INDEX actors_person ON actors (person)",
    """
    CREATE TABLE identities (
        identity bigint PRIMARY KEY,
        digest bytea NOT NULL UNIQUE,  -- of name and value, as they are compared
        name text COLLATE "C" NOT NULL,
        value text COLLATE "C" NOT NULL,  -- JSON
        actors bigint NOT NULL,        -- that carry it
        is_joining bigint NOT NULL     -- 0: a placeholder, or carried by too many
    )
    """,
    "CREATE INDEX identities_shared ON identities (actors) WHERE is_joining = 0",
    "CREATE TABLE links (identity bigint NOT NULL, actor bigint NOT NULL, PRIMARY KEY (identity, actor))",
    "CREATE INDEX links_actor ON links (actor)",
    """
    CREATE TABLE attributes (          -- the latest value of each
        actor bigint NOT NULL,
        name text COLLATE "C" NOT NULL,
        value text COLLATE "C" NOT NULL,  -- JSON
        recorded_at bigint NOT NULL,
        PRIMARY KEY (actor, name)
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE TABLE kinds (
        kind bigint PRIMARY KEY,
        digest bytea NOT NULL UNIQUE,  -- of action and object
        action text COLLATE "C" NOT NULL,
        object text COLLATE "C" NOT NULL
    )
    """,
    """
    CREATE TABLE events (              -- one for each trigger that was joined
        arrival bigint PRIMARY KEY,
        actor bigint NOT NULL,
        kind bigint NOT NULL,
        recorded_at bigint NOT NULL
    )
    """,
    "CREATE INDEX events_kind ON events (kind, recorded_at, actor)",
    """
    CREATE TABLE joined (              -- one row; collectors lock it, so that one joins at a time
        arrival bigint NOT NULL,       -- of the last trigger that was joined
        actor bigint NOT NULL,         -- the highest numbers that were given
        identity bigint NOT NULL,
        kind bigint NOT NULL,
        removals bigint NOT NULL       -- counts up when numbers become invalid
    )
    """,
    "INSERT INTO joined VALUES (0, 0, 0, 0, 0)",
)
_SENDERS = (
    """
    CREATE TABLE senders (             -- clients that send their counts; senders.py explains them
        id text COLLATE "C" PRIMARY KEY,
        host text NOT NULL,
        pid bigint NOT NULL,
        started bigint NOT NULL,       -- microseconds since 1970, UTC, as the next two
        first_seen bigint NOT NULL,
        last_seen bigint NOT NULL,
        recorded bigint NOT NULL,      -- by its own word, as the next four and `dropped`
        recovered bigint NOT NULL,
        delivered bigint NOT NULL,
        rejected bigint NOT NULL,
        waiting bigint NOT NULL,
        dropped text NOT NULL,         -- a JSON object: a number for each reason
        delivered_before bigint NOT NULL,
        ahead bigint NOT NULL,
        stored bigint NOT NULL,
        refused bigint NOT NULL,
        missing bigint NOT NULL,
        missing_since bigint           -- microseconds since 1970, UTC
    ) WITH (fillfactor = 50)           -- updates stay within the page
    """,
)
_GROUPS = (
    """
    CREATE TABLE groups (
        name text COLLATE "C" PRIMARY KEY,
        definition text NOT NULL,      -- JSON
        created_at bigint NOT NULL,   -- microseconds since 1970, UTC
        updated_at bigint NOT NULL
    )
    """,
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_M001_INITIAL, _REFUSED, _PEOPLE, _SENDERS, _CARE, _GROUPS)

INSERT_IDS = """
    WITH drawn AS MATERIALIZED (SELECT draw_block() AS block)
    INSERT INTO ids (id, arrival)
    SELECT given.id, drawn.block + given.position
    FROM drawn, unnest(string_to_array(%s, ',')::uuid[]) WITH ORDINALITY AS given (id, position)
    ORDER BY given.id, given.position  -- two requests with the same ids never deadlock
    ON CONFLICT (id) DO NOTHING
    RETURNING arrival, (SELECT block FROM drawn)
"""
COPY_TRIGGERS = """
    COPY triggers (arrival, actor_id, action, object, recorded_at, received_at, body) FROM STDIN (FORMAT binary)
"""
COPY_TYPES = ("int8", "text", "text", "text", "int8", "int8", "text")
ARRAYS = {int: "string_to_array(?, ',')::bigint[]", str: "?::text[]", bytes: "?::bytea[]"}
TALLY_ROW = f"WHERE slot = pg_backend_pid() % {TALLY_ROWS}"
COUNT_TABLES = f"SELECT count(*) FROM pg_class WHERE relnamespace = '{SCHEMA}'::regnamespace"
SELECT_LAST_BLOCK = "SELECT last_value FROM blocks"
SELECT_FIRST_UNCOMMITTED = f"""
    SELECT min((classid::bigint << 32 | objid::bigint) - {_LOCKS}) FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >= {_LOCKS >> 32}
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
SELECT_PARTITIONS = """
    SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'triggers'::regclass AND relname ~ '^triggers_[0-9]{6}$' ORDER BY relname
"""
SELECT_DETACHED = f"""
    SELECT relname FROM pg_class
    WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind = 'r' AND relname ~ '^removed_[0-9]+$'
"""
LIKE = "{} COLLATE \"C\" ILIKE ? ESCAPE '\\'"  # with "C", only ASCII letters match in both cases
SELECT_SIZE = f"""
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0),
    coalesce(sum(pg_relation_size(oid)) FILTER (WHERE relname ~ '^triggers_[0-9]{{6}}$'), 0)
        / current_setting('block_size')::int
    FROM pg_class WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind = 'r'
"""
SAMPLED_PAGES = 1000
FILTERS = {
    "actor_id": "left(actor_id, 64) = left(?, 64) AND actor_id = ?",
    # With "C", only ASCII letters match in both cases. ILIKE takes longer.
    "search": 'strpos(lower(body COLLATE "C"), lower(? COLLATE "C")) > 0',
    "id": "arrival = (SELECT arrival FROM ids WHERE id = ?::uuid)",
}
# Of those that were joined after an arrival number.
TRIGGERS_OF_ACTOR = """
    SELECT recorded_at, body FROM actors JOIN triggers
    ON left(triggers.actor_id, 64) = left(actors.actor_id, 64) AND triggers.actor_id = actors.actor_id
    WHERE actors.actor = ? AND triggers.arrival > ? AND triggers.arrival <= (SELECT arrival FROM joined)
"""
# The triggers of a person after an arrival number, up to another: the first of each actor, by the index.
TIMELINE = {
    is_newest_first: f"""
        SELECT found.arrival, found.body FROM actors CROSS JOIN LATERAL (
            SELECT arrival, body FROM triggers
            WHERE left(triggers.actor_id, 64) = left(actors.actor_id, 64)
            AND triggers.actor_id = actors.actor_id AND arrival > ? AND arrival <= ?
            ORDER BY left(triggers.actor_id, 64) {direction}, arrival {direction} LIMIT ?
        ) AS found
        WHERE actors.person = ? ORDER BY found.arrival {direction}
    """
    for is_newest_first, direction in ((True, "DESC"), (False, "ASC"))
}


class UnusableDatabase(Exception):
    """Raised if a database cannot have a store. The text says why."""


def migrate(run: Callable[[str], Any]) -> None:
    """Make the tables, or apply missing migrations, within a transaction of the caller.

    Raises:
        UnusableDatabase: If the database is of something else, or its encoding cannot hold all texts.
    """
    (encoding,) = run("SHOW server_encoding").fetchone()
    if encoding != "UTF8":
        raise UnusableDatabase(f"its encoding is {encoding}; create it with: createdb --encoding UTF8")
    if run(f"SELECT to_regnamespace('{SCHEMA}')").fetchone() == (None,):
        run(f"CREATE SCHEMA {SCHEMA}")
    if run(f"SELECT to_regclass('{SCHEMA}.version')").fetchone() == (None,):
        if run(COUNT_TABLES).fetchone() != (0,):
            raise UnusableDatabase(f"its schema {SCHEMA!r} is of something else")
        run("CREATE TABLE version (applied int NOT NULL)")
        run("INSERT INTO version VALUES (0)")
    (applied,) = run("SELECT max(applied) FROM version").fetchone()
    if applied > len(MIGRATIONS):
        raise UnusableDatabase("it was made by a newer brockman")
    for migration in MIGRATIONS[applied:]:
        for statement in migration:
            run(statement)
    if applied < len(MIGRATIONS):
        run(f"UPDATE version SET applied = {len(MIGRATIONS)}")


def partition_of(received_at: int) -> str:
    """Return the name of a month's partition, such as `triggers_202611`."""
    return f"triggers_{_EPOCH + timedelta(microseconds=received_at):%Y%m}"


def bounds_of(partition: str) -> tuple[int, int]:
    """Return when a partition's month begins and ends, in microseconds since 1970."""
    begin = datetime.strptime(partition[-6:], "%Y%m")
    end = (begin + timedelta(days=31)).replace(day=1)
    return (begin - _EPOCH) // timedelta(microseconds=1), (end - _EPOCH) // timedelta(microseconds=1)


def create_partition(partition: str) -> tuple[str, str]:
    """Return the statements that make a partition; unlike PARTITION OF, they do not wait for readers."""
    begin, end = bounds_of(partition)
    return (
        f"CREATE TABLE {partition} (LIKE triggers)",
        f"ALTER TABLE triggers ATTACH PARTITION {partition} FOR VALUES FROM ({begin}) TO ({end})",
    )


def detach_partition(partition: str, new_name: str) -> tuple[str, str]:
    return (
        f"ALTER TABLE triggers DETACH PARTITION {partition}",
        f"ALTER TABLE {partition} RENAME TO {new_name}",
    )


def delete_some_ids(detached: str) -> str:
    """Return a statement that deletes the ids of some triggers of a detached partition, in the order of arrival.

    Its placeholders are the arrival number to start after, and how many; it returns arrival number, actor, and
    whether the id was there: an interrupted call may have deleted it.
    """
    return f"""
        WITH oldest AS MATERIALIZED (
            SELECT arrival, actor_id FROM {detached} WHERE arrival > %s ORDER BY arrival LIMIT %s
        ),
        bounds AS MATERIALIZED (SELECT min(arrival) AS first, max(arrival) AS last FROM oldest),
        deleted AS (
            DELETE FROM ids USING oldest
            WHERE ids.arrival = oldest.arrival
            AND ids.arrival BETWEEN (SELECT first FROM bounds) AND (SELECT last FROM bounds)
            RETURNING ids.arrival
        )
        SELECT oldest.arrival, actor_id, deleted.arrival IS NOT NULL FROM oldest LEFT JOIN deleted USING (arrival)
        ORDER BY arrival
    """


def delete_triggers(arrivals: Sequence[int]) -> str:
    """Return a statement that deletes triggers, and returns arrival number and actor of each."""
    return f"DELETE FROM triggers WHERE arrival IN ({','.join(map(str, arrivals))}) RETURNING arrival, actor_id"


def delete_ids(arrivals: Sequence[int]) -> str:
    """Return a statement that deletes the ids of triggers whose arrival numbers, in order, are near each other."""
    return (
        f"DELETE FROM ids WHERE arrival BETWEEN {arrivals[0]} AND {arrivals[-1]}"
        f" AND arrival IN ({','.join(map(str, arrivals))})"
    )


def sample_pages(percent: float) -> str:
    """Return a statement that reads a share of the pages; it returns the triggers, and the pages with any."""
    return f"""
        SELECT count(*), count(DISTINCT (tableoid, page)) FROM (
            SELECT tableoid, (ctid::text::point)[0] AS page FROM triggers TABLESAMPLE SYSTEM ({percent:.6f})
        ) AS sample
    """
