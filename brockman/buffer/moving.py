"""Moves between deques of which nothing can be lost on the way, whatever strikes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice


def move(source: deque[bytes], target: deque[bytes], count: int) -> bool:
    """Move up to `count` of the oldest, in one C call; False when there was none.

    `extend` pulls on `islice`, that on the two-argument `iter`, that on `popleft`: no Python code runs between
    taking out and putting in, so nothing can be lost there.
    """
    try:
        target.extend(islice(iter(source.popleft, None), count))
    except IndexError:  # the source ran out; what came before has moved
        return bool(target)
    return True


def give_each(source: deque[bytes], put: Callable[[bytes], object]) -> None:
    """Take out one after the other and give it to `put`; no two threads give the same one."""
    try:
        while True:
            put(source.popleft())
    except IndexError:  # it ran out
        return
