"""The id and the time that a trigger gets when it is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from itertools import count


class IdSequence:
    """Make UUIDs, each a C call and a formatting, a tenth of `uuid.uuid4` (tests/benchmarks/record.py).

    The first 80 bits are drawn at random once, the last 48 count up: a UUID of version 8 (RFC 9562, 5.8), which
    leaves the layout to its maker. Unique as long as no two sequences draw the same 74 random bits.

    `next` on the counter is one C call, so that threads and signal handlers never get the same number.
    """

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        """Draw the prefix.

        Args:
            random_bytes: Returns that many random bytes, as `os.urandom` does.
        """
        drawn = bytearray(random_bytes(10))
        drawn[6] = drawn[6] & 0x0F | 0x80  # version 8
        drawn[8] = drawn[8] & 0x3F | 0x80  # the variant of RFC 9562
        text = drawn.hex()
        self._prefix = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:]}-"
        self._counter = count()

    def __next__(self) -> str:
        return "%s%012x" % (self._prefix, next(self._counter))  # noqa: UP031 - the f-string takes 0.1 us more


class Timestamps:
    """Format times as RFC 3339, UTC, with microseconds. The text of the last second is used again."""

    def __init__(self) -> None:
        self._last = (-1, "")  # one tuple, replaced whole: no thread sees half of it

    def format(self, seconds: float) -> str:
        """Return seconds since the epoch as text, e.g. `2026-11-23T17:22:32.123456Z`."""
        second, micro = divmod(int(seconds * 1e6 + 0.5), 1_000_000)
        kept, text = self._last
        if kept != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._last = (second, text)
        return "%s.%06dZ" % (text, micro)  # noqa: UP031 - as above


def parse_timestamp(text: str) -> float:
    """Return what `Timestamps.format` wrote as seconds since the epoch."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
