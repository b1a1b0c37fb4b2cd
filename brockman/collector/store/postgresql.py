"""A store in a PostgreSQL database, for any number of collectors. The only module that imports `psycopg`.

Some connections write, others read, each kept for the next request; `postgresql_schema` explains the tables. A
lost connection is replaced within the request: the ids tell what was committed before. Without a server, a request
fails at once, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from itertools import chain, count
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from brockman.collector.errors import InvalidSetting, StoreClosed, StoreUnavailable
from brockman.collector.store import postgresql_schema as schema
from brockman.collector.store.base import MAX_PAGE_BYTES, READ_TIMEOUT, Snapshot, Statement, Store, T, Transaction
from brockman.collector.store.conditions import PostgresqlConditions
from brockman.collector.store.connections import Connections
from brockman.collector.store.location import is_ambiguous, without_password
from brockman.collector.store.notices import Notices
from brockman.collector.store.pruning import Removed
from brockman.collector.store.statements import COUNT_REMOVED, COUNTS, SELECT_JOINED, Value
from brockman.collector.validation import Row

Connection = psycopg.Connection[Any]
_DEFAULTS = {  # parameters of libpq, unless the URL has them
    "application_name": "brockman collector",
    "connect_timeout": "5",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "client_encoding": "utf8",
}
_ATTEMPTS, _LAST_ATTEMPT = 3, 2
_PASSING = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure, psycopg.errors.CheckViolation)
# The first characters of SQLSTATE, and the seconds a client should wait; 10 for all others.
_RETRY_AFTER = {"40": 1, "53300": 1, "55": 1, "57014": 1, "57P": 2}
_PRUNED_AT_ONCE = 20_000  # ids
_PRUNE_TIMEOUT = 600  # seconds for a statement
_ROWS_AT_ONCE = 500  # that a reader fetches
# PostgreSQL's text has no NUL characters. In its place the columns have a pair that begins with a noncharacter.
_ESCAPE = "\ufdd0"


class PostgresqlStore(Store):
    """The triggers in a database."""

    filters = schema.FILTERS
    conditions = PostgresqlConditions(schema.LIKE)
    actor_columns = (("left(actor_id, 64)", 64), ("actor_id", None))
    indexed = ("id", "actor_id")
    window = 16 * schema.BLOCK
    tally_row = schema.TALLY_ROW
    scan_step = 1000 * schema.BLOCK
    is_among = "= ANY(ARRAY(SELECT json_array_elements_text(?::json)))"  # uses an index, unlike IN
    lock_joined = f"{SELECT_JOINED} FOR UPDATE SKIP LOCKED"
    like = schema.LIKE
    timeline = schema.TIMELINE
    triggers_of_actor = schema.TRIGGERS_OF_ACTOR

    def __init__(
        self,
        url: str,
        *,
        busy_timeout: float = 2.0,  # seconds to wait for a connection or a lock
        statement_timeout: float = 20.0,
        connections: int = 4,  # that write, and that read
        read_timeout: float = READ_TIMEOUT,  # seconds for a statement of a snapshot
        max_page_bytes: int = MAX_PAGE_BYTES,
    ) -> None:
        """Connect, and make the tables or apply missing migrations; raise InvalidSetting if that fails."""
        super().__init__(max_page_bytes, read_timeout)
        self._parameters = {**_DEFAULTS, **_parse(url)}
        self._set_up = (
            f"SET search_path = {schema.SCHEMA}, pg_catalog; "
            f"SET lock_timeout = '{busy_timeout:.3f}s'; SET statement_timeout = '{statement_timeout:.3f}s'; "
            "SET idle_in_transaction_session_timeout = '60s'"
        )
        self._partitions: frozenset[str] = frozenset()  # that are known to exist
        try:
            with self._connect() as connection, connection.transaction():
                _lock_tables(connection)  # several collectors may start at once
                schema.migrate(lambda statement: _run(connection, statement))
        except (psycopg.Error, schema.UnusableDatabase) as error:
            name = without_password(url)
            raise InvalidSetting(f"database: {name!r} cannot be used: {_first_line(error)}") from None
        self._writers = Connections(self._connect, connections, busy_timeout)
        self._readers = Connections(self._connect_reader, connections, busy_timeout)
        self._notices = Notices(self._connect, schema.CHANNEL, self._call_watchers, psycopg.Error)

    def used_bytes(self) -> int:
        """Return an estimate: removed rows leave holes in the tables, which PostgreSQL fills again.

        Removal goes by age, so a page is either full, as a sample shows, or empty.
        """
        with self.reading() as snapshot:
            ((size, pages),) = snapshot.execute(schema.SELECT_SIZE, [])
            percent = min(100.0, 100.0 * schema.SAMPLED_PAGES / max(1, int(pages)))
            ((rows, filled),) = snapshot.execute(schema.sample_pages(percent), [])
            ((triggers, *_),) = snapshot.execute(COUNTS, [])
        if not rows:
            return int(size) if triggers else 0
        return int(float(size) * min(1.0, float(triggers) * filled / (rows * int(pages))))

    def overwrite_removed(self, timeout: float) -> bool:
        """Return False: VACUUM does, which autovacuum starts."""
        return False

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._notices.start()
        return super().watch(callback)

    def close(self) -> None:
        self._closed = True
        self._notices.close()
        self._writers.close()
        self._readers.close()
        self._readers.end(cancel=True)
        self._writers.end(cancel=False)

    def escape(self, text: str) -> str:
        return text.replace(_ESCAPE, f"{_ESCAPE}1").replace("\0", f"{_ESCAPE}0")

    def restore(self, text: str) -> str:
        return text.replace(f"{_ESCAPE}0", "\0").replace(f"{_ESCAPE}1", _ESCAPE)

    @contextmanager
    def reading(self, timeout: float | None = None) -> Iterator[Snapshot]:
        timeout = self._read_timeout if timeout is None else timeout
        try:
            with ExitStack() as stack:
                connection, horizon = self._begin_reading(stack)
                milliseconds = 0 if timeout == math.inf else max(1, int(timeout * 1000))
                _run(connection, f"SET LOCAL statement_timeout = {milliseconds}")
                numbers = count()

                def execute(statement: str, values: Sequence[Value]) -> Iterator[Any]:
                    if self._closed:
                        raise self._ended(timeout)
                    cursor = stack.enter_context(connection.cursor(f"read_{next(numbers)}"))
                    cursor.itersize = _ROWS_AT_ONCE
                    cursor.execute(_translate(statement), values)
                    return iter(cursor)

                yield Snapshot(execute, horizon)
        except psycopg.errors.QueryCanceled as error:
            raise self._ended(timeout) from error
        except psycopg.Error as error:
            if self._closed:
                raise self._ended(timeout) from error
            reason, _ = _explain(error)
            raise StoreUnavailable(
                f"triggers cannot be read: {reason}", retry_after=_retry_after(error)
            ) from error

    def _begin_reading(self, stack: ExitStack) -> tuple[Connection, int]:
        """Begin a transaction, which the stack ends; return the horizon too. A lost connection is replaced."""
        for attempt in range(_ATTEMPTS):
            with ExitStack() as trial:
                connection = trial.enter_context(self._readers.connection())
                try:
                    horizon = _find_horizon(connection)
                except psycopg.Error:
                    if attempt < _LAST_ATTEMPT and connection.closed:
                        self._readers.discard()  # the others, most likely, are lost too
                        continue
                    raise
                trial.enter_context(connection.transaction())
                stack.push(trial.pop_all())
                return connection, horizon
        raise AssertionError("the last attempt returns or raises")

    def write(self, action: Callable[[Transaction], T]) -> T:
        """Again after a deadlock, or with another connection for a lost one."""
        for attempt in range(_ATTEMPTS):
            was_lost = False
            try:
                with self._writers.connection() as connection:
                    try:
                        with connection.transaction():
                            return action(self._transaction(connection))
                    finally:
                        was_lost = connection.closed
            except psycopg.Error as error:
                self._partitions = frozenset()
                if attempt == _LAST_ATTEMPT or not (was_lost or isinstance(error, _PASSING)):
                    raise self._failed(error) from error
                if was_lost:
                    self._writers.discard()
        raise AssertionError("the last attempt returns or raises")

    def given(
        self, columns: Mapping[str, type], rows: Iterable[Sequence[Value]]
    ) -> Iterator[tuple[str, list[Any]]]:
        arrays = list(zip(*rows, strict=True))
        if arrays:
            marks = ", ".join(schema.ARRAYS[kind] for kind in columns.values())
            values = [
                ",".join(map(str, array)) if kind is int else list(array)  # a list takes longer
                for kind, array in zip(columns.values(), arrays, strict=True)
            ]
            yield f"WITH given ({', '.join(columns)}) AS (SELECT * FROM unnest({marks})) ", values

    def _transaction(self, connection: Connection) -> Transaction:
        execute, insert = partial(_execute, connection), partial(self._insert, connection)
        return Transaction(execute, insert, partial(_fill, connection), partial(_remove, connection))

    def _insert(self, connection: Connection, rows: Sequence[Row]) -> tuple[str, ...]:
        if len(rows) >= schema.BLOCK:
            raise ValueError(f"{len(rows)} triggers in one request; at most {schema.BLOCK - 1}")
        self._create_partitions(connection, rows)
        found = _run(connection, schema.INSERT_IDS, ",".join([row[0] for row in rows])).fetchall()
        if found:
            self._copy(connection, [(arrival, rows[arrival - block - 1]) for arrival, block in found])
        if len(found) == len(rows):
            return ()
        new = {arrival - block - 1 for arrival, block in found}
        return tuple(row[0] for position, row in enumerate(rows) if position not in new)

    def _copy(self, connection: Connection, rows: Sequence[tuple[int, Row]]) -> None:
        escape = self.escape
        with connection.cursor() as cursor, cursor.copy(schema.COPY_TRIGGERS) as copy:
            copy.set_types(schema.COPY_TYPES)
            for arrival, (_, actor_id, action, obj, *rest) in rows:
                copy.write_row((arrival, escape(actor_id), escape(action), escape(obj), *rest))

    def _create_partitions(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Create the partitions of the months in which the triggers were received."""
        needed = {schema.partition_of(received_at) for received_at in {row[5] for row in rows}}
        if not needed <= self._partitions:
            _lock_tables(connection)
            existing = {partition for (partition,) in _run(connection, schema.SELECT_PARTITIONS)}
            for partition in sorted(needed - existing):
                for statement in schema.create_partition(partition):
                    _run(connection, statement)
            self._partitions |= needed

    def _join(self, *given: Statement) -> Sequence[Statement]:
        *first, (last, last_values) = given
        parts = ", ".join(f"part_{number} AS ({statement})" for number, (statement, _) in enumerate(first))
        return [(f"WITH {parts} {last}", [*chain.from_iterable(values for _, values in first), *last_values])]

    def _notify(self) -> None:
        self._notices.send()

    @contextmanager
    def _removing(self) -> Iterator[bool]:
        try:
            with closing(self._connect()) as connection:
                (is_first,) = _one(connection, "SELECT pg_try_advisory_lock(%s)", schema.PRUNE_LOCK)
                yield is_first
        except psycopg.Error as error:
            reason, _ = _explain(error)
            text = f"old triggers cannot be removed: {reason}"
            raise StoreUnavailable(text, retry_after=_retry_after(error)) from error

    def _remove_months(self, before: int) -> int:
        removed = 0
        with closing(self._connect()) as connection:
            _run(connection, f"SET statement_timeout = '{_PRUNE_TIMEOUT}s'")
            for (partition,) in _run(connection, schema.SELECT_PARTITIONS).fetchall():
                if schema.bounds_of(partition)[1] <= before:
                    removed += _detach(connection, partition)
            # Also of an interrupted call. Without its triggers an id does no harm; a trigger needs its id.
            for (detached,) in _run(connection, schema.SELECT_DETACHED).fetchall():
                self._forget(connection, detached)
                _run(connection, f"DROP TABLE {detached}")
        return removed

    def _forget(self, connection: Connection, detached: str) -> None:
        """Delete the ids of a detached partition, and what the parts have, some in each transaction."""
        after, statement = 0, schema.delete_some_ids(detached)
        while True:
            if self._closed:
                raise StoreClosed
            with connection.transaction():
                rows = _run(connection, statement, after, _PRUNED_AT_ONCE).fetchall()
                removed = [Removed(arrival, actor_id) for arrival, actor_id, is_new in rows if is_new]
                for part in self.parts:
                    part.on_removed(self._transaction(connection), removed)
            if not rows:
                return
            after = rows[-1][0]

    def _failed(self, error: psycopg.Error) -> StoreUnavailable:
        if self._closed:
            return StoreClosed()
        reason, details = _explain(error)
        return self._unavailable(reason, _retry_after(error), details)

    def _connect(self) -> Connection:
        connection = psycopg.connect(**self._parameters, autocommit=True)
        try:
            _run(connection, self._set_up)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_reader(self) -> Connection:
        connection = self._connect()
        # The statements about groups sort much, and to compile one takes longer than to run it.
        _run(connection, "SET work_mem = '32MB'; SET jit = off")
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ  # count and page see the same
        return connection


