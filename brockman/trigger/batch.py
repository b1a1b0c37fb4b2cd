"""Batches: how encoded triggers become one request body, are halved, and get their verdicts. Pure."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


def encode_batch(bodies: Sequence[bytes]) -> bytes:
    """Return the request body: the bare object for one trigger, a JSON array for several, or for none."""
    if len(bodies) < 2:
        return bodies[0] if bodies else b"[]"
    # Joined once: another `+` would copy half a megabyte into new pages.
    return b",".join([b"[" + bodies[0], *bodies[1:-1], bodies[-1] + b"]"])


def encoded_size(bodies: Sequence[bytes]) -> int:
    """Return the length in bytes of what `encode_batch` returns."""
    size = sum(map(len, bodies))
    return size if len(bodies) == 1 else size + len(bodies) + 1


def count_fitting(bodies: Sequence[bytes], max_bytes: int) -> int:
    """Return how many from the start make a request body of at most `max_bytes`; never less than one."""
    ends = list(accumulate(map(len, bodies)))
    if len(bodies) < 2 or ends[-1] + len(bodies) + 1 <= max_bytes:
        return len(bodies)
    # Each trigger brings itself and one comma or closing bracket; the array opens with one byte.
    return max(1, bisect_right(range(len(ends)), max_bytes, key=lambda index: ends[index] + index + 2))


def halve(bodies: Sequence[bytes]) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Return the older and the newer half."""
    middle = (len(bodies) + 1) // 2
    return bodies[:middle], bodies[middle:]


def parse_verdicts(answer: bytes, count: int) -> dict[int, str] | None:
    """Return which triggers of a 207 were rejected, and the server's words for each.

    The answer looks like `{"rejected": [{"index": 3, "error": "..."}]}`. Indices out of range and indices named
    twice are passed over: no server can make the counts wrong.

    Returns:
        None when the answer cannot be read as such, also when an index is not a whole number: that would leave
        open which trigger was rejected.
    """
    try:
        rejected = json.loads(answer)["rejected"]
        verdicts: dict[int, str] = {}
        if type(rejected) is not list:
            return None
        for entry in rejected:
            index = entry["index"]
            if type(index) is not int:
                return None
            if 0 <= index < count:
                # A lone surrogate in the words would stop a log that is written as UTF-8.
                words = str(entry.get("error") or "").encode("utf-8", "replace").decode()
                verdicts.setdefault(index, words[:300])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return verdicts
