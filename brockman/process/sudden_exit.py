"""Warn once in a process that SIGTERM ends without exit hooks: triggers that wait then are lost.

Two kinds of processes end so: those in which nothing handles SIGTERM, and those of uvicorn, which shuts down and
then raises the signal again with its default action. A script that soon ends by itself is not warned: the process
must listen on a port, or have recorded for some seconds.
"""

from __future__ import annotations

import _socket  # not `socket`: gevent's would make a server's sockets non-blocking
import os
import signal
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from brockman.process import registry, sigterm
from brockman.process.clock import monotonic
from brockman.process.fork import PerProcess
from brockman.process.uwsgi import UWSGI

LONG = 5.0  # seconds of recording after which a process is not a short script
_LOOK_EVERY = 0.2  # seconds, until it is known how the process ends
_LOST = "triggers that wait then are lost"
_UNHANDLED = (
    f"SIGTERM would end this process at once, and {_LOST}; set handle_sigterm=True on the client, or"
    " FL_HANDLE_SIGTERM=1"
)
_RELOADER = (
    f"the reloader kills this process when it gets SIGTERM, and {_LOST}; start the server without it, and set"
    " FL_HANDLE_SIGTERM=1"
)
_RELOADERS = ("django.utils.autoreload", "werkzeug._reloader")  # modules, whose parent process does so
_UVICORN = f"uvicorn ends this process without exit hooks on SIGTERM, and {_LOST}; "
_WRAP = (
    "wrap the whole application: app = brockman.asgi.DeliverOnShutdown(app); where it cannot be wrapped, set"
    " FL_HANDLE_SIGTERM=1"
)
_LIFESPAN = "DeliverOnShutdown needs the lifespan, so start uvicorn without `--lifespan off`"


class Watch:
    """Finds out how this process will end, while its workers run."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.has_lifespan = False  # whether `DeliverOnShutdown`, or the application's own, delivers at its end
        self._clock = clock
        self._since = clock()
        self._look_at = self._since
        self._is_over = False

    def enter_block(self) -> None:
        """Note that a `with` block will close a client: while uvicorn runs, one of an application's lifespan."""
        self.has_lifespan = self.has_lifespan or _uvicorn(sigterm.handler()) is not None

    def due_in(self) -> float | None:
        """Return the seconds until the next look; None when no more is needed."""
        return None if self._is_over else max(0.0, self._look_at - self._clock())

    def look(self) -> None:
        """Log the warning if SIGTERM loses triggers here. Raises nothing: delivery goes on without it."""
        now = self._clock()
        if self._is_over or now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        try:
            self._look(now)
        except Exception:
            self._is_over = True

    def _look(self, now: float) -> None:
        handler = sigterm.handler()
        server = _uvicorn(handler)
        if server is not None:
            if not server.started:
                return
            problem = None if self.has_lifespan or sigterm.follows_uvicorn() else _uvicorn_problem(server)
        elif handler is signal.SIG_DFL and _may_warn():
            if now < self._since + LONG and not _listens():
                return
            problem = _UNHANDLED
        else:
            problem = _RELOADER if getattr(handler, "__module__", None) in _RELOADERS else None
        self._is_over = True
        if problem:
            import logging  # not at the top: importing the client stays cheap

            from brockman.process.log import say

            say(logging.WARNING, problem)


_watches = PerProcess(Watch)


def watch() -> Watch:
    """Return the watch of this process."""
    return _watches.get()


def _uvicorn(handler: Any) -> Any:
    """Return the running server of uvicorn's whose signal handler this is, if it is one."""
    kind = getattr(sys.modules.get("uvicorn.server"), "Server", None)
    server = getattr(handler, "__self__", None)
    return server if kind is not None and isinstance(server, kind) else None


def _uvicorn_problem(server: Any) -> str:
    return _UVICORN + (f"{_WRAP}; {_LIFESPAN}" if server.config.lifespan == "off" else _WRAP)


def _may_warn() -> bool:
    """Return whether SIGTERM is left to its default action, in a process that is not a parent's to end."""
    return not (
        os.name != "posix"
        or UWSGI.is_present
        or hasattr(sys, "ps1")  # an interactive session
        or os.environ.get("PYTEST_CURRENT_TEST")  # a test run, or started by one
        or "pytest" in sys.modules
        or registry.substitutes
        or "RQ_JOB_ID" in os.environ  # a job of rq's, which no hook follows; see `flushing`
        or _is_handled_in_c()
        or _is_child()
    )


def _is_handled_in_c() -> bool:
    """Return whether SIGTERM is caught, ignored or blocked by code that `signal.getsignal` does not know of."""
    with suppress(OSError, ValueError), open("/proc/self/status", "rb") as file:  # as text it may import a codec
        masks = (line.split() for line in file if line.startswith((b"SigBlk", b"SigIgn", b"SigCgt")))
        return any(int(mask, 16) >> (signal.SIGTERM - 1) & 1 for _, mask in masks)
    return False  # not Linux


def _is_child() -> bool:
    """Return whether this is a child of `multiprocessing` or Celery, which its parent is to end in order."""
    for name in ("multiprocessing.process", "billiard.process"):
        process = getattr(sys.modules.get(name), "current_process", lambda: None)()
        if getattr(process, "_parent_pid", None) is not None:
            return True
    return False


def _listens() -> bool:
    """Return whether a TCP socket of this process listens."""
    with suppress(OSError):
        return _socket.getdefaulttimeout() is None and any(map(_is_listening, os.listdir("/dev/fd")))
    return False


def _is_listening(name: str) -> bool:
    with suppress(OSError, ValueError):  # it may be closed meanwhile
        if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
            # A default timeout would make the server's own socket non-blocking.
            copy = _socket.socket(fileno=os.dup(int(name)))
            try:
                is_tcp = copy.family in (_socket.AF_INET, _socket.AF_INET6) and copy.type == _socket.SOCK_STREAM
                return is_tcp and bool(copy.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN))
            finally:
                copy.close()
    return False
