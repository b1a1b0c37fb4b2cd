"""Recording with a client, and checking what became of the triggers."""

from __future__ import annotations

import threading
from typing import Any

from brockman.client import FocusLabClient

KEY = "da9dcaa0364541498d4ae6b4865cf395"


def record(client: FocusLabClient, count: int, start: int = 0, **variables: Any) -> int:
    """Record triggers whose variable `n` counts up from `start`; return how many the client accepted."""
    return sum(
        client.record_trigger(f"actor {number}", "viewed", "page", variables={"n": number, **variables})
        for number in range(start, start + count)
    )


def law_holds(client: FocusLabClient, recorded: int) -> bool:
    """Return True if the conservation law holds in a snapshot, for the caller's own count of recorded triggers.

    `stats().recorded` is calculated from the other counts, so those alone always agree.
    """
    s = client.stats()
    found = s.delivered + s.rejected + sum(s.dropped.values()) + s.queued + s.in_flight
    return s.recorded == recorded and recorded + s.recovered == found


def worker_threads() -> list[threading.Thread]:
    """Return the worker threads of all clients of this process."""
    return [thread for thread in threading.enumerate() if thread.name == "brockman-worker"]
