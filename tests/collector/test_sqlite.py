"""A SQLite file: acknowledged triggers are on disk, and files of other programs are not touched."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from brockman.collector.errors import InvalidSetting, StoreUnavailable
from brockman.collector.store.sqlite import SqliteStore
from brockman.collector.store.sqlite_schema import MIGRATIONS
from brockman.collector.store.values import Query
from brockman.collector.validation import Row
from tests.collector.running import Running, make_row, trigger

Start = Callable[..., Running]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A store on a new file, with a short timeout for locks."""
    with closing(SqliteStore(tmp_path / "store.sqlite3", busy_timeout=0.1)) as opened:
        yield opened


def bodies(store: SqliteStore) -> list[str]:
    return store.page(Query(limit=1000)).bodies


def wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def test_only_its_owner_can_read_the_file(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with closing(SqliteStore(tmp_path / "t.sqlite3")) as store:
            store.add([make_row("a")])
            modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
            assert len(list(tmp_path.iterdir())) == 3
    finally:
        os.umask(old)

    assert modes == {0o600}


def test_a_file_name_may_have_any_character(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20 é.db"
    for expected in (1, 2):
        with closing(SqliteStore(path)) as store:
            store.add([make_row(str(expected))])
            assert store.counts().triggers == expected
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_failure_within_a_request_stores_nothing_of_it(store: SqliteStore) -> None:
    with pytest.raises(StoreUnavailable):
        store.add([make_row("a"), (make_row("b")[0], None, "viewed", "page", 0, 0, "x")])  # type: ignore[list-item]

    assert bodies(store) == []
    assert store.stored == 0
    assert store.add([make_row("a")]).repeated == ()
    assert bodies(store) == ['"a"']


def test_while_another_process_writes_the_client_is_asked_to_wait(
    store: SqliteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "brockman.collector")
    with closing(sqlite3.connect(tmp_path / "store.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="database is locked") as caught:
                store.add([make_row("a")])
        assert caught.value.retry_after == 1
        assert bodies(store) == []  # readers do not wait
        other.execute("ROLLBACK")

    store.add([make_row("a")])

    assert bodies(store) == ['"a"']
    # One line when it starts and one when it ends, not one for each request.
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_a_reader_does_not_wait_for_a_writer_and_another_writer_not_for_ever(store: SqliteStore) -> None:
    class Rows(list[Row]):
        """Rows that are inserted slowly."""

        def __iter__(self) -> Iterator[Row]:
            yield from super().__iter__()
            assert bodies(store) == ['"a"']
            with pytest.raises(StoreUnavailable, match="other requests are being stored"):
                store.add([make_row("c")])

    store.add([make_row("a")])
    store.add(Rows([make_row("b")]))
    assert bodies(store) == ['"a"', '"b"']


@pytest.mark.parametrize("reason", ["removed", "replaced"])
@pytest.mark.parametrize("victim", ["store.sqlite3-wal", "store.sqlite3"])
def test_a_removed_or_replaced_file_loses_no_acknowledged_trigger(
    store: SqliteStore, tmp_path: Path, victim: str, reason: str
) -> None:
    """SQLite itself keeps writing to the removed file, which is lost with the process."""
    store.add([make_row("before")])
    if reason == "replaced":
        shutil.copyfile(tmp_path / victim, tmp_path / "copy")
        (tmp_path / "copy").rename(tmp_path / victim)
    else:
        (tmp_path / victim).unlink()

    with pytest.raises(StoreUnavailable, match=reason):
        store.add([make_row("rejected")])
    store.add([make_row("after")])

    store.close()
    with closing(SqliteStore(tmp_path / "store.sqlite3")) as again:
        assert '"after"' in bodies(again)
        assert '"rejected"' not in bodies(again) or '"before"' in bodies(again)


def test_nothing_is_acknowledged_once_the_file_is_garbage(store: SqliteStore, tmp_path: Path) -> None:
    store.add([make_row("a")])
    path = tmp_path / "store.sqlite3"
    wal(path).unlink()
    path.write_bytes(b"garbage" * 1000)

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.add([make_row("b")])
    with pytest.raises(StoreUnavailable):
        bodies(store)


def make_foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (x)")


def make_newer(path: Path) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def make_trapped(path: Path) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER trap AFTER INSERT ON triggers BEGIN DELETE FROM triggers; END")


def make_altered(path: Path) -> None:
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE triggers ADD COLUMN more TEXT DEFAULT (upper('x'))")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_foreign, "something else"),
        (make_newer, "newer brockman"),
        (make_trapped, "not as brockman made them"),
        (make_altered, "not as brockman made them"),
        (lambda path: path.write_bytes(b"not a database" * 100), "not a database"),
        (lambda path: path.mkdir(), "cannot be used"),
    ],
)
def test_a_file_of_another_program_is_rejected_and_not_changed(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "given.sqlite3"
    make(path)
    before = path.read_bytes() if path.is_file() else b""

    with pytest.raises(InvalidSetting, match=f"^database: .*{reason}"):
        SqliteStore(path)

    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_file_of_an_older_brockman_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        connection.execute(
            "INSERT INTO triggers VALUES (1, ?, '7', 'viewed', 'page', 0, 0, '\"a\"')", make_row("a")[:1]
        )
        connection.execute("UPDATE tally SET triggers = 1")
        connection.commit()

    with closing(SqliteStore(path)) as store:
        assert store.add([make_row("a"), make_row("b")]).stored == 1
        assert bodies(store) == ['"a"', '"b"']
        assert store.counts().triggers == 2


def test_a_missing_directory_is_an_invalid_setting(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"^database: .*No such file"):
        SqliteStore(tmp_path / "nowhere" / "t.sqlite3")


def test_an_additional_index_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite3"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE INDEX mine ON triggers (actor_id)")

    SqliteStore(path).close()


def test_a_locked_database_is_a_503_with_retry_after(start: Start) -> None:
    collector, sent = start(), trigger()
    with closing(sqlite3.connect(collector.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        response = collector.post(sent)
        other.execute("ROLLBACK")

    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.json() == {"error": "triggers cannot be stored: database is locked"}
    assert collector.stored() == []
    assert collector.post(sent).status_code == 201
