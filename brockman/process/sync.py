"""What a thread sleeps on until another one rings."""

from __future__ import annotations

import math
import threading


class Bell:
    """Rings are not counted: one wait takes them all. `ring` takes nothing, so signal handlers survive it.

    A lock, and not a `SimpleQueue`: the `get` of CPython 3.10 and 3.11 waits for ever when its timeout runs out
    at the wrong moment.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # free when it was rung
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the thread that waits, or the next one that will. Does not block."""
        try:
            if self._lock.locked():  # a semaphore in the place of a lock would count the release
                self._lock.release()
        except RuntimeError:  # another thread has just rung
            pass

    def wait(self, seconds: float) -> bool:
        """Sleep until it rings or so many seconds, which may be infinite; return whether it rang."""
        if seconds == math.inf:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))
