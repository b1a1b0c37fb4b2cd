"""Calls hooks at most once a second while a worker has something to do, and now and then while it sleeps.

For counts that are copied to where other processes read them. A hook returns whether it had anything new; while it
has not, the calls become rarer. Without a hook, a worker sleeps as long as it likes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from brockman.process import fork
from brockman.process.clock import monotonic
from brockman.process.threads import PREFIX

_SHORTEST, _LONGEST = 1.0, 10.0  # seconds between two calls

hooks: list[Callable[[], bool]] = []  # several threads may call one at once; it raises no error of its own


class _Pace:
    def __init__(self) -> None:
        self.called_at = monotonic()
        self.interval = _SHORTEST


_paces = fork.PerProcess(_Pace)


def due_in() -> float | None:
    """Return the seconds that a worker may sleep until the next `beat`; None when there is no hook."""
    if not hooks:
        return None
    pace = _paces.get()
    return max(0.0, pace.called_at + pace.interval - monotonic())


def beat() -> None:
    """Call the hooks, unless that was done within the last second, or the caller's thread is not one of brockman.

    Another one may be in a signal handler, which has interrupted code that holds a lock that a hook needs.
    """
    if hooks and threading.current_thread().name.startswith(PREFIX):
        beat_here()


def beat_here() -> None:
    """Call the hooks, unless that was done within the last second. Not for signal handlers."""
    if not hooks:
        return
    pace, now = _paces.get(), monotonic()
    if now - pace.called_at >= _SHORTEST:
        pace.called_at = now
        has_changed = [hook() for hook in hooks]
        pace.interval = _SHORTEST if any(has_changed) else min(2 * pace.interval, _LONGEST)
