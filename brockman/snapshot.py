"""Read the counts while other threads change them."""

from __future__ import annotations

import calendar
import json

from brockman.buffer.base import Buffer
from brockman.buffer.counters import Ledger
from brockman.buffer.memory import READ_TRIES
from brockman.process.clock import wall
from brockman.stats import Stats


def read_stats(buffer: Buffer, ledger: Ledger) -> Stats:
    """Return a snapshot, read again until nothing moved meanwhile. Takes no lock and does not block."""
    for _ in range(READ_TRIES):
        version, removed = buffer.version, buffer.removed
        queued, in_flight, size = len(buffer), buffer.in_flight, buffer.waiting_bytes
        delivered, rejected = ledger.delivered, ledger.rejected
        recovered, left = ledger.recovered, ledger.left
        dropped = dict(ledger.dropped)
        dropped["overflow"] += buffer.evicted
        still = version == buffer.version and removed == buffer.removed
        if still and version % 2 == 0 and not buffer.evicted:
            break
    return Stats(
        recorded=delivered + rejected + sum(dropped.values()) + queued + left + in_flight - recovered,
        recovered=recovered,
        queued=queued + left,
        in_flight=in_flight,
        delivered=delivered,
        rejected=rejected,
        dropped={reason: count for reason, count in dropped.items() if count},
        retries=ledger.retries,
        batches=ledger.batches,
        queued_bytes=size,
        oldest_age=_age(buffer.oldest),
        last_error=ledger.last_error,
        spool_error=buffer.trouble,
    )


def _age(body: bytes | None) -> float | None:
    """Return the seconds since a trigger was recorded."""
    if body is None:
        return None
    try:
        text = json.loads(body)["recorded_at"]  # "2026-11-23T17:22:32.123456Z"
        # By hand: CPython 3.13.0 crashes on an aware datetime in a finalizer at the end of the process.
        moment = tuple(map(int, (text[:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19])))
        return max(0.0, wall() - calendar.timegm(moment) - float("0" + text[19:-1]))
    except (ValueError, KeyError, TypeError):  # in a spool, somebody else may have made it
        return None
