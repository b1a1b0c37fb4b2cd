"""The identity of a process that counts: what its requests say of it."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from urllib.parse import quote

from brockman.process.clock import wall

_MAX_HOST_CHARS = 100


class Identity:
    """A random id, the host name, the process id, and the time. Make one in the process that sends."""

    def __init__(self) -> None:
        host = ""
        with suppress(OSError, UnicodeError):
            host = socket.gethostname()[:_MAX_HOST_CHARS]
        micros = int(wall() * 1_000_000)
        # By hand: CPython 3.13.0 crashes on an aware datetime in a finalizer at the end of the process.
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(micros // 1_000_000))
        self.text = (
            f"id={os.urandom(16).hex()}; host={quote(host, safe='', errors='replace')}; pid={os.getpid()};"
            f" started={seconds}.{micros % 1_000_000:06}Z"
        )
