"""Those who wait for a flush. Any thread may come, and go by itself; there is no lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from brockman.buffer.base import Buffer


class Rings(Protocol):
    """What somebody waits on."""

    def ring(self) -> None:
        """Let go of the one that waits. Called from any thread; does not block."""


class Waiters:
    """Each waits until so many triggers have left the buffer, or nothing is left in it."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._waiting: deque[tuple[int, Rings]] = deque()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def is_over(self, removed: int) -> bool:
        """Return whether so many triggers have left the buffer, or nothing is left in it."""
        return self._buffer.removed >= removed or self._buffer.is_idle

    @contextmanager
    def waiting(self, removed: int, bell: Rings) -> Iterator[tuple[int, Rings]]:
        """Have the bell rung when it is over, for the length of a block."""
        waiter = (removed, bell)
        self._waiting.append(waiter)
        try:
            yield waiter
        finally:
            self._remove(waiter)

    def __contains__(self, waiter: tuple[int, Rings]) -> bool:
        """Return whether it was not let go yet."""
        return waiter in self._waiting

    def let_go(self) -> None:
        """Ring the bell of everyone for whom it is over."""
        for waiter in list(self._waiting):
            if self.is_over(waiter[0]):
                self._remove(waiter)
                waiter[1].ring()

    def _remove(self, waiter: tuple[int, Rings]) -> None:
        with suppress(ValueError):  # it was let go already, or went away by itself
            self._waiting.remove(waiter)
