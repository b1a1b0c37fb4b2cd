"""Waiting for a condition that nothing signals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

Timed = TypeVar("Timed", bound="tuple[Any, ...]")


def eventually(condition: Callable[[], object], timeout: float = 60.0) -> bool:
    """Return True as soon as a condition holds, False if it still does not after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    tick = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        tick.wait(0.005)
    return True


def quick(run: Callable[[], Timed], limit: float, tries: int = 5) -> Timed:
    """Return the first result of `run` whose first item, the seconds it took, is below a limit.

    A busy machine may delay each one, but not all; what waits for too long does so each time.

    Raises:
        AssertionError: When none of the tries was quick enough.
    """
    took = []
    for _ in range(tries):
        result = run()
        if result[0] < limit:
            return result
        took.append(result[0])
    raise AssertionError(f"it took {took} s, and never less than {limit}")
