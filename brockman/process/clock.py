"""The clock that waiting is measured with.

Test suites freeze `time.time` and `time.monotonic` (freezegun, time-machine); a deadline computed from a frozen
clock never comes. `clock_gettime` is left running by both. Where it is missing (Windows), `time.monotonic` is
held in a tuple, where the search of freezegun through module attributes does not find it.

The wall clock is another matter: `recorded_at` is meant to be the frozen time, so `time.time` is looked up at
each call.
"""

from __future__ import annotations

import time

_REAL = (time.monotonic,)

if hasattr(time, "clock_gettime"):

    def monotonic() -> float:
        """Return seconds on a clock that only moves forward, also while a test has frozen time."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)

else:  # pragma: no cover - Windows

    def monotonic() -> float:
        """Return seconds on a clock that only moves forward, also while a test has frozen time."""
        return _REAL[0]()


def wall() -> float:
    """Return seconds since the epoch: the frozen time while a test has frozen it."""
    return time.time()
