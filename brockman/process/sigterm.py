"""SIGTERM in plain scripts (`handle_sigterm=True`): deliver, then do what the signal did before.

Its default action ends the process without running any Python, not even exit hooks. Servers such as gunicorn and
Celery have handlers of their own and do not need this.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from brockman.exceptions import ConfigurationError
from brockman.process import exit
from brockman.process.fork import Origin

_previous: Any = signal.SIG_DFL  # the handler before ours
_installed: Origin | None = None


def install() -> None:
    """Handle SIGTERM in this process and its forked children. Idempotent.

    Raises:
        ConfigurationError: Outside the main thread, and when the current handler is not one of Python.
    """
    global _previous, _installed
    previous = signal.getsignal(signal.SIGTERM)
    if previous is _on_sigterm or previous is signal.SIG_IGN:  # an ignored signal does not end the process
        return
    if previous is None:
        raise ConfigurationError(
            "handle_sigterm is True, but the server that runs this process handles SIGTERM outside Python;"
            " leave it off: such a server has exit hooks"
        )
    before, _previous = _previous, previous
    try:
        signal.signal(signal.SIGTERM, _on_sigterm)
    except ValueError:  # `threading` does not tell the main thread where eventlet has patched it
        _previous = before
        raise ConfigurationError(
            "handle_sigterm is True in a thread, but only the main thread can install a signal handler;"
            " make the first client there, or leave it off"
        ) from None
    _installed = Origin()


def is_installed() -> bool:
    """Return whether SIGTERM is handled here."""
    return signal.getsignal(signal.SIGTERM) is _on_sigterm


def handler() -> Any:
    """Return the handler of SIGTERM, or the one that ours calls."""
    return _previous if is_installed() and callable(_previous) else signal.getsignal(signal.SIGTERM)


def follows_uvicorn() -> bool:
    """Return whether ours was installed before uvicorn's, which raises SIGTERM again when it has restored ours."""
    return _installed is not None and not _installed.is_inherited and not is_installed()


def _on_sigterm(number: int, frame: Any) -> None:
    spawn = _spawner()
    if spawn is None:
        _deliver(number, frame)
        return
    spawn(_deliver, number, frame)
    if frame is not None and frame.f_code.co_name == "do_poll":  # of eventlet's hub: Python would poll on
        raise InterruptedError(errno.EINTR, "SIGTERM")


def _spawner() -> Callable[..., object] | None:
    """Return how to start a greenlet if the handler runs in a hub, or in the worker; None if it may wait.

    The hub must not wait, and the worker cannot wait for itself.
    """
    greenlet: Any = sys.modules.get("greenlet")
    gevent, eventlet = sys.modules.get("gevent.hub"), sys.modules.get("eventlet.hubs")
    current = [] if greenlet is None else [greenlet.getcurrent(), greenlet.getcurrent().parent]
    if gevent is not None and any(isinstance(one, gevent.Hub) for one in current):
        return gevent.spawn_raw  # type: ignore[no-any-return]
    hub = getattr(getattr(eventlet, "_threadlocal", None), "hub", None)  # not `get_hub`, which makes one
    if hub is not None and hub.greenlet in current:
        return sys.modules["eventlet"].spawn_n  # type: ignore[no-any-return]
    return None


def _deliver(number: int, frame: Any) -> None:
    """Deliver within `shutdown_timeout`, then call the previous handler or end the process.

    A previous handler may let the process continue, so nothing is closed before it.
    """
    if callable(_previous):
        exit.flush_all()
        _previous(number, frame)
        return
    try:
        exit.close_last()
    finally:  # also when a Ctrl-C has struck meanwhile
        _end_process()


def _end_process() -> None:
    """End the process by SIGTERM's default action, or with the same status where the kernel ignores that."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # so that the exit status shows the signal
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.kill(os.getpid(), signal.SIGTERM)
    # Still here: process 1 of a container, which no signal's default action ends. A shell and `docker` say 143.
    os._exit(128 + signal.SIGTERM)
