"""The refused triggers that are kept: the newest, up to a number and a size.

A row of counts, `refused_tally`, is locked by every transaction that changes what is kept: it has the number of
the last one, and how many there are, so that no insert reads through the table. Collectors on one PostgreSQL wait
for each other there, at the end of a transaction only.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Collection, Iterator, Reversible, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Any

from brockman.collector import strict_json
from brockman.collector.errors import StoreUnavailable
from brockman.collector.store.base import MAX_PAGE_BYTES, Store, Transaction
from brockman.collector.store.pruning import Part, Subject
from brockman.collector.store.statements import Value, contains

MAX_COUNT = 10_000
MAX_BYTES = 64 * 1024 * 1024
_ROW_BYTES = 200  # of a row, beside its texts
_COLUMNS = (
    *("number", "id", "actor_id", "action", "object", "reason", "received_at", "sender_id", "body", "text"),
    "size",
)
_LOCK = "UPDATE refused_tally SET kept = kept"
_SELECT_TALLY = "SELECT kept, bytes, removed, last FROM refused_tally"
_UPDATE_TALLY = "UPDATE refused_tally SET kept = ?, bytes = ?, removed = ?, last = ?"
_SELECT_ALL = "SELECT number, actor_id, body, text FROM refused WHERE number > ? ORDER BY number LIMIT 100"
_SELECT_OLDEST = "SELECT number, size FROM refused WHERE number > ? ORDER BY number LIMIT 500"
_log = logging.getLogger("brockman.collector")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A trigger that was refused, or a body that is none."""

    reason: str
    received_at: int  # microseconds since 1970, UTC
    body: str | None = None  # the trigger's JSON, if it is an object
    text: str | None = None  # the start of anything else
    id: str | None = None  # a UUID; of each, the latest refusal is kept
    actor_id: str | None = None
    action: str | None = None
    object: str | None = None
    sender_id: str | None = None

    @property
    def size(self) -> int:
        texts = (self.reason, self.body, self.text, self.actor_id, self.action, self.object)
        return _ROW_BYTES + sum(len(text.encode()) for text in texts if text)


@dataclass(frozen=True, slots=True)
class RefusedQuery:
    """Filters, combined with AND, and a page."""

    action: str | None = None
    object: str | None = None
    actor_id: str | None = None
    reason: str | None = None  # a part of it; A to Z match a to z
    numbers: tuple[int, ...] = ()
    before: int | None = None  # microseconds since 1970; received before it
    limit: int = 100
    after: int | None = None
    newest_first: bool = True


@dataclass(frozen=True, slots=True)
class RefusedPage:
    """Refused triggers, each with its number, and counts."""

    refused: list[tuple[int, Refusal]]
    total: int  # how many match, on all pages
    newest: int  # the highest number so far; 0 if nothing was refused
    removed: int  # how many were pushed out by newer ones
    next: int | None  # the `after` of the next page; None on the last


@dataclass(slots=True)
class _Tally:
    kept: int
    bytes: int
    removed: int
    last: int


