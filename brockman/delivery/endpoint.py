"""Limits of an endpoint, learned from its answers. Values only; the clock is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable

FORGET_AFTER = 3600.0  # seconds; a server may have been replaced by one that can do more


class EndpointLimits:
    """How large a request an endpoint takes. Not thread-safe: belongs to the one engine that sends.

    Attributes:
        arrays_work: Whether the endpoint has ever accepted an array.
    """

    def __init__(self, max_batch_bytes: int, clock: Callable[[], float]) -> None:
        self.arrays_work = False
        self._clock = clock
        self._max_batch_bytes = max_batch_bytes
        self._limit = max_batch_bytes
        self._limit_until = self._singles_until = self._short_until = -math.inf

    @property
    def singles_only(self) -> bool:
        """True while arrays are refused: send single objects."""
        return self._clock() < self._singles_until

    def remember_singles_only(self) -> None:
        """Send single objects: an array was refused, and each trigger of it accepted alone."""
        self._singles_until = self._clock() + FORGET_AFTER

    @property
    def takes_long(self) -> bool:
        """True while arrays longer than `max_batch_size` are worth a try."""
        return self.arrays_work and self._clock() >= self._short_until

    def remember_short_arrays(self) -> None:
        """Send no arrays longer than `max_batch_size`: one was refused."""
        self._short_until = self._clock() + FORGET_AFTER

    @property
    def max_bytes(self) -> int:
        """The largest body of a request with several triggers."""
        return self._limit if self._clock() < self._limit_until else self._max_batch_bytes

    def remember_size(self, refused_bytes: int) -> None:
        """Send half of what was too large."""
        self._limit = min(self.max_bytes, refused_bytes // 2)
        self._limit_until = self._clock() + FORGET_AFTER
