"""How the flusher's thread is started."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable


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
        threading.Thread(target=target, name="brockman-flusher", daemon=True).start()
    except RuntimeError:  # no second thread to be had, as while the interpreter ends: then this one does it
        target()
