"""SIGTERM for plain scripts: deliver, then do what it would have done. Only where a client asks for it.

Its default action ends the process without running any Python, exit hooks included. Servers (gunicorn, Celery)
have handlers of their own and need nothing of this.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from brockman.exceptions import ConfigurationError
from brockman.process import exit

_before: Any = signal.SIG_DFL  # the handler that was there


def install() -> None:
    """Handle SIGTERM in this process and those that it forks; doing it twice does no harm.

    Raises:
        ConfigurationError: Outside the main thread, and when there is a handler that Python cannot call.
    """
    global _before
    before = signal.getsignal(signal.SIGTERM)
    if before is _on_sigterm or before is signal.SIG_IGN:  # ignored: it does not end the process
        return
    if before is None:
        raise ConfigurationError(
            "handle_sigterm is True, but the server that runs this process handles SIGTERM outside Python;"
            " leave it off: such a server has exit hooks"
        )
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError(
            "handle_sigterm is True in a thread; signals can be handled only by the main thread:"
            " make the first client there, or leave it off"
        )
    _before = before
    signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: Any) -> None:
    """Deliver within `shutdown_timeout`, then go on to the handler that was there.

    A handler may let the process go on, so before one nothing is closed.
    """
    if callable(_before):
        exit.flush_all()
        _before(number, frame)
        return
    exit.close_last()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # so that the exit status says what ended the process
    os.kill(os.getpid(), signal.SIGTERM)