class Refused(Part):
    """The refused triggers in a store. Thread-safe."""

    def __init__(self, store: Store, max_count: int = MAX_COUNT, max_bytes: int = MAX_BYTES) -> None:
        self._store = store
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._pending: list[Refusal] = []  # to be stored by the next thread
        self._storing = threading.Lock()
        self.lost = 0  # not kept, since the store failed

    def update(
        self,
        transaction: Transaction,
        refusals: Sequence[Refusal],
        ids: Sequence[str],
        sender_id: str | None = None,
    ) -> None:
        """Keep what was refused in a request, and remove what is stored by now, by its id.

        Part of the transaction that stores the other triggers.
        """
        if ids:
            self._forget(transaction, ids)
        if refusals and self._max_count:
            self._keep(transaction, _sent_by(sender_id, refusals))

    def keep(self, refusals: Sequence[Refusal], sender_id: str | None = None) -> None:
        """Keep refusals in a transaction of their own, shared with other threads. If it fails, they are lost."""
        if not self._max_count:
            return
        refusals = _sent_by(sender_id, refusals)
        with self._lock:
            self._pending += refusals
        with self._storing:
            with self._lock:
                pending, self._pending = self._pending, []
            if not pending:  # another thread has stored them meanwhile
                return
            try:
                self._store.write(lambda transaction: self._keep(transaction, pending))
            except StoreUnavailable as error:
                if not self.lost:
                    _log.warning("brockman: refused triggers are not kept: %s", error)
                self.lost += len(pending)
                return
            lost, self.lost = self.lost, 0
        if lost:
            _log.warning("brockman: refused triggers are kept again; %d are lost", lost)

    def page(self, query: RefusedQuery) -> RefusedPage:
        """Return the page for a query; it ends after the trigger that exceeds `MAX_PAGE_BYTES`."""
        condition, values = self._where(query)
        order = "DESC" if query.newest_first else "ASC"
        after = "" if query.after is None else f"AND number {'<' if query.newest_first else '>'} ?"
        with self._store.reading() as snapshot:
            (tally,) = snapshot.execute(_SELECT_TALLY, [])
            counts = _Tally(*map(int, tally))
            ((total,),) = snapshot.execute(f"SELECT count(*) FROM refused WHERE {condition}", values)
            page = RefusedPage([], int(total), counts.last, counts.removed, None)
            rows = snapshot.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM refused WHERE {condition} {after}"
                f" ORDER BY number {order} LIMIT ?",
                [*values, *([] if query.after is None else [query.after]), query.limit + 1],
            )
            size = 0
            for number, *columns, row_size in rows:
                if len(page.refused) == query.limit or size > MAX_PAGE_BYTES:
                    return replace(page, next=page.refused[-1][0])
                page.refused.append((number, self._read(columns)))
                size += row_size
        return page

    def prune(self, before: int) -> None:
        self.remove(RefusedQuery(before=before))

    def on_erased(self, subject: Subject) -> dict[str, int]:
        ids, identities = subject.actor_ids, subject.identities
        return {"refused": self._store.write(lambda transaction: self.erase(transaction, ids, identities))}

    def remove(self, query: RefusedQuery) -> int:
        """Remove what matches, on all pages; return how many."""
        return self._store.write(lambda transaction: self._delete(transaction, *self._where(query)))

    def erase(
        self, transaction: Transaction, actor_ids: Collection[str], identities: Collection[tuple[str, str]]
    ) -> int:
        """Remove what is about a person, also bodies that are no triggers but name it; return how many.

        Identities are compared without regard to case and blanks around them.
        """
        given = {(name, _normal(value)) for name, value in identities}
        restore, found, last = self._store.restore, list[int](), -1
        while rows := list(transaction.execute(_SELECT_ALL, [last])):
            for number, actor_id, body, text in rows:
                is_actor = actor_id is not None and restore(actor_id) in actor_ids
                if is_actor or _has_identity(body, given) or _names(restore(text or ""), actor_ids, given):
                    found.append(number)
            last = rows[-1][0]
        numbers = json.dumps([*map(str, found)])
        return self._delete(transaction, f"CAST(number AS text) {self._store.is_among}", [numbers])

    def _where(self, query: RefusedQuery) -> tuple[str, list[Value]]:
        conditions, values = ["1 = 1"], list[Value]()
        for name in ("action", "object", "actor_id"):
            value = getattr(query, name)
            if value is not None:
                conditions.append(f"{name} = ?")
                values.append(self._store.escape(value))
        if query.reason is not None:
            conditions.append("lower(reason) LIKE ? ESCAPE '\\'")
            lower = query.reason.encode().lower().decode()  # A to Z only, as `lower` in SQL
            values.append(contains(self._store.escape(lower)))
        if query.numbers:
            conditions.append(f"number IN ({', '.join('?' * len(query.numbers))})")
            values += query.numbers
        if query.before is not None:
            conditions.append("received_at < ?")
            values.append(query.before)
        return " AND ".join(conditions), values

    def _keep(self, transaction: Transaction, refusals: Sequence[Refusal]) -> None:
        latest = {refusal.id or position: refusal for position, refusal in enumerate(refusals)}
        new = list(_fitting(latest.values(), self._max_count, self._max_bytes))[::-1]
        self._delete(transaction, *self._among([refusal.id for refusal in new if refusal.id]))
        tally = _read_tally(transaction)
        transaction.fill("refused", _COLUMNS, starmap(self._write, enumerate(new, tally.last + 1)))
        tally.last, tally.kept = tally.last + len(new), tally.kept + len(new)
        tally.bytes += sum(refusal.size for refusal in new)
        tally.removed += len(latest) - len(new)
        self._remove_oldest(transaction, tally)
        _write_tally(transaction, tally)

    def _remove_oldest(self, transaction: Transaction, tally: _Tally) -> None:
        """Remove the oldest until the others fit."""
        last = None
        for number, size in _oldest(transaction):
            if tally.kept <= self._max_count and tally.bytes <= self._max_bytes:
                break
            last = number
            tally.kept, tally.bytes, tally.removed = tally.kept - 1, tally.bytes - size, tally.removed + 1
        if last is not None:
            transaction.execute("DELETE FROM refused WHERE number <= ?", [last])

    def _forget(self, transaction: Transaction, ids: Sequence[str]) -> None:
        ((kept,),) = transaction.execute("SELECT kept FROM refused_tally", [])
        if kept:
            condition, values = self._among(ids)
            if list(transaction.execute(f"SELECT 1 FROM refused WHERE {condition} LIMIT 1", values)):
                self._delete(transaction, condition, values)

    def _among(self, ids: Sequence[str]) -> tuple[str, list[Value]]:
        return f"id {self._store.is_among}", [json.dumps(ids)]

    def _delete(self, transaction: Transaction, condition: str, values: Sequence[Value]) -> int:
        tally = _read_tally(transaction)
        sums = f"SELECT count(*), coalesce(sum(size), 0) FROM refused WHERE {condition}"
        ((count, size),) = transaction.execute(sums, values)
        if count:
            transaction.execute(f"DELETE FROM refused WHERE {condition}", values)
            tally.kept, tally.bytes = tally.kept - int(count), tally.bytes - int(size)
            _write_tally(transaction, tally)
        return int(count)

    def _write(self, number: int, refusal: Refusal) -> tuple[Value, ...]:
        escape = self._store.escape
        actor_id, action, obj, text = (
            value if value is None else escape(value)
            for value in (refusal.actor_id, refusal.action, refusal.object, refusal.text)
        )
        names = (number, refusal.id, actor_id, action, obj, escape(refusal.reason))
        return (*names, refusal.received_at, refusal.sender_id, refusal.body, text, refusal.size)

    def _read(self, columns: Sequence[Any]) -> Refusal:
        trigger_id, *names, reason, received_at, sender_id, body, text = columns
        restore = self._store.restore
        actor_id, action, obj, text = (value if value is None else restore(value) for value in (*names, text))
        return Refusal(restore(reason), received_at, body, text, trigger_id, actor_id, action, obj, sender_id)


