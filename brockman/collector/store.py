"""The triggers on disk: SQLite in WAL mode. The only module that imports `sqlite3`.

One connection writes, under a lock; every reading opens a connection of its own, so that neither waits for the
other. After any failure the writing connection is closed, and opened anew at the next call: a disk that has room
again, or a file that was put back, needs no restart.
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
from brockman.collector.schema import COUNT, INSERT, TALLY, Page, Query, Tally, UnusableFile, migrate, select
from brockman.collector.validation import Row

MAX_PAGE_BYTES = 16 * 1024 * 1024
_WRITER_PRAGMAS = (
    "PRAGMA synchronous = NORMAL",  # in WAL mode this outlives the process, though not a power cut
    "PRAGMA cache_size = -32768",  # KiB
    "PRAGMA wal_autocheckpoint = 4000",  # pages of 4 KiB; each checkpoint is an fsync
)
_FAULTS = (OSError, sqlite3.Error, UnusableFile)
_log = logging.getLogger("brockman.collector")


class Store:
    """A file of triggers. Any thread may call any method; all of them block.

    Attributes:
        stored: How many new triggers this object has stored.
    """

    def __init__(self, database: str | os.PathLike[str], *, busy_timeout: float = 2.0) -> None:
        """Open a file, or make it, for its owner alone to read.

        Args:
            database: Path of the file. SQLite keeps two more beside it, `-wal` and `-shm`.
            busy_timeout: Seconds to wait while something else writes to the file.

        Raises:
            InvalidSetting: When the file cannot be used.
        """
        self.stored = 0
        self._path = Path(os.path.abspath(database))
        self._busy_timeout = busy_timeout
        self._lock = threading.Lock()
        self._closed = False
        self._trouble = ""
        self._files: list[tuple[int, int]] = []
        self._writer: sqlite3.Connection | None = None
        try:
            self._writer = self._open_writer()
        except _FAULTS as error:
            raise InvalidSetting(f"database: {os.fspath(database)!r} cannot be used: {error}") from error

    def add(self, rows: Sequence[Row], *, rejected: int = 0) -> int:
        """Store what one request brought, in one transaction. Returns only after the commit.

        Args:
            rows: One whose id is stored already, or occurs earlier among them, is dropped and counted.
            rejected: How many triggers of the request were refused, for the tally.

        Returns:
            How many were duplicates.

        Raises:
            StoreUnavailable: None of them is acknowledged; the sender keeps them.
        """
        with self._locked():
            with self._transaction() as connection:
                new = connection.executemany(INSERT, rows).rowcount if rows else 0
                connection.execute(COUNT, (new, len(rows) - new, rejected))
            self.stored += new
        return len(rows) - new

    def page(self, query: Query) -> Page:
        """Return the triggers that a query asks for, as many as its limit and `MAX_PAGE_BYTES` allow.

        Raises:
            StoreUnavailable: When the file cannot be read.
        """
        counting, finding, values = select(query)
        with self._reading() as connection:
            (total,) = connection.execute(counting, values).fetchone()
            return _fill_page(connection.execute(finding, [*values, query.after]), query.limit, total)

    def tally(self) -> Tally:
        """Return the counts. Costs the same however many triggers there are.

        Raises:
            StoreUnavailable: When the file cannot be read.
        """
        with self._reading() as connection:
            return Tally(*connection.execute(TALLY).fetchone())

    def close(self) -> None:
        """Close the file, after the writing that is under way. Idempotent."""
        with self._lock:
            self._closed = True
            self._drop_writer()

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
        """Commit what the block writes, or nothing of it. The caller holds the lock."""
        if self._closed:
            raise StoreUnavailable("the collector is shutting down", retry_after=1)
        try:
            connection = self._writer = self._writer or self._open_writer()
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
            # What goes into a file that has lost its name is gone with this process, and SQLite does not notice.
            if self._identify_files() != self._files:
                raise UnusableFile("a file of the database was replaced")
        except BaseException as error:
            self._drop_writer()  # rolls back
            if not isinstance(error, _FAULTS):
                raise
            raise self._unavailable(error) from error
        if self._trouble:
            _log.info("triggers can be stored again")
            self._trouble = ""

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that sees one moment of the store throughout the block."""
        try:
            with closing(self._connect()) as connection:
                connection.execute("PRAGMA query_only = ON")
                connection.execute("BEGIN")
                yield connection
        except sqlite3.Error as error:
            raise StoreUnavailable(f"triggers cannot be read: {error}", retry_after=_patience(error)) from error

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        text = f"triggers cannot be stored: {getattr(error, 'strerror', None) or error}"
        if text != self._trouble:  # one line when it begins, not one for each request
            _log.error("%s", text)
            self._trouble = text
        return StoreUnavailable(text, retry_after=_patience(error))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw",  # never makes a file
            uri=True,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA trusted_schema = OFF")  # the file may come from elsewhere
        return connection

    def _open_writer(self) -> sqlite3.Connection:
        # Only a new file is opened here: closing an existing one would drop SQLite's POSIX locks on it.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = self._connect()
        try:
            connection.execute("BEGIN IMMEDIATE")
            with closing(sqlite3.connect(":memory:")) as pattern:
                migrate(connection.execute, pattern.execute)
            connection.execute("COMMIT")
            if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise UnusableFile("its file system allows no WAL mode; give a path on a local disk")
            for pragma in _WRITER_PRAGMAS:
                connection.execute(pragma)
            connection.execute("SELECT * FROM tally").fetchone()  # the first use makes the -wal file
            self._files = self._identify_files()
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop_writer(self) -> None:
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


def _fill_page(rows: sqlite3.Cursor, limit: int, total: int) -> Page:
    bodies: list[str] = []
    size, last = 0, None
    for arrival, body in rows:
        if len(bodies) == limit or size > MAX_PAGE_BYTES:
            return Page(bodies, total, last)
        bodies.append(body)
        size, last = size + len(body), arrival
    return Page(bodies, total, None)


def _patience(error: Exception) -> int:
    """Return the seconds to ask a sender to wait: a lock is soon gone, a full disk needs a person."""
    return 1 if "locked" in str(error) else 10
