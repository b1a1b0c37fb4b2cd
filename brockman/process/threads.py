"""How the flusher's thread is started.

With CPython's global lock, a straight line of code, without a call or a backward jump in it, is one step for all
other threads; see `counters`. Without it, these lines need a lock of their own. It lets its own thread in again: a
signal handler may come just before or after a line, but in no build in the middle of one.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar


def spawn_daemon(target: Callable[[], None]) -> None:
    """Start a daemon thread: it never keeps a process alive. One call into C, which does not wait for the thread.

    `Thread.start` is not for a caller whom an exception may strike at any point: CPython 3.13 then takes back a
    thread that has begun, and raises KeyError. So a bare thread, which nothing strikes, starts the real one.

    Raises:
        RuntimeError: When no thread can be had.
    """
    _thread.start_new_thread(_launch, (target,))


def _launch(target: Callable[[], None]) -> None:
    # Signals are for the main thread: uWSGI ends a worker in whichever one they come to, and here waits for ever.
    if sys.platform == "linux" and threading.get_native_id() != os.getpid():  # else a greenlet in the main thread
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        threading.Thread(target=target, name="brockman-worker", daemon=True).start()
    except RuntimeError:  # no second thread to be had, as while the interpreter ends: then this one does it
        target()


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
