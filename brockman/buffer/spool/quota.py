"""The bound on the bytes of the whole spool, all processes together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from brockman.buffer.spool.directory import OPEN_DIRECTORY, SpoolDir, file_sizes, names_in

_MEASURE_EVERY = 1.0  # seconds; between, only what this process adds and removes is known
_SHARES = 8  # of the room that is left: one is written before it is measured again
_MEASURE_AGAIN = 10  # times as long as the last measuring took, when there seems to be no room


class Quota:
    """An estimate of the bytes in a spool, measured when a segment is created, more often the fuller it is."""

    def __init__(self, spool: SpoolDir, max_bytes: int, clock: Callable[[], float]) -> None:
        self._spool = spool
        self.max_bytes = max_bytes
        self._clock = clock
        self._measured_at = -_MEASURE_EVERY
        self._measure_again = 0.0
        self._bytes = self._measure_at = 0

    def has_room(self, size: int) -> bool:
        """Return whether `size` more bytes may be written."""
        now, wanted = self._clock(), self._bytes + size
        pause = 0.0 if wanted > self._measure_at else _MEASURE_EVERY
        if wanted > self.max_bytes:
            pause = self._measure_again
        if now - self._measured_at >= pause:
            self._bytes = sum(size for _, size in measure(self._spool))
            self._measured_at = self._clock()
            self._measure_again = _MEASURE_AGAIN * (self._measured_at - now)
            # Other processes may see the same room: each writes only a part of it before measuring again.
            self._measure_at = self._bytes + (self.max_bytes - self._bytes) // _SHARES
        return self._bytes + size <= self.max_bytes

    def add(self, size: int) -> None:
        """Count bytes that were written, or removed if negative."""
        self._bytes += size


def measure(spool: SpoolDir) -> Iterator[tuple[str, int]]:
    """Yield the name of each directory in a spool, and its bytes."""
    for name in names_in(spool.descriptor):
        with suppress(OSError):  # it is not a directory, is being removed, or may not be read
            directory = os.open(name, OPEN_DIRECTORY, dir_fd=spool.descriptor)
            try:
                size = sum(file_sizes(directory))
            finally:
                os.close(directory)
            yield name, size
