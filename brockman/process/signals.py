"""The signals of a thread that brockman starts: all are blocked, except while the user's code runs in it.

Signals are left to the main thread. uWSGI ends a worker in the thread that receives one, and would hang in this
one; and a signal that the main thread waits for with `signal.sigwait` would end the process here. But a subprocess
inherits what is blocked in the thread that starts it, and could not be terminated. So a callback runs with the
signals of the thread that recorded the first trigger, but in uWSGI.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound="Callable[..., Any] | None")


class _Thread(threading.local):
    inherited: set[Any] | None = None  # the signals blocked in what started it; None in threads of others


_thread = _Thread()


def block_all() -> set[Any] | None:
    """Block all signals in this thread, and return those that were blocked; None where nothing was changed."""
    # With gevent a thread is a greenlet in the main thread, whose signals must not be blocked.
    if sys.platform != "linux" or _is_main_thread():
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def inherited_mask() -> set[Any] | None:
    """Return the signals that are blocked for the user's code in this thread; None in threads of others."""
    return _thread.inherited


def remember_inherited(blocked: set[Any] | None) -> None:
    """Note which signals are blocked for the user's code in this thread."""
    _thread.inherited = blocked


@contextmanager
def inherited_signals() -> Iterator[None]:
    """Unblock signals within the block, where the user's code runs; not in threads of others, nor in uWSGI."""
    if _thread.inherited is None or "uwsgi" in sys.modules:
        yield
        return
    signal.pthread_sigmask(signal.SIG_SETMASK, _thread.inherited)
    try:
        yield
    finally:
        if not _is_main_thread():  # it has forked, and this is the child
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def unmasked(function: Function) -> Function:
    """Return a function of the user's that runs under `inherited_signals`; None for None."""
    if function is None:
        return function

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with inherited_signals():
            return function(*arguments)

    return cast("Function", call)


def _is_main_thread() -> bool:
    return threading.get_native_id() == os.getpid()
