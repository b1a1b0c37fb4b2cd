"""The id of a trigger. Random bytes and clocks are passed in."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from itertools import accumulate, cycle, repeat, starmap
from typing import Literal

_VERSION_GROUPS = tuple(f"-7{number:03x}-" for number in range(4096))  # version 7, and a counter
_48_BITS = 2**48 - 1


def make_ids(
    random_bytes: Callable[[int], bytes], now: Callable[[], int], ticks: Callable[[], int]
) -> Iterator[str]:
    """Return an iterator over UUIDs as text, one C call each (tests/benchmarks/record.py).

    UUIDs of version 7 (RFC 9562, 5.7)::

        tttttttt-tttt-7ccc-rrrr-ssssssssssss

    t is the time of the call in milliseconds, c a counter, and r random. s is the sum of a random number and of
    all readings so far of a clock in nanoseconds, which goes on where tests freeze the time. Copies of a process,
    forked or restored from a snapshot, make the same id only if their clocks showed the same at every id since.

    Two threads never get the same id, nor does a signal handler, since no Python code runs inside `next`.

    Args:
        random_bytes: Returns a number of random bytes, such as `os.urandom`.
        now: Returns Unix time in nanoseconds, such as `time.time_ns`.
        ticks: Returns nanoseconds on a clock that never goes back, such as `time.perf_counter_ns`.
    """
    drawn = int.from_bytes(random_bytes(8), "big")
    variant = f"{drawn >> 48 & 0x3FFF | 0x8000:04x}-"
    times, readings = starmap(now, repeat(())), starmap(ticks, repeat(()))
    milliseconds = map(abs, map(operator.floordiv, times, repeat(1_000_000)))  # `abs` for a time before 1970
    sums = map(operator.and_, accumulate(readings, initial=drawn), repeat(_48_BITS))
    first_groups = map(bytes.hex, _pack(milliseconds), repeat("-"), repeat(-4))
    groups = cycle([group + variant for group in _VERSION_GROUPS])
    ids = map(str.join, groups, zip(first_groups, map(bytes.hex, _pack(sums)), strict=False))
    next(ids)  # its sum has no reading in it
    return ids


def _pack(numbers: Iterator[int]) -> Iterator[bytes]:
    """Return an iterator over numbers below 2**48 as bytes."""
    order: Literal["big"] = "big"
    return map(int.to_bytes, numbers, repeat(6), repeat(order))
