"""The counts that no container holds: what became of the triggers that left.

Invariant: each trigger that leaves the buffer, or is refused before it, is counted here exactly once.

No lock. Every count changes in one straight line of code, from the read to the store without a call in it: CPython
looks for signals, asynchronous exceptions and a change of thread only at calls and at backward jumps (3.10 also
where a condition jumps forward), so nothing can come in between. Without the global lock `guard` is a lock, and is
held around such a line.
"""

from __future__ import annotations

from collections.abc import Sequence

from brockman.callbacks import Callbacks
from brockman.interpreter import make_guard
from brockman.process.clock import monotonic

REASONS = (
    *("overflow", "invalid", "filtered", "hook_failed", "closed", "disabled", "misconfigured", "untracked"),
    *("damaged", "shutdown"),
)


class Ledger:
    """Counts of one client. Only the flusher's role writes `retries`; the rest any thread may."""

    def __init__(self, callbacks: Callbacks) -> None:
        self.delivered = 0
        self.rejected = 0
        self.recovered = 0  # found in the files of processes that are gone
        self.left = 0  # in files when their buffer was closed, for others to adopt
        self.retries = 0
        self.batches = 0
        self.last_error: str | None = None
        self.dropped = dict.fromkeys(REASONS, 0)
        self.details: dict[str, str] = {}  # by reason: what was wrong with the last such trigger
        self.guard = make_guard()
        self._callbacks = callbacks

    def drop(self, reason: str, body: bytes | None = None) -> None:
        """Count a trigger that is lost, then tell `on_drop`. The body is None when it was not encoded yet."""
        with self.guard:
            self.dropped[reason] += 1
        self.tell(reason, body)

    def tell(self, reason: str, body: bytes | None) -> None:
        """Tell `on_drop` of a trigger that the caller has counted already."""
        self._callbacks.dropped(reason, body)

    def tell_all(self, reason: str, bodies: Sequence[bytes], until: float) -> int:
        """Tell `on_drop` of what was counted, until so late on the clock; return of how many there was no time."""
        for number, body in enumerate(bodies):
            if monotonic() > until:
                return len(bodies) - number
            self.tell(reason, body)
        return 0
