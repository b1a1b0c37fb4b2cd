"""The interface of a store, and what its engines share."""

from __future__ import annotations

import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, ClassVar, TypeVar

from brockman.collector.errors import StoreClosed, StoreUnavailable
from brockman.collector.store import pruning, senders, statements
from brockman.collector.store.conditions import JsonConditions
from brockman.collector.store.pruning import Part, Removed
from brockman.collector.store.statements import Value
from brockman.collector.store.values import Added, Counts, Overview, Page, Query, Sender
from brockman.collector.store.windows import Window, make_windows
from brockman.collector.validation import Row

Statement = tuple[str, Sequence[Value]]
_log = logging.getLogger("brockman.collector")
T = TypeVar("T")
Execute = Callable[[str, Sequence[Value]], Any]
MAX_PAGE_BYTES = 16 * 1024 * 1024
READ_TIMEOUT = 10.0  # seconds
_RECENT = 5.0  # seconds
_FORGET_EVERY = 1000  # requests
_FILTERS = ("actor_id", "action", "object", "id", "search")
_COUNTED, _RANKED, _TOP = 200_000, 10_000, 10  # the newest triggers for the rate and the ranking; ranks


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of the store, to be read."""

    execute: Callable[[str, Sequence[Value]], Iterator[Any]]  # rows, read as they are needed
    horizon: int  # triggers that are not committed yet have a higher arrival number


@dataclass(frozen=True, slots=True)
class Transaction:
    """Changes of the store: all of them are committed, or none."""

    execute: Callable[[str, Sequence[Value]], Any]
    insert: Callable[[Sequence[Row]], tuple[str, ...]]  # stores the new rows, and returns the ids of the others
    fill: Callable[[str, Sequence[str], Iterable[Sequence[Value]]], None]  # stores rows of a table, by its columns
    # Removes triggers by their arrival numbers, in order; with True, their ids are never stored again.
    remove: Callable[[Sequence[int], bool], list[Removed]]


class Store(ABC):
    """Triggers, each once by its id. Thread-safe; every method blocks, and raises StoreUnavailable if it fails.

    An engine has its way of opening, of storing many triggers, and of removing them. All other statements are
    shared: a method here runs them in a transaction, or reads a snapshot.
    """

    filters: ClassVar[dict[str, str]] = {}  # conditions of a query that are not as in `statements`
    conditions: ClassVar[JsonConditions]
    # With the number of characters that each has, if not all; an index that there is finds the triggers.
    actor_columns: ClassVar[tuple[tuple[str, int | None], ...]] = (("actor_id", None),)
    indexed: ClassVar[tuple[str, ...]] = ()  # fields of a query whose triggers are found without a scan
    tally_row: ClassVar[str] = ""  # the condition for the row of the tally in which a transaction counts
    scan_step: ClassVar[int] = 0  # arrival numbers whose triggers are read with one statement
    is_among: ClassVar[str] = (
        "IN (SELECT value FROM json_each(?))"  # what follows a column; an array of texts as JSON
    )
    lock_joined: ClassVar[str] = ""  # selects the row of `joined`, unless another collector has it locked
    like: ClassVar[str] = "{} LIKE ? ESCAPE '\\'"  # A to Z match a to z
    triggers_of_actor: ClassVar[str] = ""  # selects when they were recorded, and their JSON
    has_chains: ClassVar[bool] = False  # events have the one before of the same actor
    timeline: ClassVar[dict[bool, str]] = {}  # selects the triggers of a person, by whether the newest come first

    window = 0  # arrival numbers that a scan reads first; the time decides how many are next
    budget = 0.5  # seconds for the page of a scan

    def __init__(self, max_page_bytes: int, read_timeout: float) -> None:
        self.stored = 0  # new triggers that this object has stored
        self.parts: tuple[Part, ...] = ()
        self._read_timeout = read_timeout
        self._closed = False
        self.max_page_bytes = max_page_bytes
        self._lock = threading.Lock()  # held while a count or the list of watchers changes
        self._watchers: tuple[Callable[[], None], ...] = ()
        self._last_error = ""  # since the last request that was stored
        self._failed_at = -math.inf  # the last request
        self._requests = count()  # whose sender is known

    @abstractmethod
    def used_bytes(self) -> int:
        """Return the bytes that hold data; those that were freed, and wait for new triggers, do not count."""

    @abstractmethod
    def overwrite_removed(self, timeout: float) -> bool:
        """Let no file have what was removed; return False if that takes longer, or is up to the database."""

    @abstractmethod
    def close(self) -> None:
        """Close the store after a write in progress; end reads. Idempotent."""

    @abstractmethod
    def write(self, action: Callable[[Transaction], T]) -> T:
        """Run an action in a transaction; return what it returns, after the commit. It may be run again."""

    @abstractmethod
    def reading(self, timeout: float | None = None) -> AbstractContextManager[Snapshot]:
        """Return a snapshot for the length of a block.

        A statement that runs when the seconds of the timeout are over, or when the store is closed, raises
        StoreUnavailable. None stands for the timeout of the store, and infinity for none.
        """

    @abstractmethod
    def given(
        self, columns: Mapping[str, type], rows: Iterable[Sequence[Value]]
    ) -> Iterator[tuple[str, list[Any]]]:
        """Yield what to write before a statement to let it use rows as a table `given`, with their values.

        Perhaps in several parts: the statement is run after each. A type is int, str or bytes.
        """

    def select_given(
        self, execute: Execute, statement: str, columns: Mapping[str, type], rows: Iterable[Sequence[Value]]
    ) -> Iterator[Any]:
        """Yield what a statement selects that has rows as a table `given`."""
        for table, values in self.given(columns, rows):
            yield from execute(table + statement, values)

    def run_given(
        self, execute: Execute, statement: str, columns: Mapping[str, type], rows: Iterable[Sequence[Value]]
    ) -> None:
        """Run a statement that changes something, and has rows as a table `given`."""
        for table, values in self.given(columns, rows):
            execute(table + statement, values)

    def add(
        self,
        rows: Sequence[Row],
        *,
        rejected: int = 0,
        sender: Sender | None = None,
        also: Sequence[Callable[[Transaction], None]] = (),
    ) -> Added:
        """Store the triggers of one request in one transaction; return after the commit.

        Triggers whose id is stored already, or occurs earlier in `rows`, are dropped and counted. The sender's
        counts are noted in the same transaction. `also` has what else it does, at its end.

        Raises:
            StoreUnavailable: If nothing was stored.
        """

        def store(transaction: Transaction) -> Added:
            repeated = transaction.insert(rows) if rows else ()
            stored = len(rows) - len(repeated)
            tally = f"{statements.UPDATE_TALLY} {self.tally_row}"
            added = Added(stored, repeated)
            counts = (tally, [stored, len(repeated), rejected, 1])
            noted = senders.make_note(sender, added, rejected)
            for statement, values in self._join(counts, noted) if noted else [counts]:
                transaction.execute(statement, values)
            for action in also:
                action(transaction)
            return added

        try:
            added = self.write(store)
        except StoreUnavailable:
            self._failed_at = time.monotonic()
            raise
        self._has_added(added.stored)
        if added.stored:
            self._notify()
        if sender is not None:
            self._forget_senders(sender.heard_at)
        return added

    def prune(self, before: int) -> int:
        """Remove the triggers received before a time (microseconds since 1970); return how many.

        In pieces, with as much time for requests in between.
        """
        with self._removing() as is_first:
            if not is_first:
                return 0
            removed, after = self._remove_months(before), -1
            while arrivals := self._select_old(after, before):
                started = time.monotonic()
                removed += self.write(lambda transaction: self.remove(transaction, arrivals))
                after = arrivals[-1]
                time.sleep(time.monotonic() - started)
            for part in self.parts:
                part.prune(before)
        return removed

    def shrink(self, max_bytes: int) -> int:
        """Remove the oldest triggers until the others fit; return how many."""
        removed = 0
        while number := pruning.excess(self.counts().triggers, self.used_bytes(), max_bytes):
            with self.reading(math.inf) as snapshot:
                ((moment,),) = snapshot.execute(*pruning.select_moment(number - 1))
            some = 0 if moment is None else self.prune(moment + 1)
            if not some:
                break
            removed += some
        return removed

    def remove(self, transaction: Transaction, arrivals: Sequence[int], *, keep_ids: bool = False) -> int:
        """Remove triggers by their arrival numbers, in order, and what the parts keep about them; return how many.

        With `keep_ids` they count as stored before, when they are sent again.
        """
        removed = transaction.remove(arrivals, keep_ids)
        self._has_removed(transaction, removed)
        return len(removed)

    def page(self, query: Query) -> Page:
        """Return the page of triggers for a query.

        It ends after the trigger that exceeds the limit of bytes, and when a scan has used its budget.
        """
        query = self._translate(query)
        page = Page([], [], total=None, newest=0, next=None)
        with self.reading() as snapshot:
            if query.count:
                ((total,),) = snapshot.execute(*statements.count(query, self.filters))
                page = replace(page, total=int(total))
            ((newest,),) = snapshot.execute(statements.NEWEST, [snapshot.horizon])
            page = replace(page, newest=int(newest))
            first, last = statements.bounds(query, min(snapshot.horizon, page.newest))
            size, budget = last + 1, 0.0
            if self._is_scan(query):
                size, budget = self.window, self.budget
                ((oldest,),) = snapshot.execute(statements.OLDEST, [])
                first = max(first, int(oldest))
            for window in make_windows(first, last, size, budget, newest_first=query.newest_first):
                if self._read_into(page, query, window, snapshot):
                    return replace(page, next=page.arrivals[-1])
            page = replace(page, next=window.next)
            if page.next is not None:
                received = statements.received(newest_first=query.newest_first)
                for (moment,) in snapshot.execute(received, [page.next]):
                    page = replace(page, searched_to=int(moment))
        return page

    def overview(self, since: int) -> Overview:
        """Return the rate since a moment of receipt, and what is frequent among the newest triggers."""
        with self.reading() as snapshot:
            horizon = snapshot.horizon
            minutes = [tuple(row) for row in snapshot.execute(statements.per_minute(_COUNTED), [horizon, since])]
            actions, objects = (
                [
                    (self.restore(text), number)
                    for text, number in snapshot.execute(
                        statements.most_frequent(_RANKED, column, _TOP), [horizon]
                    )
                ]
                for column in ("action", "object")
            )
        return Overview(minutes, actions, objects, sum(number for _, number in minutes) >= _COUNTED)

    def counts(self) -> Counts:
        """Return the counts, in constant time."""
        with self.reading() as snapshot:
            (counts,) = snapshot.execute(statements.COUNTS, [])
            return Counts(*map(int, counts))

    def recent_error(self) -> str | None:
        """Return why a request could not be stored in the last seconds, unless another one was since."""
        with self._lock:
            is_recent = time.monotonic() - self._failed_at < _RECENT
            return (self._last_error or None) if is_recent else None

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call a function soon after triggers were stored, once for many; return a function that ends it.

        Triggers that any collector on the same PostgreSQL has stored count. The function is called in a thread of
        the store, and must not block; `page` with a cursor finds what is new. It may be called without reason.
        """
        with self._lock:
            self._watchers = (*self._watchers, callback)

        def end() -> None:
            with self._lock:
                self._watchers = tuple(watcher for watcher in self._watchers if watcher is not callback)

        return end

    def escape(self, text: str) -> str:
        """Return a text as the columns have it."""
        return text

    def restore(self, text: str) -> str:
        """Return a text as it was before `escape`."""
        return text

    def _join(self, *given: Statement) -> Sequence[Statement]:
        """Return statements that do the same in fewer round trips to a server."""
        return given

    @contextmanager
    def _removing(self) -> Iterator[bool]:
        """Have one collector at a time remove; return whether it is this one."""
        yield True

    def _remove_months(self, before: int) -> int:
        """Remove what an engine can remove at once; return how many."""
        return 0

    def _select_old(self, after: int, before: int) -> list[int]:
        with self.reading(math.inf) as snapshot:
            return [arrival for (arrival,) in snapshot.execute(*pruning.select_old(after, before))]

    def _has_removed(self, transaction: Transaction, removed: Sequence[Removed]) -> None:
        for part in self.parts:
            part.on_removed(transaction, removed)
        statement = f"{statements.COUNT_REMOVED} {self.tally_row}"
        transaction.execute(statement, [len(removed), len(removed)])

    def _is_scan(self, query: Query) -> bool:
        """Return whether no index finds the triggers of a query."""
        given = [name for name in _FILTERS if getattr(query, name) is not None]
        return bool(given) and not any(name in self.indexed for name in given)

    def _read_into(self, page: Page, query: Query, window: Window, snapshot: Snapshot) -> bool:
        """Add the triggers of a window to a page; return whether it is full, and there are more."""
        size = sum(map(len, page.bodies))
        max_bytes = self.max_page_bytes if query.max_bytes is None else query.max_bytes
        for arrival, body in snapshot.execute(*statements.select(query, self.filters, window.first, window.last)):
            if len(page.bodies) == query.limit or size > max_bytes:
                return True
            page.bodies.append(body)
            page.arrivals.append(arrival)
            size += len(body)
        return False

    def _translate(self, query: Query) -> Query:
        actor_id, action, obj = query.actor_id, query.action, query.object
        return replace(
            query,
            actor_id=actor_id and self.escape(actor_id),
            action=action and self.escape(action),
            object=obj and self.escape(obj),
        )

    def _notify(self) -> None:
        """Let the watchers be called soon."""
        self._call_watchers()

    def _call_watchers(self) -> None:
        for watcher in self._watchers:
            try:
                watcher()
            except Exception:
                _log.exception("brockman: a watcher of the store failed")

    def _forget_senders(self, now: int) -> None:
        """Forget old senders, once in many requests."""
        if next(self._requests) % _FORGET_EVERY == 0:
            with suppress(StoreUnavailable):
                senders.Senders(self).forget(now)

    def _has_added(self, stored: int) -> None:
        """Count what was committed, and report the end of a problem."""
        with self._lock:
            self.stored += stored
            had_error, self._last_error = self._last_error, ""
        if had_error:
            _log.warning("brockman: triggers can be stored again")

    def _ended(self, timeout: float) -> StoreUnavailable:
        """Return the error for a read that was ended before it was complete."""
        if self._closed:
            return StoreClosed()
        return StoreUnavailable(f"reading took longer than {timeout:g} s; ask for less", retry_after=10)

    def _unavailable(self, reason: str, retry_after: int, details: str = "") -> StoreUnavailable:
        """Return the error for a request that could not be stored; log it once, not for each request."""
        text = f"triggers cannot be stored: {reason}"
        with self._lock:
            is_new, self._last_error = text != self._last_error, text
        if is_new:
            _log.warning("brockman: %s%s", text, f" ({details})" if details and details != reason else "")
        return StoreUnavailable(text, retry_after=retry_after)
