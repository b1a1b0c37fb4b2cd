"""When a caller's thread delivers, where no thread of our own can be had."""

from __future__ import annotations

import math
from collections.abc import Callable

from brockman.buffer.base import Buffer
from brockman.process.clock import monotonic

_LIMIT = 1.0  # seconds that one call may take for it
_REST = 10.0  # seconds until the next one, after that was not enough


class InlineDelivery:
    """Bounds what callers pay: they deliver when it is due, for a moment, and not again soon after a failure."""

    def __init__(
        self, buffer: Buffer, *, interval: float, full: tuple[int, int], deliver: Callable[[float], bool]
    ) -> None:
        """Wire it.

        Args:
            buffer: What is to be delivered.
            interval: Seconds that a trigger may wait.
            full: Triggers, and bytes, that make a batch which goes at once.
            deliver: Delivers for so many seconds at the most, and returns whether nothing is left.
        """
        self._buffer = buffer
        self._interval = interval
        self._full = full
        self._deliver = deliver
        self._since = monotonic()  # the oldest trigger was recorded then, or later
        self._rest_until = -math.inf

    def recorded(self, *, may_wait: bool) -> None:
        """Deliver if that is due, as a trigger was recorded. Blocks for a second at the most, and seldom.

        Args:
            may_wait: Whether what has waited for the interval may wait on, for the end of a request.
        """
        now = monotonic()
        if len(self._buffer) + self._buffer.in_flight <= 1:
            self._since = now
        if self._buffer.holds(*self._full) or (not may_wait and now - self._since >= self._interval):
            self._deliver_all()

    def request_ended(self, *, now: bool) -> None:
        """Deliver what has waited for the interval, or, with `now`, all there is. Blocks as `recorded`."""
        if now or monotonic() - self._since >= self._interval:
            self._deliver_all()

    def _deliver_all(self) -> None:
        if monotonic() >= self._rest_until:
            if not self._deliver(_LIMIT):
                self._rest_until = monotonic() + _REST
            self._since = monotonic()
