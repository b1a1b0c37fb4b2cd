"""A search of unknown length, in parts. No I/O."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

_GROWTH = 4
_WANTED = 0.1  # seconds to read one


@dataclass(frozen=True, slots=True)
class Window:
    """A range of arrival numbers, both ends included."""

    first: int
    last: int
    next: int | None  # the cursor behind it; None if there is nothing


def make_windows(first: int, last: int, size: int, budget: float, *, newest_first: bool) -> Iterator[Window]:
    """Yield the parts of a range in an order, until all of it or the seconds of the budget are used.

    Arrival numbers have gaps, and triggers have sizes: each part is as long as the time suggests that the caller
    took for the one before. There is one part at least.
    """
    deadline = time.monotonic() + budget
    while True:
        started = time.monotonic()
        if newest_first:
            edge = max(first, last - size + 1)
            yield Window(edge, last, edge if edge > first else None)
            last = edge - 1
        else:
            edge = min(last, first + size - 1)
            yield Window(first, edge, edge if edge < last else None)
            first = edge + 1
        now = time.monotonic()
        if first > last or now > deadline:
            return
        size = max(1, int(size * min(_GROWTH, _WANTED / max(now - started, 1e-6))))