def _parse(url: str) -> dict[str, Any]:
    with suppress(psycopg.Error):  # its text may have a part of the password
        parameters = conninfo_to_dict(url)
        if "@" not in str(parameters.get("host")) and not is_ambiguous(url):
            return parameters
    raise InvalidSetting(
        "database: the URL is malformed; give postgresql://user@host:port/database, and write special characters "
        "of a password as %XX"
    )


def _lock_tables(connection: Connection) -> None:
    """Wait until no other collector changes tables; the transaction holds the lock."""
    _run(connection, "SELECT pg_advisory_xact_lock(%s)", schema.TABLES_LOCK)


def _find_horizon(connection: Connection) -> int:
    """Return an arrival number; triggers up to it are committed already, or never will be.

    The order of the statements counts: a transaction that locks after the second one draws a later block, and one
    that unlocked before is in every snapshot from now on.
    """
    (last,) = _one(connection, schema.SELECT_LAST_BLOCK)
    (uncommitted,) = _one(connection, schema.SELECT_FIRST_UNCOMMITTED)
    return int(min(last, last if uncommitted is None else uncommitted)) + schema.BLOCK - 1


def _detach(connection: Connection, partition: str) -> int:
    """Remove a partition from the triggers, and return how many it has."""
    with connection.transaction():
        _lock_tables(connection)
        (block,) = _one(connection, "SELECT nextval('blocks')")
        for statement in schema.detach_partition(partition, f"removed_{block}"):
            _run(connection, statement)
        (removed,) = _one(connection, f"SELECT count(*) FROM removed_{block}")
        _execute(connection, f"{COUNT_REMOVED} {schema.TALLY_ROW}", [removed, removed])
    return int(removed)


