"""Notices between collectors on one PostgreSQL: `NOTIFY` and `LISTEN`, on a connection and in a thread of its own.

A transaction that notifies holds a lock of the whole server until it has committed, so the transactions that store
do not notify. They wake a thread, which sends one notice for all of them, a few times a second at most.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

_MIN_INTERVAL = 0.1  # seconds between two notices that are sent
_RECONNECT_INTERVAL = 2.0  # seconds
_END_TIMEOUT = 1.0  # seconds
_log = logging.getLogger("brockman.collector")


class Notices:
    """Sends notices, and calls a function for those of all collectors, including the ones sent here."""

    def __init__(
        self,
        connect: Callable[[], Any],  # returns a psycopg connection
        channel: str,
        on_notice: Callable[[], None],
        error: type[Exception],  # what a broken connection raises
    ) -> None:
        self._connect = connect
        self._channel = channel
        self._on_notice = on_notice
        self._error = error
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._receiver: socket.socket | None = None
        self._sender: socket.socket | None = None
        self._pending = False  # a notice is to be sent
        self._closed = False

    def start(self) -> None:
        """Start the thread. Idempotent."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._receiver, self._sender = socket.socketpair()
                self._sender.setblocking(False)
                self._thread = threading.Thread(target=self._run, name="brockman-notices", daemon=True)
                self._thread.start()

    def send(self) -> None:
        """Send a notice soon."""
        self.start()
        if not self._pending:
            self._pending = True
            self._wake()

    def close(self) -> None:
        """Send what is pending, and end the thread. Idempotent."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._wake()
            thread.join(_END_TIMEOUT)  # the server may not react

    def _wake(self) -> None:
        try:
            if self._sender is not None:
                self._sender.send(b"w")
        except OSError:  # full: it is awake; or closed
            pass

    def _run(self) -> None:
        assert self._receiver is not None
        assert self._sender is not None
        with self._receiver, self._sender:
            while not self._closed:
                try:
                    self._serve(self._receiver)
                except self._error as error:
                    self._pending = True  # it may not have been sent
                    _log.debug("brockman: no notices of other collectors: %s", error)
                    self._wait(self._receiver, None, _RECONNECT_INTERVAL)

    def _serve(self, receiver: socket.socket) -> None:
        """Send and receive over one connection until it breaks, or `close`."""
        with self._connect() as connection:
            received: list[Any] = []
            connection.add_notify_handler(received.append)
            connection.execute(f"LISTEN {self._channel}")
            self._on_notice()  # some may have been missed
            next_send = 0.0
            while not (self._closed and not self._pending):
                wait = max(0.0, next_send - time.monotonic()) if self._pending else None
                if wait and not self._closed:
                    self._wait(receiver, connection, wait)
                elif self._pending:
                    self._pending = False  # before: what is committed from here on needs another
                    connection.execute(f"NOTIFY {self._channel}")
                    next_send = time.monotonic() + _MIN_INTERVAL
                else:
                    self._wait(receiver, connection, None)
                if received:
                    received.clear()
                    self._on_notice()

    def _wait(self, receiver: socket.socket, connection: Any, seconds: float | None) -> None:
        """Wait for a call of `send` or `close`, for a notice, or until a time has passed."""
        with selectors.DefaultSelector() as selector:
            for watched in (receiver, connection):
                if watched is not None:
                    selector.register(watched, selectors.EVENT_READ)
            readable = [key.fileobj for key, _ in selector.select(seconds)]
        if receiver in readable:
            receiver.recv(4096)
        if connection in readable:
            connection.execute("SELECT 1")  # reads the notices, and fails if the connection is lost
