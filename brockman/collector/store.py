"""The store: a SQLite file in WAL mode. The only module that imports `sqlite3`.

One connection writes, under a lock; each read opens its own, so that readers and the writer do not wait for each
other. After an error the writing connection is closed, and reopened by the next call: no restart is needed once
the disk has room again or the file is back.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from brockman.collector.errors import InvalidSetting, StoreUnavailable
from brockman.collector.schema import (
    INSERT,
    SELECT_COUNTS,
    UPDATE_COUNTS,
    Counts,
    Page,
    Query,
    UnusableFile,
    migrate,
    select,
)
from brockman.collector.validation import Row

_WRITER_PRAGMAS = (
    "PRAGMA synchronous = NORMAL",  # in WAL mode safe against a crash of the process, not a power failure
    "PRAGMA cache_size = -32768",  # KiB
    "PRAGMA wal_autocheckpoint = 4000",  # pages of 4 KiB; each checkpoint is an fsync
)
_ERRORS = (OSError, sqlite3.Error, UnusableFile)
_log = logging.getLogger("brockman.collector")


class Store:
    """A file of triggers. Thread-safe; every method blocks. SQLite adds two, `-wal` and `-shm`."""

    def __init__(
        self,
        database: str | os.PathLike[str],
        *,
        busy_timeout: float = 2.0,  # seconds to wait while another connection writes to the file
        max_page_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        """Open a file, or create it with mode 0600; raise InvalidSetting if it cannot be used."""
        self.stored = 0  # new triggers that this object has stored
        self._max_page_bytes = max_page_bytes
        self._path = Path(os.path.abspath(database))
        self._busy_timeout = busy_timeout
        self._lock = threading.Lock()
        self._closed = False
        self._last_error = ""
        self._files: list[tuple[int, int]] = []
        self._writer: sqlite3.Connection | None = None
        try:
            self._writer = self._open_writer()
        except _ERRORS as error:
            raise InvalidSetting(f"database: {os.fspath(database)!r} cannot be used: {error}") from error

    def add(self, rows: Sequence[Row], *, rejected: int = 0) -> int:
        """Store the triggers of one request in one transaction; return the number of duplicates after the commit.

        Triggers whose id is stored already, or occurs earlier in `rows`, are dropped and counted.

        Raises:
            StoreUnavailable: If nothing was stored.
        """
        with self._locked():
            with self._transaction() as connection:
                new = connection.executemany(INSERT, rows).rowcount if rows else 0
                connection.execute(UPDATE_COUNTS, (new, len(rows) - new, rejected))
            self.stored += new
        return len(rows) - new

    def page(self, query: Query) -> Page:
        """Return the page of triggers for a query; it ends after the trigger that exceeds `max_page_bytes`."""
        counting, selecting, values = select(query)
        bodies: list[str] = []
        size, last = 0, None
        with self._reading() as connection:
            (total,) = connection.execute(counting, values).fetchone()
            for arrival, body in connection.execute(selecting, [*values, query.after]):
                if len(bodies) == query.limit or size > self._max_page_bytes:
                    return Page(bodies, total, last)
                bodies.append(body)
                size, last = size + len(body), arrival
        return Page(bodies, total, None)

    def counts(self) -> Counts:
        """Return the counts, in constant time."""
        with self._reading() as connection:
            return Counts(*connection.execute(SELECT_COUNTS).fetchone())

    def close(self) -> None:
        """Close the file after a write in progress. Idempotent."""
        with self._lock:
            self._closed = True
            self._close_writer()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=self._busy_timeout):
            raise StoreUnavailable("other requests are being stored", retry_after=1)
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what the block writes, or roll it back. The caller holds the lock."""
        if self._closed:
            raise StoreUnavailable("the collector is shutting down", retry_after=1)
        try:
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
            raise self._unavailable(error) from error
        if self._last_error:
            _log.warning("brockman: triggers can be stored again")
            self._last_error = ""

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Open a connection that sees one snapshot of the store."""
        try:
            with closing(self._connect()) as connection:
                connection.execute("PRAGMA query_only = ON")
                connection.execute("BEGIN")
                yield connection
        except sqlite3.Error as error:
            raise StoreUnavailable(f"triggers cannot be read: {error}", retry_after=_retry_after(error)) from error

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        text = f"triggers cannot be stored: {getattr(error, 'strerror', None) or error}"
        if text != self._last_error:  # once, not for each request
            _log.warning("brockman: %s", text)
            self._last_error = text
        return StoreUnavailable(text, retry_after=_retry_after(error))

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
            if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise UnusableFile("its file system does not support WAL mode; give a path on a local disk")
            for pragma in _WRITER_PRAGMAS:
                connection.execute(pragma)
            connection.execute("SELECT * FROM tally").fetchone()  # creates the -wal file
            self._files = self._identify_files()
        except BaseException:
            connection.close()
            raise
        return connection

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


def _retry_after(error: Exception) -> int:
    """Return the seconds a client should wait: a lock is released soon, a full disk needs a person."""
    return 1 if "locked" in str(error) else 10
