"""What the interpreter that runs us is: with or without a global lock, the main one or a sub-interpreter.

With CPython's global lock, a straight line of code, without a call or a backward jump in it, is one step for all
other threads; see `ledger`. Without it, these lines need a lock of their own. It lets its own thread in again: a
signal handler may come just before or after a line, but in no build in the middle of one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

Value = TypeVar("Value")


def in_sub_interpreter() -> bool:
    """Return whether this is not the main interpreter of the process."""
    try:
        interpreters: Any = __import__("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
        return bool(interpreters.get_current() != interpreters.get_main())
    except (ImportError, AttributeError):  # another implementation of Python
        return False


HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


def make_guard() -> AbstractContextManager[Any]:
    """Return what to hold around a straight line: a lock where one is needed."""
    return nullcontext() if HAS_GIL else threading.RLock()


def one_by_one(function: Callable[[], Value]) -> Callable[[], Value]:
    """Return a function in C so that no two threads are in it at a time: as it is, where that is so anyway."""
    if HAS_GIL:
        return function
    guard = make_guard()

    def guarded() -> Value:
        with guard:
            return function()

    return guarded
