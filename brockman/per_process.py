"""What must not be inherited by a forked child: made when it is first asked for, once in each process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class PerProcess(Generic[Value]):
    """Holds one value for the process that asks: a lock in it was never held by a thread of the parent's."""

    def __init__(self, make: Callable[[], Value]) -> None:
        """Make nothing yet.

        Args:
            make: Makes a value that starts nothing; two threads that come at once may call it for nothing.
        """
        self._make = make
        self._values: dict[int, Value] = {}  # by process id; each change and each look is one call into C

    def get(self) -> Value:
        """Return the value of this process. Does not block."""
        pid = os.getpid()
        value = self._values.get(pid)
        if value is None:
            value = self._values.setdefault(pid, self._make())
            for other in [other for other in list(self._values) if other != pid]:
                self._values.pop(other, None)  # the parent's
        return value
