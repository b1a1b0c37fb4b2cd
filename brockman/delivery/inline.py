"""Deliver in the caller's thread, for one second at most, where no worker thread can run."""

from __future__ import annotations

import math

from brockman.buffer.base import Buffer
from brockman.delivery.worker import Worker
from brockman.options import Options
from brockman.process.clock import monotonic

_LIMIT = 1.0  # seconds that one call may take
_COOLDOWN = 10.0  # seconds without another such call, after one that did not deliver everything


class InlineDelivery:
    """Decides when a caller delivers."""

    def __init__(self, buffer: Buffer, worker: Worker, options: Options) -> None:
        self.retry_at = -math.inf  # on the clock; not before
        self._buffer = buffer
        self._worker = worker
        self._options = options
        self._since = monotonic()  # the oldest trigger was recorded then, or later

    def after_record(self, *, wait_for_request_end: bool) -> None:
        """Deliver if that is due, now that a trigger was recorded. Blocks for a second at most.

        Args:
            wait_for_request_end: Whether triggers older than the interval may wait for the end of a request.
        """
        now, options = monotonic(), self._options
        if len(self._buffer) + self._buffer.in_flight <= 1:
            self._since = now
        is_old = not wait_for_request_end and now - self._since >= options.flush_interval
        if is_old or self._buffer.holds(options.max_batch_size, options.max_batch_bytes):
            self._deliver()

    def after_request(self, *, now: bool) -> None:
        """Deliver what has waited for the interval, or, with `now`, everything. Blocks for a second at most."""
        if now or monotonic() - self._since >= self._options.flush_interval:
            self._deliver()

    def _deliver(self) -> None:
        if monotonic() >= self.retry_at:
            watermark = self._buffer.admitted
            self._worker.wait_for(watermark, _LIMIT)
            if self._buffer.removed < watermark:
                self.retry_at = monotonic() + _COOLDOWN
            self._since = monotonic()
