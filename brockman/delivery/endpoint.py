"""What a client has learned of its endpoint. Values only; the clock is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable

FORGET_AFTER = 3600.0  # seconds; a server may have been replaced by one that can do more


class EndpointLimits:
    """Belongs to the flusher's role.

    Attributes:
        arrays_work: Whether the endpoint has ever accepted an array.
    """

    def __init__(self, max_batch_bytes: int, clock: Callable[[], float]) -> None:
        self.arrays_work = False
        self._clock = clock
        self._max_batch_bytes = max_batch_bytes
        self._limit = max_batch_bytes
        self._limit_until = self._singles_until = self._short_until = -math.inf

    def remember_singles_only(self) -> None:
        """An array was refused whose triggers were accepted one by one: the endpoint knows no arrays."""
        self._singles_until = self._clock() + FORGET_AFTER

    @property
    def singles_only(self) -> bool:
        """Whether to post single objects."""
        return self._clock() < self._singles_until

    def remember_short_arrays(self) -> None:
        """An array longer than `max_batch_size` was refused: that is how long the endpoint takes them."""
        self._short_until = self._clock() + FORGET_AFTER

    @property
    def takes_long(self) -> bool:
        """Whether to try arrays longer than `max_batch_size`."""
        return self.arrays_work and self._clock() >= self._short_until

    def remember_size(self, refused_bytes: int) -> None:
        """A body of this size was too large: try half of it."""
        self._limit = min(self.max_bytes, refused_bytes // 2)
        self._limit_until = self._clock() + FORGET_AFTER

    @property
    def max_bytes(self) -> int:
        """How large a request body with several triggers may be."""
        return self._limit if self._clock() < self._limit_until else self._max_batch_bytes
