"""How long a connection may be idle. Routers forget idle connections, and then swallow what is sent over them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

MAX_IDLE = 60.0  # seconds

# A clock may stand still while the machine sleeps or the process is frozen, and the wall clock may be set: so two
# are read. Not `time.time`, which tests freeze.
_NAMES = ("CLOCK_BOOTTIME" if hasattr(time, "CLOCK_BOOTTIME") else "CLOCK_MONOTONIC", "CLOCK_REALTIME")
_CLOCKS = [getattr(time, name) for name in _NAMES if hasattr(time, name)]

IdleClock = Callable[[], Sequence[float]]


def idle_clock() -> Sequence[float]:
    """Return seconds on each clock that may have gone on while nothing was sent."""
    if not _CLOCKS:  # pragma: no cover - Windows
        return time.monotonic(), time.time()
    return [time.clock_gettime(clock) for clock in _CLOCKS]


def is_too_old(since: Sequence[float], now: Sequence[float]) -> bool:
    """Return whether a connection that is idle since then may have been forgotten; False without a time."""
    return any(after - before > MAX_IDLE for before, after in zip(since, now, strict=False))
