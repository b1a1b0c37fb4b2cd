"""Moves between deques that lose nothing, whatever interrupts them, and the lock that readers see them by."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

READ_TRIES = 1000  # a reader in a finalizer that runs within a move would otherwise try forever


def move(source: deque[bytes], target: deque[bytes], count: int) -> bool:
    """Move up to `count` of the oldest triggers in one C call; return False when there was none.

    `extend` pulls on `islice`, that on the two-argument `iter`, that on `popleft`: no Python code runs between
    taking out and putting in, so nothing can be lost there.
    """
    try:
        target.extend(islice(iter(source.popleft, None), count))
    except IndexError:  # the source ran out; what came before has moved
        return bool(target)
    return True


def give_each(source: deque[bytes], put: Callable[[bytes], object]) -> None:
    """Remove one trigger after the other and pass it to `put`; no two threads pass the same one."""
    try:
        while True:
            put(source.popleft())
    except IndexError:
        return


class SeqLock:
    """A lock for writers. Readers take none: they read again if `version` was odd, or has changed since."""

    def __init__(self) -> None:
        self.version = 0
        self._lock = threading.RLock()
        self._holder = 0  # the ident of the thread that holds the lock

    @property
    def is_mine(self) -> bool:
        """True when the calling thread holds the lock: it runs a signal handler or a finalizer within a move."""
        return self._holder == threading.get_ident()

    @contextmanager
    def if_free(self, seconds: float = 0.0) -> Iterator[bool]:
        """Do as `write` if the lock is free within `seconds`, and yield whether it was."""
        lock = self._lock
        held: list[bool] = []
        try:
            held.extend(map(lock.acquire, (True,), (seconds,)))  # one C call, as in `held`
            if not held[0]:
                yield False
                return
            with self.write():
                yield True
        finally:
            if held and held[0]:
                lock.release()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for the length of a block."""
        lock, me, outer = self._lock, threading.get_ident(), -1
        held: list[bool] = []
        try:
            held.extend(map(lock.acquire, (True,), (1.0,)))  # one C call: an exception finds it held and noted
            if not held[0]:
                # A move takes microseconds. The holder died with the interpreter, or was struck while releasing.
                self._lock = threading.RLock()
            outer, self._holder = self._holder, me
            yield
        finally:
            if outer >= 0:
                self._holder = outer
            if held and held[0]:
                lock.release()

    @contextmanager
    def write(self) -> Iterator[None]:
        """Hold the lock for the length of a block, with an odd version."""
        with self.held():
            self.version += 1
            try:
                yield
            finally:
                self.version += 1
