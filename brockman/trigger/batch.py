"""Batches: join encoded triggers into a request body, and halve them. No I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


def encode_batch(bodies: Sequence[bytes]) -> bytes:
    """Return the request body: the bare object for one trigger, a JSON array for several, or for none."""
    if len(bodies) < 2:
        return bodies[0] if bodies else b"[]"
    # One join: adding the brackets afterwards would copy half a megabyte.
    return b",".join([b"[" + bodies[0], *bodies[1:-1], bodies[-1] + b"]"])


def encoded_size(bodies: Sequence[bytes]) -> int:
    """Return the length in bytes of what `encode_batch` returns."""
    size = sum(map(len, bodies))
    return size if len(bodies) == 1 else size + len(bodies) + 1


def count_fitting(bodies: Sequence[bytes], max_bytes: int) -> int:
    """Return how many triggers from the start make a request body of at most `max_bytes`, but at least one."""
    ends = list(accumulate(map(len, bodies)))
    if len(bodies) < 2 or ends[-1] + len(bodies) + 1 <= max_bytes:
        return len(bodies)
    # Each trigger takes its own bytes and one for the comma or closing bracket; the opening bracket one more.
    return max(1, bisect_right(range(len(ends)), max_bytes, key=lambda index: ends[index] + index + 2))


def halve(bodies: Sequence[bytes]) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Return the older and the newer half."""
    middle = (len(bodies) + 1) // 2
    return bodies[:middle], bodies[middle:]
