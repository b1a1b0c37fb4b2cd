"""Open a connection to the broker within a time limit, whatever it is that does not answer.

The time limits of a socket do not reach the resolver, and hold for each address of a host and each step of a
handshake anew. So a connection is opened in a thread of its own, for which the caller waits as long as it may.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from celery.exceptions import OperationalError

from brockman.process.uwsgi import why_no_threads


class Opening:
    """A connection that is being opened, and to whom it belongs.

    Attributes:
        is_given_up: Whether it belongs to the thread, since the caller has gone: who called must not touch it.
    """

    def __init__(self, connection: Any) -> None:
        """Begin nothing yet.

        Args:
            connection: Kombu's, from a pool.
        """
        self.is_given_up = False
        self._connection = connection
        self._lock = threading.Lock()  # decides between a caller that goes and a thread that is through
        self._is_through = False
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def open(self, timeout: float) -> None:
        """Open the connection, unless it is open. Blocks for so many seconds at the most.

        Raises:
            OperationalError: When it took longer.
            BaseException: What was raised while it was opened, or what strikes this thread while it waits.
        """
        if self._connection.connected:
            return
        if not self._start_thread():
            self._connect()
        else:
            self._wait(timeout)
            if self.is_given_up:
                raise OperationalError(f"no connection to the broker was open within {timeout} s")
            if self._error is not None:
                raise self._error
        _limit_waits(self._connection, timeout)

    def _start_thread(self) -> bool:
        if why_no_threads() is None:
            with suppress(RuntimeError):  # there are too many, or the interpreter ends
                threading.Thread(target=self._run, name="brockman-broker", daemon=True).start()
                return True
        return False

    def _run(self) -> None:
        try:
            self._connect()
        except BaseException as error:  # it is the caller's
            self._error = error
        with self._lock:
            self._is_through = True
        self._ended.set()
        if self.is_given_up:
            discard(self._connection)
            self._connection.release()

    def _wait(self, timeout: float) -> None:
        try:
            self._ended.wait(timeout)
        finally:
            with self._lock:
                self.is_given_up = not self._is_through

    def _connect(self) -> None:
        self._connection.default_channel  # noqa: B018 - opens the connection and a channel


def discard(connection: Any) -> None:
    """Drop the socket of a connection without speaking to the broker; the next use opens another."""
    with suppress(Exception):
        connection.collect()


def _limit_waits(connection: Any, timeout: float) -> None:
    """Have py-amqp wait no longer: its own limit is an option of the system's socket, which gevent ignores."""
    sock = getattr(getattr(connection.connection, "transport", None), "sock", None)
    if sock is not None:
        sock.settimeout(timeout)