def _remove(connection: Connection, arrivals: Sequence[int], keep_ids: bool) -> list[Removed]:
    removed = [Removed(*row) for row in _run(connection, schema.delete_triggers(arrivals))]
    removed.sort()
    if removed and not keep_ids:  # others may have been erased meanwhile, and their ids are kept
        _run(connection, schema.delete_ids([trigger.arrival for trigger in removed]))
    return removed


def _translate(statement: str) -> bytes:
    """Return a shared statement with the placeholders of psycopg."""
    return statement.replace("%", "%%").replace("?", "%s").encode()


def _execute(connection: Connection, statement: str, values: Sequence[Value]) -> psycopg.Cursor[Any]:
    return connection.execute(_translate(statement), values)


def _fill(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in rows:
            copy.write_row(row)


def _run(connection: Connection, statement: str, *values: Value) -> psycopg.Cursor[Any]:
    return connection.execute(statement.encode(), values or None)


def _one(connection: Connection, statement: str, *values: Value) -> Any:
    return _run(connection, statement, *values).fetchone()


def _explain(error: psycopg.Error) -> tuple[str, str]:
    """Return the reason for clients, and details for the log: the name of the server is not for clients."""
    is_lost = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
    details = _first_line(error)
    return "no connection to PostgreSQL" if is_lost else error.diag.message_primary or details, details


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _retry_after(error: psycopg.Error) -> int:
    state = error.sqlstate or ""
    return next((seconds for prefix, seconds in _RETRY_AFTER.items() if state.startswith(prefix)), 10)
