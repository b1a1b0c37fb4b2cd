"""How threads wait for each other: any of these may be used in a signal handler or a finalizer."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from brockman.process.clock import monotonic
from brockman.process.threads import in_event_loop


class Wakeup:
    """An event for one waiting thread, cleared by `wait`.

    Not a `SimpleQueue`: in CPython 3.10 and 3.11 its `get` may hang if the timeout ends at the wrong moment.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # free when set
        self._lock.acquire()

    def set(self) -> None:
        """Wake the thread that waits, or the next one to wait. Does not block."""
        try:
            if self._lock.locked():  # a semaphore would count the releases
                self._lock.release()
        except RuntimeError:  # another thread has just set it
            pass

    def wait(self, seconds: float) -> bool:
        """Sleep until set, or for `seconds` (may be infinite); return whether it was set."""
        if seconds == math.inf:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))


class SupportsSet(Protocol):
    """A `Wakeup`, or its counterpart for a coroutine."""

    def set(self) -> None:
        """Wake the waiter. Called from any thread; does not block."""


class Waiters:
    """Threads and coroutines that wait for a flush, each with its watermark.

    Attributes:
        is_reached: Returns whether a flush with this watermark is over.
    """

    def __init__(self, is_reached: Callable[[int], bool]) -> None:
        self.is_reached = is_reached
        self._waiting: deque[tuple[int, SupportsSet]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, waiter: tuple[int, SupportsSet]) -> bool:
        return waiter in self._waiting

    @contextmanager
    def waiting(self, watermark: int, wakeup: SupportsSet) -> Iterator[tuple[int, SupportsSet]]:
        """Set the wakeup when the watermark is reached within the block."""
        waiter = (watermark, wakeup)
        self._waiting.append(waiter)
        try:
            yield waiter
        finally:
            self._remove(waiter)

    def notify(self) -> None:
        """Wake every waiter whose watermark is reached."""
        for waiter in list(self._waiting):
            if self.is_reached(waiter[0]):
                self._remove(waiter)
                waiter[1].set()

    def _remove(self, waiter: tuple[int, SupportsSet]) -> None:
        with suppress(ValueError):  # already removed
            self._waiting.remove(waiter)


class Condition:
    """Threads that wait until a predicate is true. Any thread may wait or notify."""

    def __init__(self) -> None:
        self._wakeups: deque[Wakeup] = deque()

    def __len__(self) -> int:
        return len(self._wakeups)

    def wait(
        self, holds: Callable[[], bool], seconds: float, is_cancelled: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait until `holds` returns True, for `seconds`, or until cancelled; return its last value."""
        deadline = monotonic() + seconds
        wakeup = Wakeup()
        while not holds():
            remaining = deadline - monotonic()
            if remaining <= 0 or is_cancelled():
                return False
            self._wakeups.append(wakeup)
            try:
                # Check again: it may have changed before the append.
                if not holds() and not wakeup.wait(remaining):
                    return holds()
            finally:
                with suppress(ValueError):  # notified
                    self._wakeups.remove(wakeup)
        return True

    def notify(self) -> None:
        """Wake all waiters; each checks its predicate again."""
        try:
            for _ in range(len(self._wakeups)):
                self._wakeups.popleft().set()
        except IndexError:  # another thread notifies at the same time
            pass


class Role:
    """Whoever holds it is the only one to take from the buffer and to settle: the worker's thread, or, where no
    thread can be started, a caller of `flush`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder = 0  # the ident of the thread; 0 for none
        self._released = Condition()

    def take(self) -> bool:
        """Return whether the role was free, and is taken now."""
        taken = self._lock.acquire(blocking=False)
        if taken:
            self._holder = threading.get_ident()
        return taken

    def release(self) -> None:
        self._holder = 0  # before the release: idents are reused, and the next holder sets its own
        self._lock.release()
        self._released.notify()

    @property
    def is_mine(self) -> bool:
        """True when the caller holds it, as a callback does, and must not wait for itself."""
        return self._holder == threading.get_ident()

    @property
    def is_taken(self) -> bool:
        return self._lock.locked()

    def wait_until_free(self, timeout: float) -> None:
        """Wait until nobody else holds it, or `timeout` seconds."""
        if not self.is_mine:
            self._released.wait(lambda: not self.is_taken, timeout)

    def may_block(self) -> bool:
        """Return whether the caller may wait for the holder of the role."""
        return not (self.is_mine or in_event_loop())
