"""The end of the process: whatever was recorded gets its chance, within one deadline for all clients together."""

from __future__ import annotations

import atexit
import threading
from typing import Protocol

from brockman.clock import monotonic


class Closeable(Protocol):
    """What can be closed at exit."""

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that closing may take."""

    @property
    def is_used(self) -> bool:
        """Whether there is anything to close."""

    def begin_close(self, timeout: float) -> None:
        """Start closing, without waiting."""

    def close(self, timeout: float) -> object:
        """Wait until closed, or for so many seconds."""


# The pipelines of all clients, by their id. Held strongly: a client may be gone before its triggers are. Each
# change and each look is one call into C, so that threads need no lock.
_watched: dict[int, Closeable] = {}
_registered = False
_ended = False


def prepare() -> None:
    """Have `close_all` called when the process ends. Called when a client is made."""
    global _registered, _ended
    if not _registered:
        _registered = True
        atexit.register(close_all)
        # The main thread counts as ended while the hooks run: then ours comes too late to be called. Asked here
        # and not for every trigger: CPython before 3.13 counts it as ended for good if an exception strikes here.
        _ended = not threading.main_thread().is_alive()


def is_ending() -> bool:
    """Return whether the exit has begun: no hook may come any more that closes."""
    return _ended


def watch(part: Closeable) -> None:
    """Have a part closed when the process ends, unless it is forgotten before."""
    _watched[id(part)] = part


def forget(part: Closeable) -> None:
    """Stop watching a part: it is closed, or holds nothing."""
    _watched.pop(id(part), None)


def close_all() -> None:
    """Close every part that was used, all at the same time, within the longest of their timeouts.

    One that was not stays open: a hook that comes later may record its first trigger, which then leaves at once.
    """
    global _ended
    _ended = True
    started = monotonic()
    parts = [part for part in list(_watched.values()) if part.is_used]
    for part in parts:
        part.begin_close(part.shutdown_timeout)
    for part in parts:
        part.close(max(0.0, started + part.shutdown_timeout - monotonic()))
