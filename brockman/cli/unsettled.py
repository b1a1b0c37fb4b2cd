"""Which line each trigger came from that is not settled yet. No I/O."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

_SLACK = 4096  # how many settled ones may stay remembered


class Unsettled:
    """Line numbers in the order of recording, which is the order in which one client settles.

    One thread records; the flusher's thread asks.
    """

    def __init__(self, count_settled: Callable[[], int]) -> None:
        """Begin with none.

        Args:
            count_settled: Returns how many triggers are settled so far.
        """
        self._count_settled = count_settled
        self._lines: deque[int] = deque()
        self._forgotten = 0  # how many were taken off the left end
        self._lock = threading.Lock()
        self._next_look = _SLACK

    def add(self, line: int) -> None:
        """Remember the line of the trigger that is recorded next: it may be settled before that call is back."""
        self._lines.append(line)
        if len(self._lines) >= self._next_look:
            with self._lock:
                self._forget(self._count_settled())
            self._next_look = len(self._lines) + _SLACK

    def take_back(self) -> None:
        """Forget the last line: it was not recorded after all."""
        self._lines.pop()

    def just_settled(self) -> int:
        """Return the line of the trigger that was settled last. From the client's own callbacks only."""
        with self._lock:
            self._forget(self._count_settled() - 1)
            return self._lines[0]

    def first(self) -> int | None:
        """Return the line of the oldest trigger that is not settled, or None when there is none."""
        with self._lock:
            self._forget(self._count_settled())
            return self._lines[0] if self._lines else None

    def _forget(self, settled: int) -> None:
        for _ in range(min(settled - self._forgotten, len(self._lines))):
            self._lines.popleft()
            self._forgotten += 1
