"""The end of the process: whatever was recorded gets its chance, within one deadline for all clients together."""

from __future__ import annotations

import atexit
import weakref
from typing import Protocol

from brockman.clock import monotonic


class Closeable(Protocol):
    """What can be closed at exit."""

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that closing may take."""

    def begin_close(self, timeout: float) -> None:
        """Start closing, without waiting."""

    def close(self, timeout: float) -> object:
        """Wait until closed, or for so many seconds."""


_watched: weakref.WeakSet[Closeable] = weakref.WeakSet()
_registered = False


def watch(part: Closeable) -> None:
    """Have a part closed when the process ends, unless it is forgotten or collected before."""
    global _registered
    if part not in _watched:
        _watched.add(part)
    if not _registered:
        _registered = True
        atexit.register(close_all)


def forget(part: Closeable) -> None:
    """Stop watching a part: it is closed."""
    _watched.discard(part)


def close_all() -> None:
    """Close every part, all at the same time, within the longest of their timeouts."""
    parts = list(_watched)
    started = monotonic()
    for part in parts:
        part.begin_close(part.shutdown_timeout)
    for part in parts:
        part.close(max(0.0, started + part.shutdown_timeout - monotonic()))
