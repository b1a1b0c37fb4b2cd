"""Limits of an endpoint, learned from its answers. Values only; the clock is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable

_BRACKETS = 3  # bytes of an array of two, beside them
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0  # seconds until a larger request is tried again
# Where no array was accepted yet: the server may know none, or had a bad minute.
FIRST_ARRAY_PAUSE, LONGEST_ARRAY_PAUSE = 60.0, 3600.0


class Limit:
    """The size of the largest request worth sending. Halves when one is refused, and grows back by probing."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self.largest_passed = 0
        self._most = self._known = most
        self._clock = clock
        self._pause = FIRST_PAUSE
        self._probe_at = -math.inf

    @property
    def value(self) -> int:
        """The limit: when a probe is due, twice what is known to pass."""
        if self._known < self._most and self._clock() >= self._probe_at:
            return min(2 * self._known + _BRACKETS, self._most)
        return self._known

    def is_probe(self, size: int) -> bool:
        """Return whether a request of this size is larger than what is known to pass."""
        return size > self._known

    def refused(self, size: int) -> None:
        """Note that a request of this size did not pass. A probe doubles the pause until the next one."""
        if self.is_probe(size):
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._known = max(1, size // 2)
            self._pause = FIRST_PAUSE
        self._probe_at = self._clock() + self._pause

    def passed(self, size: int) -> None:
        """Note that a request of this size has passed: after a probe, the next one is due at once.

        A probe has more than half of the limit: two such requests would not fit.
        """
        self.largest_passed = max(self.largest_passed, size)
        if self.is_probe(size) or self._known < self.value <= 2 * size + _BRACKETS:
            self._known = min(max(size, 2 * self._known), self._most)
            self._pause = FIRST_PAUSE


class EndpointLimits:
    """The requests that an endpoint takes. Not thread-safe: belongs to the one engine that sends.

    Attributes:
        arrays_work: Whether the endpoint has ever accepted an array.
        size: The bytes of a request with several triggers.
    """

    def __init__(self, max_batch_bytes: int, clock: Callable[[], float]) -> None:
        self.arrays_work = False
        self.size = Limit(max_batch_bytes, clock)
        self._clock = clock
        self._singles_until = self._short_until = -math.inf
        self._pause = FIRST_ARRAY_PAUSE

    @property
    def singles_only(self) -> bool:
        """True while arrays are refused: send single objects."""
        return self._clock() < self._singles_until

    def remember_singles_only(self) -> None:
        """Send single objects for a while: an array was refused, and each trigger of it accepted alone."""
        self._singles_until = self._clock() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE if self.arrays_work else LONGEST_ARRAY_PAUSE)

    def remember_array(self) -> None:
        """Note that an array was accepted."""
        self.arrays_work = True
        self._pause = FIRST_PAUSE

    @property
    def takes_long(self) -> bool:
        """True while arrays longer than `max_batch_size` are worth a try."""
        return self.arrays_work and self._clock() >= self._short_until

    def remember_short_arrays(self) -> None:
        """Send no arrays longer than `max_batch_size` for a while: one was refused."""
        self._short_until = self._clock() + LONGEST_PAUSE

    @property
    def max_bytes(self) -> int:
        """The largest body of a request with several triggers."""
        return self.size.value
