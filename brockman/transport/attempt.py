"""One attempt to send: how long it may still take, and what has happened on its way."""

from __future__ import annotations

import math
import os
from contextvars import ContextVar

from brockman.process.clock import monotonic


class ForkedAway(BaseException):
    """Raised in the child of a fork, in a copy of a greenlet that was sending: the parent does that."""


class Attempt:
    """One attempt to send.

    Attributes:
        reused: Whether it went over a connection that was open before.
        heard: Whether any byte of an answer came back.
    """

    def __init__(self, seconds: float = math.inf, read_timeout: float = math.inf) -> None:
        """Start the clock.

        Args:
            seconds: What the whole attempt may take.
            read_timeout: Seconds that the server may stay silent.
        """
        self._home = os.getpid()
        self._until = monotonic() + seconds
        self._longest_read = read_timeout
        self.reused = True  # until a connection is opened
        self.heard = False

    def remaining(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: When none is.
            ForkedAway: In a child.
        """
        if self._home != os.getpid():
            raise ForkedAway
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError("the attempt took too long")
        return left

    def read_time(self) -> float:
        """Return the seconds that the next read may take; raises as `remaining` does."""
        return min(self.remaining(), self._longest_read)


# A context variable and not a `threading.local`, which this module would take from before gevent's patching: then
# all greenlets would share one attempt.
CURRENT: ContextVar[Attempt] = ContextVar("attempt")


def begin_attempt(seconds: float, read_timeout: float) -> Attempt:
    """Begin the attempt of this thread, or greenlet; see `Attempt`."""
    attempt = Attempt(seconds, read_timeout)
    CURRENT.set(attempt)
    return attempt
