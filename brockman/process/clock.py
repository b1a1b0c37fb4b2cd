"""The clock for measuring waits.

Tests freeze `time.time` and `time.monotonic` (freezegun, time-machine), and a deadline on a frozen clock never
comes. Both libraries leave `clock_gettime` running. Where it is missing (Windows), a tuple holds `time.monotonic`,
because freezegun searches only module attributes.

`recorded_at` should be the frozen time, so `time.time` is looked up at each call.
"""

from __future__ import annotations

import math
import time

_REAL = (time.monotonic,)

REAL_NS = (time.time_ns, time.perf_counter_ns)  # for ids: Python code in these would cost, and let threads switch

if hasattr(time, "clock_gettime"):

    def monotonic() -> float:
        """Return seconds on a clock that never goes back, and that tests do not freeze."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)

else:  # pragma: no cover - Windows

    def monotonic() -> float:
        """Return seconds on a clock that never goes back, and that tests do not freeze."""
        return _REAL[0]()


def wall() -> float:
    """Return seconds since the epoch; the frozen time if a test froze it."""
    return time.time()


def as_seconds(timeout: float | None) -> float:
    """Return a timeout in seconds: infinite for None, 0 for a negative number or nan."""
    if timeout is None:
        return math.inf
    try:
        seconds = float(timeout)  # a Decimal cannot be added to a float, and locks refuse numpy's numbers
    except (TypeError, ValueError, OverflowError) as error:
        kind = type(timeout).__name__
        raise type(error)(f"timeout: a value of type {kind} should be a number of seconds, or None") from None
    return seconds if seconds > 0 else 0.0
