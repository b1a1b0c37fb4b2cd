"""A store in a SQLite file, in WAL mode. The only module that imports `sqlite3`.

One connection writes, under a lock; each read opens its own, so that readers and the writer do not wait for each
other. After an error the writing connection is closed, and reopened by the next call: no restart is needed once
the disk has room again or the file is back.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from brockman.collector.errors import InvalidSetting, StoreClosed, StoreUnavailable
from brockman.collector.store.base import MAX_PAGE_BYTES, READ_TIMEOUT, Snapshot, Store, T, Transaction
from brockman.collector.store.conditions import SqliteConditions
from brockman.collector.store.pruning import Removed
from brockman.collector.store.sqlite_schema import TIMELINE, TRIGGERS_OF_ACTOR, UnusableFile, migrate
from brockman.collector.store.statements import LAST_ARRIVAL, SELECT_JOINED, Value
from brockman.collector.validation import Row

_WRITER_PRAGMAS = (
    "PRAGMA synchronous = NORMAL",  # in WAL mode safe against a crash of the process, not a power failure
    "PRAGMA cache_size = -32768",  # KiB
    "PRAGMA wal_autocheckpoint = 4000",  # pages of 4 KiB; each checkpoint is an fsync
    "PRAGMA secure_delete = ON",  # what was removed is overwritten
)
_COLUMNS = "id, actor_id, action, object, recorded_at, received_at, body"
_INSERT = f"INSERT INTO triggers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
_INSERT_AT = (
    f"INSERT INTO triggers (arrival, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)
_SELECT_LAST = "SELECT coalesce((SELECT max(arrival) FROM triggers), 0), last_removed FROM tally"
_UPDATE_REMOVED = "UPDATE tally SET last_removed = max(last_removed, ?)"
_USED_BYTES = """
    SELECT (page_count - freelist_count) * page_size
    FROM pragma_page_count, pragma_freelist_count, pragma_page_size
