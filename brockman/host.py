"""What the process that we live in can do: whether a thread would run in it, and what it calls when.

uWSGI puts a module of its name into the interpreters that it runs. Where its `has_threads` is off (the default
before 2.0.28), the interpreter's lock is given away only inside a request: a thread would stand still between
them. It calls `after_req_hook` when an answer is out, if that was set while the application was loaded, and no
exit hook at all under `--skip-atexit`.

A sub-interpreter may not end while a thread of its own is left, and nobody can wait until a daemon thread is gone.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from brockman.report import say
from brockman.spawn import spawn_daemon

Spawn = Callable[[Callable[[], None]], None]

_NO_THREADS = (
    "{}, so triggers leave when a batch is full, when they have waited for flush_interval and another one comes"
    " or a request ends, and at exit{}"
)
_NO_EXIT = (
    "uWSGI runs with --skip-atexit, so no hook runs when a worker ends: triggers are delivered after each request,"
    " which keeps the worker busy; without the switch they leave in the background"
)


class Host:
    """The process that we live in, as far as it matters here.

    Attributes:
        calls_after_requests: Whether the hook that `prepare` set has been called: it may have come too late.
    """

    def __init__(self) -> None:
        self.calls_after_requests = False
        self._is_prepared = False

    @staticmethod
    def choose_spawn() -> Spawn:
        """Return what starts a thread here: it raises RuntimeError where none would run."""
        return spawn_daemon if _why_no_threads() is None else _refuse

    def prepare(self, after_request: Callable[[bool], None]) -> None:
        """Have a function called after each request, where that is needed, and say so on the log, once.

        Args:
            after_request: Called with whether it must deliver now, since no exit hook will come.
        """
        if self._is_prepared:
            return
        self._is_prepared = True
        uwsgi = _uwsgi()
        skips_exit = uwsgi is not None and bool(uwsgi.opt.get("skip-atexit"))
        problem = _why_no_threads()
        if uwsgi is not None and (skips_exit or problem is not None):
            self._set_hook(uwsgi, lambda: after_request(skips_exit))
        if skips_exit:
            say(logging.WARNING, _NO_EXIT)
        if problem is not None:
            say(logging.WARNING, problem)

    def _set_hook(self, uwsgi: Any, call: Callable[[], None]) -> None:
        before = getattr(uwsgi, "after_req_hook", None)

        def after_request() -> None:
            self.calls_after_requests = True
            call()
            if before is not None:
                before()

        uwsgi.after_req_hook = after_request


HOST = Host()


def _uwsgi() -> Any:
    """Return uWSGI's module; None elsewhere."""
    module = sys.modules.get("uwsgi")
    return module if hasattr(module, "worker_id") else None


def _why_no_threads() -> str | None:
    if not getattr(_uwsgi(), "has_threads", True):
        return _NO_THREADS.format("uWSGI runs without threads", "; start it with --enable-threads to change that")
    if _in_sub_interpreter():
        return _NO_THREADS.format("no thread is started in a sub-interpreter", "")
    return None


def _in_sub_interpreter() -> bool:
    try:
        interpreters: Any = __import__("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
        return bool(interpreters.get_current() != interpreters.get_main())
    except (ImportError, AttributeError):  # another implementation of Python
        return False


def in_event_loop() -> bool:
    """Return whether the caller is in an event loop of asyncio, which must not block."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _refuse(target: Callable[[], None]) -> None:
    raise RuntimeError("no thread would run in this process")
