"""A store of an older version is taken over with all its triggers, whatever interrupts that."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from brockman.collector.errors import InvalidSetting
from brockman.collector.store import open_store, postgresql_schema, sqlite_schema
from brockman.collector.store.erasure import Erasure
from brockman.collector.validation import make_row
from tests.collector.running import Running, trigger
from tests.support.programs import environment, started

# As the first version made it, to the letter: SQLite keeps the text of a statement.
FIRST_FILE = (
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
    "PRAGMA user_version = 1",
)
SENT = [trigger(actor_id=str(n % 7), variables={"n": n}) for n in range(500)]
# A migration that does not end, behind the others.
ENDLESS = {
    "sqlite": "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT pg_sleep(1.5)",
}
INTERRUPTED = """
import sys
from brockman.collector.store import open_store, postgresql_schema, sqlite_schema

class Last(tuple):
    def __iter__(self):
        print("begun", flush=True)
        return super().__iter__()

for schema in (postgresql_schema, sqlite_schema):
    schema.MIGRATIONS += (Last([sys.argv[2]]),)
open_store(sys.argv[1])
"""


@pytest.fixture
def old(location: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store that the first version made, with triggers."""
    rows = [make_row(json.loads(json.dumps(one)), 0, str) for one in SENT]
    if "://" not in location:
        with closing(sqlite3.connect(location)) as connection:
            for statement in FIRST_FILE:
                connection.execute(statement)
            connection.executemany(
                "INSERT INTO triggers (id, actor_id, action, object, recorded_at, received_at, body)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            connection.execute("UPDATE tally SET triggers = 500, duplicates = 3, requests = 4")
            connection.commit()
        return location
    with monkeypatch.context() as patch:
        patch.setattr(postgresql_schema, "MIGRATIONS", postgresql_schema.MIGRATIONS[:1])
        with closing(open_store(location)) as store:
            store.add(rows)
    return location


def version(location: str) -> int:
    if "://" not in location:
        with closing(sqlite3.connect(location)) as connection:
            (number,) = connection.execute("PRAGMA user_version").fetchone()
            return int(number)
    with psycopg.connect(location) as database:
        row = database.execute("SELECT max(applied) FROM brockman.version").fetchone()
    assert row is not None
    return int(row[0])


def check(collector: Running) -> None:
    """Check that nothing is missing, and that everything works."""
    assert collector.stored() == SENT
    assert collector.stats()["triggers"] == 500
    assert collector.post(SENT[:10]).json() == {"accepted": 10, "repeated": 10}
    assert collector.post(trigger()).status_code == 201


def test_a_store_of_the_first_version_is_taken_over(old: str, start: Callable[..., Running]) -> None:
    current = len(sqlite_schema.MIGRATIONS if "://" not in old else postgresql_schema.MIGRATIONS)
    assert version(old) == 1
    check(start(database=old))

    assert version(old) == current
    with closing(open_store(old)) as store:
        assert Erasure(store).run(actor_id="3").triggers == len([one for one in SENT if one["actor_id"] == "3"])
        assert store.prune(1) == 500 - len([one for one in SENT if one["actor_id"] == "3"])
        assert store.counts().triggers == 1


def test_a_kill_in_the_middle_of_a_migration_changes_nothing(old: str, start: Callable[..., Running]) -> None:
    """The next start migrates the store as if there had been none before."""
    endless = ENDLESS["postgresql" if "://" in old else "sqlite"]
    for _ in range(2):
        with started([sys.executable, "-c", INTERRUPTED, old, endless], env=environment()) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            process.kill()
            process.wait(10)
        assert version(old) == 1
    check(start(database=old))


def test_collectors_that_start_at_once_migrate_once(old: str) -> None:
    found: list[Any] = []

    def run() -> None:
        with closing(open_store(old)) as store:
            found.append((store.add([make_row(dict(SENT[0]), 0, str)]).stored, store.counts().triggers))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(0, 500)] * 4


@pytest.fixture
def newer(location: str) -> str:
    """A store that a newer version has."""
    with closing(open_store(location)) as store:
        store.add([make_row(trigger(), 0, str)])
    if "://" in location:
        with psycopg.connect(location) as database:
            database.execute("UPDATE brockman.version SET applied = applied + 1")
    else:
        with closing(sqlite3.connect(location)) as connection:
            connection.execute(f"PRAGMA user_version = {len(sqlite_schema.MIGRATIONS) + 1}")
    return location


def test_a_store_of_a_newer_version_is_refused_and_not_changed(newer: str) -> None:
    before = Path(newer).read_bytes() if "://" not in newer else version(newer)
    with pytest.raises(InvalidSetting, match=r"^database: .*newer brockman"):
        open_store(newer)
    assert before == (Path(newer).read_bytes() if "://" not in newer else version(newer))