def _normal(value: Any) -> str:
    return (value if isinstance(value, str) else strict_json.dump(value)).strip().casefold()


def _has_identity(body: str | None, given: Collection[tuple[str, str]]) -> bool:
    identities = strict_json.parse(body.encode()).get("captured_identities") if body and given else None
    return isinstance(identities, dict) and any(
        (name, _normal(value)) in given
        for name, values in identities.items()
        for value in (values if isinstance(values, list) else [values])
    )


def _names(text: str, actor_ids: Collection[str], given: Collection[tuple[str, str]]) -> bool:
    """Return whether a text that is no trigger has an id or an identity as a JSON string."""
    folded = text.casefold()
    return any(f'"{_escaped(actor_id)}"' in text for actor_id in actor_ids) or any(
        f'"{_escaped(value)}"' in folded for _, value in given
    )


def _escaped(text: str) -> str:
    return strict_json.dump(text)[1:-1]


def _sent_by(sender_id: str | None, refusals: Sequence[Refusal]) -> Sequence[Refusal]:
    return refusals if sender_id is None else [replace(refusal, sender_id=sender_id) for refusal in refusals]


def _read_tally(transaction: Transaction) -> _Tally:
    """Lock and return the counts."""
    transaction.execute(_LOCK, [])
    (tally,) = transaction.execute(_SELECT_TALLY, [])
    return _Tally(*map(int, tally))


def _write_tally(transaction: Transaction, tally: _Tally) -> None:
    transaction.execute(_UPDATE_TALLY, [tally.kept, tally.bytes, tally.removed, tally.last])


def _oldest(transaction: Transaction) -> Iterator[tuple[int, int]]:
    rows, last = [(0, 0)], -1
    while rows:
        rows = [tuple(row) for row in transaction.execute(_SELECT_OLDEST, [last])]
        for number, size in rows:
            yield number, int(size)
            last = number


def _fitting(refusals: Reversible[Refusal], max_count: int, max_bytes: int) -> Iterator[Refusal]:
    """Yield refusals from the last one on, as long as they fit."""
    size = count = 0
    for refusal in reversed(refusals):
        size, count = size + refusal.size, count + 1
        if size > max_bytes or count > max_count:
            return
        yield refusal
