"""Connections to PostgreSQL that requests share."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from brockman.collector.errors import StoreClosed, StoreUnavailable

_END_TIMEOUT, _PAUSE = 1.0, 0.02  # seconds


class Connections:
    """Up to a number of connections, kept for reuse.

    `psycopg_pool` connects in threads of its own: while the server is away, a request would wait for its timeout,
    and could not tell the reason.
    """

    def __init__(self, connect: Callable[[], Any], size: int, timeout: float) -> None:
        self._connect = connect
        self._timeout = timeout
        self._slots = threading.Semaphore(size)
        self._idle: list[Any] = []
        self._used: set[Any] = set()
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """Lend a connection for the length of a block; keep it afterwards if it is usable."""
        if not self._slots.acquire(timeout=self._timeout):
            raise StoreUnavailable("all connections to the database are in use", retry_after=1)
        try:
            if self._closed:
                raise StoreClosed()
            connection = self._take() or self._connect()
            self._used.add(connection)
            try:
                if self._closed:
                    raise StoreClosed()
                yield connection
            finally:
                self._used.discard(connection)
                is_idle = connection.info.transaction_status.name == "IDLE"
                if is_idle:
                    self._idle.append(connection)
                else:
                    connection.close()
                if self._closed:
                    self.discard()
        finally:
            self._slots.release()

    def discard(self) -> None:
        """Close the connections that are not in use."""
        while connection := self._take():
            connection.close()

    def close(self) -> None:
        self._closed = True
        self.discard()

    def end(self, *, cancel: bool) -> None:
        """Wait for the connections in use; with `cancel` end their statements, also one that is about to begin.

        Those of a server that does not react are ended too.
        """
        deadline = time.monotonic() + _END_TIMEOUT
        while self._used and (left := deadline - time.monotonic()) > 0:
            for connection in tuple(self._used) if cancel else ():
                with suppress(Exception):  # the connection may have broken, or have nothing to end
                    connection.cancel_safe(timeout=left)
            time.sleep(_PAUSE)
        for connection in tuple(self._used):
            with suppress(Exception):
                _sever(connection.fileno())

    def _take(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return None


def _sever(descriptor: int) -> None:
    """End a connection that a thread waits for: it finds it lost."""
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
