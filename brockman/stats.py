"""What the counts look like from outside. Values only: no locks, no clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stats:
    """A snapshot of the counts of one process and the same settings. At every instant::

        recorded + recovered = delivered + rejected + sum(dropped.values()) + queued + in_flight

    Attributes:
        recorded: Triggers that came: calls of `record_trigger` that returned, or raised `BufferFull`;
            and what came by way of a Celery task.
        recovered: Adopted from the spool of processes that are gone.
        queued: Waiting in the buffer, or left on disk by it for others.
        in_flight: Taken from the buffer, not settled yet (being sent, or waiting for the next attempt).
        delivered: Accepted by the server.
        rejected: Refused by the server for good.
        dropped: Lost on this side, by reason: `overflow`, `invalid`, `filtered`, `hook_failed`, `closed`,
            `disabled`, `misconfigured` and `untracked` (in Django), `damaged` (in the spool), `shutdown`.
        retries: Attempts beyond the first, for whatever cause.
        batches: Requests that were accepted in whole or in part.
        queued_bytes: Encoded size of what is queued, in bytes; on disk with its frames.
        oldest_age: Seconds since the oldest trigger not settled was recorded; None when there is none.
        last_error: What the last failed attempt said; None when there was none.
        spool_error: Why triggers cannot be left on disk at present; None when they can, or are not to be.
    """

    recorded: int = 0
    recovered: int = 0
    queued: int = 0
    in_flight: int = 0
    delivered: int = 0
    rejected: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    retries: int = 0
    batches: int = 0
    queued_bytes: int = 0
    oldest_age: float | None = None
    last_error: str | None = None
    spool_error: str | None = None


@dataclass(frozen=True)
class FlushResult:
    """What happened while `flush` or `close` waited. True when nothing is pending.

    Attributes:
        delivered: Accepted by the server during the call.
        rejected: Refused by the server for good during the call.
        dropped: Lost on this side during the call, for whatever reason.
        pending: Recorded before the call and not settled yet.
    """

    delivered: int = 0
    rejected: int = 0
    dropped: int = 0
    pending: int = 0

    def __bool__(self) -> bool:
        return self.pending == 0


def result_between(before: Stats, after: Stats, *, pending: int, counted: int = 0) -> FlushResult:
    """Return what happened between two snapshots; `counted` of the pending are among the dropped by now."""
    return FlushResult(
        delivered=after.delivered - before.delivered,
        rejected=after.rejected - before.rejected,
        dropped=sum(after.dropped.values()) - sum(before.dropped.values()) - counted,
        pending=pending,
    )
