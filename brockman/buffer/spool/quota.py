"""How much may lie in the whole spool, whoever wrote it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from brockman.buffer.spool.directory import OPEN_FOLDER, SpoolDir, names_in

_LOOK_EVERY = 1.0  # seconds; between two looks only what this process adds and removes is known
_SHARES = 8  # of the room that is left: as much is written before the next look
_LOOK_AGAIN = 10  # times as long as the last look took, when there seems to be no room


class Quota:
    """Knows about how many bytes lie in a spool. Looks when a segment is made, more often the fuller it is."""

    def __init__(self, spool: SpoolDir, max_bytes: int, clock: Callable[[], float]) -> None:
        """Look at nothing yet.

        Args:
            spool: The spool's folder.
            max_bytes: How many may lie there.
            clock: Seconds that only move forward.
        """
        self._spool = spool
        self.max_bytes = max_bytes
        self._clock = clock
        self._looked = -_LOOK_EVERY
        self._look_again = 0.0
        self._bytes = self._look_at = 0

    def has_room(self, size: int) -> bool:
        """Return whether so many bytes more may be written."""
        now, wanted = self._clock(), self._bytes + size
        pause = self._look_again if wanted > self.max_bytes else 0.0 if wanted > self._look_at else _LOOK_EVERY
        if now - self._looked >= pause:
            self._bytes = sum(size for _, size in measure(self._spool))
            self._looked = self._clock()
            self._look_again = _LOOK_AGAIN * (self._looked - now)
            # The others may have seen the same room: each writes only a part of it before looking again.
            self._look_at = self._bytes + (self.max_bytes - self._bytes) // _SHARES
        return self._bytes + size <= self.max_bytes

    def changed(self, by: int) -> None:
        """Take note of bytes that were written, or, less than 0, of bytes that were removed."""
        self._bytes += by


def measure(spool: SpoolDir) -> Iterator[tuple[str, int]]:
    """Yield the folders in a spool, and how many bytes lie in each."""
    for name in names_in(spool.descriptor):
        with suppress(OSError):  # it is no folder, is being removed, or is not ours to look into
            yield name, _measure(spool, name)


def _measure(spool: SpoolDir, name: str) -> int:
    descriptor = os.open(name, OPEN_FOLDER, dir_fd=spool.descriptor)
    total = 0
    try:
        for file in os.listdir(descriptor):
            with suppress(FileNotFoundError):
                total += os.stat(file, dir_fd=descriptor, follow_symlinks=False).st_size
    finally:
        os.close(descriptor)
    return total
