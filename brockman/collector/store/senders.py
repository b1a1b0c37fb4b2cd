"""Proof of arrival: the counts of the clients that send, against what came of their triggers.

A client sends its triggers in order, one request at a time, and each request has the counts from before it: a
trigger was `delivered` when its answer came. A request brings some triggers that are new, and perhaps some that
are repeated: because an earlier answer was lost, or since another process had sent them before it died.

`ahead` is the number of a sender's triggers that arrived and are not yet among those it has counted as delivered,
each once. When `delivered` has grown, that number is settled. If it has grown by more than was ahead, another
server has answered for the rest: they are `missing` here. A request adds to `ahead` what was new; of what was
repeated only what exceeds `ahead`, because the rest may be in there already. So a lost answer, a request that is
sent again in parts, and one that arrives late change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from brockman.collector.errors import StoreUnavailable
from brockman.collector.store.statements import Value
from brockman.collector.store.values import Added, Heard, Sender

if TYPE_CHECKING:
    from brockman.collector.store.base import Store

MAX_SENDERS = 10_000  # those last heard of are kept
KEEP_MICROS = 30 * 24 * 3600 * 1_000_000  # after that time without a request a sender is forgotten
_MAX_ROWS = 2**31  # SQLite has no OFFSET without a LIMIT

_NAMES = (
    *("id", "host", "pid", "started", "first_seen", "last_seen"),
    *("recorded", "recovered", "delivered", "rejected", "waiting", "dropped"),
    *("delivered_before", "ahead", "stored", "refused", "missing", "missing_since"),
)
_SAID = ("recorded", "recovered", "delivered", "rejected", "waiting", "dropped")
# An earlier request whose transaction was late; its counts are out of date.
_IS_LATE = "excluded.delivered < senders.delivered"


def _left(column: str, count: str, came: str) -> str:
    """Return what is left in a column after `count` has grown, or what came if that is more."""
    left = f"senders.{column} - (excluded.{count} - senders.{count})"
    return f"CASE WHEN {_IS_LATE} THEN senders.{column} WHEN {left} > {came} THEN {left} ELSE {came} END"


_EXCESS = "excluded.delivered - senders.delivered - senders.ahead"
_NOTE = f"""
    INSERT INTO senders ({", ".join(_NAMES)})
    VALUES ({", ".join("?" for _ in _NAMES)})
    ON CONFLICT (id) DO UPDATE SET
    last_seen = excluded.last_seen,
    {", ".join(f"{name} = CASE WHEN {_IS_LATE} THEN senders.{name} ELSE excluded.{name} END" for name in _SAID)},
    ahead = excluded.stored + {_left("ahead", "delivered", "excluded.ahead - excluded.stored")},
    stored = senders.stored + excluded.stored,
    refused = {_left("refused", "rejected", "excluded.refused")},
    missing = senders.missing + CASE WHEN {_EXCESS} > 0 THEN {_EXCESS} ELSE 0 END,
    missing_since = CASE WHEN {_EXCESS} > 0 AND senders.missing = 0
        THEN senders.last_seen ELSE senders.missing_since END
"""
_FORGET = f"""
    DELETE FROM senders WHERE last_seen < ?
    OR id IN (SELECT id FROM senders ORDER BY last_seen DESC, id DESC LIMIT {_MAX_ROWS} OFFSET ?)
"""
_SELECT = f"""
    SELECT {", ".join(_NAMES)} FROM senders WHERE (last_seen, id) < (?, ?)
    ORDER BY last_seen DESC, id DESC LIMIT ?
"""
FIRST = (2**63 - 1, "")  # before the sender that was last heard of


def make_note(sender: Sender | None, added: Added, refused: int) -> tuple[str, list[Value]] | None:
    """Return a statement that notes what a request says, and what came with it; None if it says nothing.

    It is to be run in the transaction that stores the triggers.
    """
    if sender is None or sender.counts is None:
        return None
    said = sender.counts
    dropped = json.dumps(dict(said.dropped))
    values: list[Value] = [
        *(sender.id, sender.host, sender.pid, sender.started, sender.heard_at, sender.heard_at),
        *(said.recorded, said.recovered, said.delivered, said.rejected, said.waiting, dropped),
        *(said.delivered, added.stored + len(added.repeated), added.stored, refused, 0, None),
    ]
    return _NOTE, values


class Senders:
    """The senders that a store knows."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note_refused(self, sender: Sender) -> None:
        """Note a request whose only trigger is refused; if the store fails, the next request says it too."""
        noted = make_note(sender, Added(0, ()), refused=1)
        if noted is not None:
            with suppress(StoreUnavailable):
                self._store.write(lambda transaction: transaction.execute(*noted))

    def find(self, ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return id, host and process id of those that are known, by id."""
        marks = ", ".join("?" for _ in ids)
        if not marks:
            return {}
        with self._store.reading() as snapshot:
            rows = snapshot.execute(f"SELECT id, host, pid FROM senders WHERE id IN ({marks})", [*ids])
            return {row[0]: dict(zip(("id", "host", "pid"), row, strict=True)) for row in rows}

    def page(self, limit: int, after: tuple[int, str] = FIRST) -> list[Heard]:
        """Return senders, the one that was last heard of first, after the `last_seen` and `id` of another."""
        with self._store.reading() as snapshot:
            return [
                _heard(dict(zip(_NAMES, row, strict=True))) for row in snapshot.execute(_SELECT, [*after, limit])
            ]

    def missing(self) -> int:
        """Return how many triggers are missing, of all senders."""
        with self._store.reading() as snapshot:
            ((missing,),) = snapshot.execute("SELECT coalesce(sum(missing), 0) FROM senders", [])
        return int(missing)

    def forget(self, now: int) -> None:
        """Remove those that were not heard of for long, and those that are too many."""
        self._store.write(lambda transaction: transaction.execute(_FORGET, [now - KEEP_MICROS, MAX_SENDERS]))


def _heard(row: dict[str, Any]) -> Heard:
    """Add to the sender's own counts what its last request has changed."""
    ahead = min(row.pop("ahead"), row["waiting"])  # more, when a trigger was dropped after its answer was lost
    refused = min(row.pop("refused"), row["waiting"] - ahead)
    return Heard(
        **{
            **row,
            "dropped": json.loads(row["dropped"]),
            "waiting": row["waiting"] - ahead - refused,
            "arrived": row["delivered"] - row["delivered_before"] - row["missing"] + ahead,
            "refused": row["rejected"] + refused,
        }
    )
