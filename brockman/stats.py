"""The counts that `stats`, `flush` and `close` return. Values only: no locks, no clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stats:
    """A snapshot of the counts of one process for the same settings. At every instant::

        recorded + recovered = delivered + rejected + sum(dropped.values()) + queued + in_flight

    Attributes:
        recorded: Calls of `record_trigger` that returned or raised `BufferFull`; triggers from Celery messages.
        recovered: Triggers adopted from the spool of dead processes.
        queued: Triggers in the buffer, or left on disk by it for other processes.
        in_flight: Triggers taken from the buffer and not settled: being sent, or waiting for the next attempt.
        delivered: Triggers that the server accepted.
        rejected: Triggers that the server refused for good.
        dropped: Triggers lost on this side, by reason: `overflow`, `invalid`, `filtered`, `hook_failed`, `closed`,
            `disabled`, `misconfigured` and `untracked` (in requests), `damaged` (in the spool), `shutdown`,
            `own_log`.
        retries: Attempts beyond the first, for any cause.
        batches: Requests that were accepted in whole or in part.
        repeated: Of those delivered, how many the server says it had already, by their ids; None as long as no
            answer has said.
        queued_bytes: Encoded size of what is queued, in bytes; on disk, with the frames.
        oldest_age: Seconds since the time of the oldest unsettled trigger; None when there is none.
        last_error: The error of the last failed attempt; None when there was none.
        spool_error: Why triggers cannot be written to disk now; None when they can, or `spool_dir` is not set.
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
    repeated: int | None = None
    queued_bytes: int = 0
    oldest_age: float | None = None
    last_error: str | None = None
    spool_error: str | None = None


@dataclass(frozen=True)
class FlushResult:
    """The counts of a `flush` or `close`. True when nothing is pending.

    Attributes:
        delivered: Triggers that the server accepted during the call.
        rejected: Triggers that the server refused for good during the call.
        dropped: Triggers lost on this side during the call, for any reason.
        pending: Triggers recorded before the call and not settled.
    """

    delivered: int = 0
    rejected: int = 0
    dropped: int = 0
    pending: int = 0

    def __bool__(self) -> bool:
        return self.pending == 0


def result_between(before: Stats, after: Stats, *, pending: int, counted: int = 0) -> FlushResult:
    """Return what happened between two snapshots; `counted` is how many of the pending were dropped by then."""
    return FlushResult(
        delivered=after.delivered - before.delivered,
        rejected=after.rejected - before.rejected,
        dropped=sum(after.dropped.values()) - sum(before.dropped.values()) - counted,
        pending=pending,
    )
