"""Recognises a forked child: the only place that remembers a process id.

In a forked child, `registry` detaches the parent's pipelines first: the child starts empty. Then the spool closes
the descriptors, and the transport the sockets, that the parent had open. Python's fork hooks do not run in every
child (uWSGI skips them), so objects also check when they are used.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")

_MADV_WIPEONFORK = 18  # madvise(2), Linux 4.14; missing from the module `mmap`

after_fork_hooks: list[Callable[[], object]] = []  # of registry, spool and transport


class Origin:
    """The process in which an object was made."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_inherited(self) -> bool:
        """True for a copy in a forked child."""
        return self._pid != os.getpid()


# The items of a fork flag. USUAL is also 0 while a log line is written, as recording then looks at the thread.
USUAL, HERE = 0, 1
CLEARED = bytes(2)


class _PidFlag:
    """A fork flag for systems without MADV_WIPEONFORK."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._items = [1, 1]

    def __getitem__(self, index: int) -> int:
        return self._items[index] if self._pid == os.getpid() else 0

    def __setitem__(self, index: int, value: int) -> None:
        self._items[index] = value


def make_fork_flag() -> Any:
    """Return a flag whose items, `USUAL` and `HERE`, are 1; the kernel clears both in every forked child.

    Reading it costs less than `os.getpid`; `python -m tests.benchmarks.record` prints both.
    """
    with suppress(AttributeError, OSError, ValueError):
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
        page[USUAL] = page[HERE] = 1
        return page
    return _PidFlag()


class PerProcess(Generic[Value]):
    """One value for each process, made on demand: no thread of a parent process ever held a lock in it."""

    def __init__(self, make: Callable[[], Value]) -> None:
        """Make nothing yet.

        Args:
            make: Returns a value and starts nothing. If two threads call it at once, one value is discarded.
        """
        self._make = make
        self._values: dict[int, Value] = {}  # by process id; each access is one call into C

    def get(self) -> Value:
        """Return the value of this process. Does not block."""
        pid = os.getpid()
        value = self._values.get(pid)
        if value is None:
            value = self._values.setdefault(pid, self._make())
            self.pop_inherited()
        return value

    def peek(self) -> Value | None:
        """Return the value of this process, or None when there is none yet."""
        return self._values.get(os.getpid())

    def pop_inherited(self) -> list[Value]:
        """Remove and return the values of other processes, which a forked child inherits."""
        here = os.getpid()
        popped = [self._values.pop(pid, None) for pid in list(self._values) if pid != here]
        return [value for value in popped if value is not None]


_flags: PerProcess[Any] = PerProcess(make_fork_flag)


def fork_flag() -> Any:
    """Return the flag of this process."""
    return _flags.get()


def run_after_fork_hooks() -> None:
    """Call every hook, whether or not another one raises."""
    for hook in after_fork_hooks:
        with suppress(Exception):
            hook()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=run_after_fork_hooks)