"""
_CHECKED_EVERY = 20_000  # instructions of SQLite's machine: less than a millisecond, and what a page needs
_GIVEN_AT_ONCE = 200  # rows; for the length of a statement other threads may run
_CHECKPOINT_PAUSE = 0.05  # seconds
_WRITTEN_ANEW = 64 * 1024 * 1024  # bytes of data at most
_RETRY_PAUSE = 0.01  # seconds
_ERASED_AT_ONCE = 500  # ids that are looked for with one statement
_ERRORS = (OSError, sqlite3.Error, UnusableFile)


class SqliteStore(Store):
    """A file of triggers. SQLite adds two, `-wal` and `-shm`."""

    conditions = SqliteConditions(Store.like)
    scan_step = 100_000
    lock_joined = SELECT_JOINED
    has_chains = True
    timeline = TIMELINE
    triggers_of_actor = TRIGGERS_OF_ACTOR
    indexed = ("id",)
    window = 2**12

    def __init__(
        self,
        database: str | os.PathLike[str],
        *,
        busy_timeout: float = 2.0,  # seconds to wait while another connection writes to the file
        read_timeout: float = READ_TIMEOUT,  # seconds for one snapshot
        max_page_bytes: int = MAX_PAGE_BYTES,
    ) -> None:
        """Open a file, or create it with mode 0600; raise InvalidSetting if it cannot be used."""
        super().__init__(max_page_bytes, read_timeout)
        self._path = Path(os.path.abspath(database))
        self._busy_timeout = busy_timeout
        self._writing = threading.Lock()
        self._files: list[tuple[int, int]] = []
        self._writer: sqlite3.Connection | None = None
        try:
            self._writer = self._open_writer()
        except _ERRORS as error:
            raise InvalidSetting(f"database: {os.fspath(database)!r} cannot be used: {error}") from error

    def used_bytes(self) -> int:
        with self.reading() as snapshot:
            ((used,),) = snapshot.execute(_USED_BYTES, [])
            return int(used)

    def overwrite_removed(self, timeout: float) -> bool:
        """Write a small file anew, and empty the file `-wal`; readers may delay that.

        `secure_delete` overwrites rows, but not the copies that stay in a page when SQLite has moved rows from it.
        """
        is_new = self._write_anew()
        deadline = time.monotonic() + timeout
        while True:
            with self._writing:
                if self._closed or self._writer is None:
                    return False
                try:
                    (is_busy, _, _) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                except sqlite3.Error:
                    is_busy = True
            if not is_busy:
                return is_new
            if time.monotonic() > deadline:
                return False
            time.sleep(_CHECKPOINT_PAUSE)

    def _write_anew(self) -> bool:
        """Return False if the file is so large that requests would wait for long, or if that fails."""
        if self.used_bytes() > _WRITTEN_ANEW:
            return False
        with self._writing:
            if self._closed or self._writer is None:
                return False
            try:
                self._writer.execute("VACUUM")
            except sqlite3.Error:
                return False
        return True

    def close(self) -> None:
        self._closed = True  # ends reads
        with self._writing:
            self._close_writer()

    def write(self, action: Callable[[Transaction], T]) -> T:
        with self._transaction() as connection:
            insert, fill = partial(_insert, connection), partial(_fill, connection)
            return action(Transaction(connection.execute, insert, fill, partial(_remove, connection)))

    def given(
        self, columns: Mapping[str, type], rows: Iterable[Sequence[Value]]
    ) -> Iterator[tuple[str, list[Any]]]:
        marks = f"({', '.join('?' * len(columns))})"
        remaining = iter(rows)
        while some := list(islice(remaining, _GIVEN_AT_ONCE)):
            table = f"WITH given ({', '.join(columns)}) AS (VALUES {', '.join([marks] * len(some))}) "
            yield table, list(chain.from_iterable(some))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what the block writes, or roll it back."""
        if not self._writing.acquire(timeout=self._busy_timeout):
            raise StoreUnavailable("other requests are being stored", retry_after=1)
        try:
            if self._closed:
                raise StoreClosed()
            connection = self._writer = self._writer or self._open_writer()
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
            # SQLite does not notice that its file was unlinked; what it writes there is lost with this process.
            if self._identify_files() != self._files:
                raise UnusableFile("a file of the database was replaced")
        except BaseException as error:
            self._close_writer()  # rolls back
            if not isinstance(error, _ERRORS):
                raise
            reason = str(getattr(error, "strerror", None) or error)
            raise self._unavailable(reason, _retry_after(error)) from error
        finally:
            self._writing.release()

    @contextmanager
    def reading(self, timeout: float | None = None) -> Iterator[Snapshot]:
        """Open a connection that sees one snapshot of the store."""
        timeout = self._read_timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout

        def must_end() -> bool:
            return self._closed or time.monotonic() > deadline

        try:
            with closing(self._connect()) as connection:
                connection.set_progress_handler(must_end, _CHECKED_EVERY)
                connection.execute("PRAGMA query_only = ON")
                connection.execute("BEGIN")
                yield Snapshot(connection.execute, LAST_ARRIVAL)  # one transaction writes at a time
        except sqlite3.Error as error:
            if must_end():
                raise self._ended(timeout) from error
            raise StoreUnavailable(f"triggers cannot be read: {error}", retry_after=_retry_after(error)) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw",  # never creates a file
            uri=True,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA trusted_schema = OFF")  # the file may come from others
        return connection

    def _open_writer(self) -> sqlite3.Connection:
        # Only a new file is opened here: closing an existing one would release SQLite's POSIX locks on it.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = self._connect()
        try:
            connection.execute("BEGIN IMMEDIATE")
            with closing(sqlite3.connect(":memory:")) as empty:
                migrate(connection.execute, empty.execute)
            connection.execute("COMMIT")
            if self._set_wal_mode(connection) != "wal":
                raise UnusableFile("its file system does not support WAL mode; give a path on a local disk")
            for pragma in _WRITER_PRAGMAS:
                connection.execute(pragma)
            connection.execute("SELECT * FROM tally").fetchone()  # creates the -wal file
            self._files = self._identify_files()
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_wal_mode(self, connection: sqlite3.Connection) -> Any:
        """Return the journal mode. SQLite does not wait here itself while another process opens the file."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                return connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_PAUSE)

    def _close_writer(self) -> None:
        connection, self._writer = self._writer, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _identify_files(self) -> list[tuple[int, int]]:
        try:
            found = [os.stat(path) for path in (self._path, f"{self._path}-wal")]
        except FileNotFoundError:
            raise UnusableFile("a file of the database was removed") from None
        return [(file.st_dev, file.st_ino) for file in found]


def _insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> tuple[str, ...]:
    new = _without_erased(connection, rows)
    if not new:
        return tuple(row[0] for row in rows)
    last = _skip_removed(connection, new)
    if connection.executemany(_INSERT, new).rowcount == len(rows):
        return ()
    return _repeated(connection, rows, last)


def _without_erased(connection: sqlite3.Connection, rows: Sequence[Row]) -> Sequence[Row]:
    if connection.execute("SELECT 1 FROM erased LIMIT 1").fetchone() is None:
        return rows
    erased = set[str]()
    for first in range(0, len(rows), _ERASED_AT_ONCE):
        ids = [row[0] for row in rows[first : first + _ERASED_AT_ONCE]]
        found = connection.execute(f"SELECT id FROM erased WHERE id IN ({','.join('?' * len(ids))})", ids)
        erased.update(erased_id for (erased_id,) in found)
    return [row for row in rows if row[0] not in erased] if erased else rows


def _remove(connection: sqlite3.Connection, arrivals: Sequence[int], keep_ids: bool) -> list[Removed]:
    there = f"FROM triggers WHERE arrival IN ({','.join(map(str, arrivals))})"
    removed = [Removed(*row) for row in connection.execute(f"SELECT arrival, actor_id {there} ORDER BY arrival")]
    last, _ = connection.execute(_SELECT_LAST).fetchone()
    if keep_ids:
        connection.execute(f"INSERT INTO erased SELECT id {there}")
    connection.execute(f"DELETE {there}")
    connection.execute(_UPDATE_REMOVED, (last,))
    return removed


def _fill(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Value]]
) -> None:
    placeholders = ", ".join("?" * len(columns))
    connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({placeholders})", rows)


def _skip_removed(connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
    """Return the last arrival number; if that trigger was removed, store the first row behind it.

    SQLite would use the number again, and a reader whose cursor is there would miss the new trigger.
    """
    last, removed = connection.execute(_SELECT_LAST).fetchone()
    if last < removed:
        connection.execute(_INSERT_AT, (removed + 1, *rows[0]))
    return int(max(last, removed))


def _repeated(connection: sqlite3.Connection, rows: Sequence[Row], before: int) -> tuple[str, ...]:
    """Return an id for each row that was not stored after an arrival number."""
    new = {
        trigger_id for (trigger_id,) in connection.execute("SELECT id FROM triggers WHERE arrival > ?", (before,))
    }
    repeated = []
    for trigger_id, *_ in rows:
        if trigger_id in new:
            new.remove(trigger_id)  # once
        else:
            repeated.append(trigger_id)
    return tuple(repeated)


def _retry_after(error: Exception) -> int:
    """Return the seconds a client should wait: a lock is released soon, a full disk needs a person."""
    return 1 if "locked" in str(error) else 10
