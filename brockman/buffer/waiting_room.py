"""Where callers wait for room in a full buffer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from brockman.process.clock import monotonic
from brockman.process.sync import Bell


class WaitingRoom:
    """One bell for each thread that waits. Any thread may wait or ring; there is no lock."""

    def __init__(self) -> None:
        self._bells: deque[Bell] = deque()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._bells)

    def wait(self, has_room: Callable[[], bool], seconds: float, is_over: Callable[[], bool]) -> bool:
        """Wait until there is room, so many seconds, or until it is over; return whether there is room."""
        deadline = monotonic() + seconds
        bell = Bell()
        while not has_room():
            remaining = deadline - monotonic()
            if remaining <= 0 or is_over():
                return False
            self._bells.append(bell)
            try:
                # Looked again: it may have been made before the append.
                if not has_room() and not bell.wait(remaining):
                    return has_room()
            finally:
                with suppress(ValueError):  # it was rung
                    self._bells.remove(bell)
        return True

    def ring(self) -> None:
        """Wake all who wait; those who find no room wait again."""
        try:
            for _ in range(len(self._bells)):
                self._bells.popleft().ring()
        except IndexError:  # two threads ring at the same time, and the other one was first
            pass
