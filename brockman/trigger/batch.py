"""Batches: join encoded triggers into a request body, halve them, read the verdicts of a 207. No I/O."""

from __future__ import annotations

import json
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


def parse_verdicts(answer: bytes, count: int) -> dict[int, str] | None:
    """Return the indices of the triggers that a 207 rejects, each with the server's error text.

    The answer looks like `{"rejected": [{"index": 3, "error": "..."}]}`. An index out of range or repeated is
    ignored, so that no server can falsify the counts.

    Returns:
        None when the answer has another form, or an index that is not a whole number: then it is unknown which
        trigger was rejected.
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
                # Without lone surrogates, which a log in UTF-8 cannot write.
                text = str(entry.get("error") or "").encode("utf-8", "replace").decode()
                verdicts.setdefault(index, text[:300])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return verdicts
