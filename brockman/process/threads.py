"""Starting the worker's thread, and what differs between interpreters.

With the GIL, a straight line of code, without a call or a backward jump in it, is atomic for other threads; see
`buffer/counters.py`. Free-threaded builds need a lock around it. That is re-entrant: a signal handler may run just
before or after such a line, but in no build in the middle of one.
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from brockman.process import signals

Value = TypeVar("Value")

PREFIX = "brockman-"  # of the names of our threads
HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


def spawn_daemon(target: Callable[[], None], name: str = PREFIX + "worker") -> None:
    """Start a daemon thread, which never keeps the process alive. One call into C, which does not wait for it.

    If an exception strikes inside `Thread.start`, CPython 3.13 discards a thread that runs already, and raises
    KeyError. So a bare thread, in which no exception strikes, starts the real one.

    Raises:
        RuntimeError: When no thread can be started.
    """
    _thread.start_new_thread(_launch, (target, name, signals.inherited_mask()))


def _launch(target: Callable[[], None], name: str, of_starter: set[Any] | None) -> None:
    blocked = signals.block_all()

    def run() -> None:
        signals.remember_inherited(blocked if of_starter is None else of_starter)
        target()

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError:  # no second thread can be started, as at exit: use this one
        run()


def in_sub_interpreter() -> bool:
    """Return whether this is not the main interpreter of the process."""
    try:
        interpreters: Any = __import__("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
        return bool(interpreters.get_current() != interpreters.get_main())
    except (ImportError, AttributeError):  # another implementation of Python
        return False


def in_event_loop() -> bool:
    """Return whether the caller runs in an event loop of asyncio, which must not block."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def make_lock_without_gil() -> AbstractContextManager[Any]:
    """Return a re-entrant lock in a free-threaded build, and otherwise a context manager that does nothing."""
    return nullcontext() if HAS_GIL else threading.RLock()


def serialize_calls(function: Callable[[], Value]) -> Callable[[], Value]:
    """Return a function written in C such that only one thread at a time is in it; unchanged with the GIL."""
    if HAS_GIL:
        return function
    lock = threading.RLock()

    def serialized() -> Value:
        with lock:
            return function()

    return serialized
