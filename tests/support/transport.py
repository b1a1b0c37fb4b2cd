"""A transport in memory whose answers are held back."""

from __future__ import annotations

import threading

from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport


class HeldTransport(MemoryTransport):
    """Accepts every request, but answers only after `release`, or after 30 seconds."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self._released = threading.Event()

    def _answer(self, body: bytes) -> Answer:
        self._released.wait(30)
        return Answer(201)

    def release(self) -> None:
        """Answer the requests that are held, and later ones at once."""
        self._released.set()

    def numbers(self) -> list[int]:
        """Return the variable `n` of all triggers that were sent, in order."""
        return [trigger["variables"]["n"] for trigger in self.triggers]
