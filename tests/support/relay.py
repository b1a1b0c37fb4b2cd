"""A TCP relay in front of a server: a firewall that resets large requests, or a slow link."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Relay:
    """Relays connections to a port of this machine.

    Attributes:
        endpoint: The URL for a client.
        resets: How many connections were reset.
    """

    def __init__(self, port: int, *, max_request: int, bytes_per_second: float) -> None:
        """Listen. A request of more than `max_request` bytes is reset; each connection is as slow as given."""
        self._target = port
        self._max_request = max_request
        self._rate = bytes_per_second
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self.resets = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # inherited: little is on its way
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api/v1/"
        self._start(self._accept)

    def _start(self, target, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True, name="relay")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._relay, client)

    def _relay(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._target))
        client.settimeout(0.1)
        sent = [0]  # bytes of the request that is on its way
        self._start(self._answer, server, client, sent)
        with suppress(OSError):
            while not self._stopped.is_set():
                try:
                    data = client.recv(4096)
                except TimeoutError:
                    continue
                if not data:
                    break
                sent[0] += len(data)
                if sent[0] > self._max_request:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.resets += 1
                    break
                self._stopped.wait(len(data) / self._rate)
                server.sendall(data)
        client.close()
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket, sent: list[int]) -> None:
        with server, suppress(OSError):
            while data := server.recv(4096):
                sent[0] = 0
                client.sendall(data)

    def stop(self) -> None:
        """Stop, and wait for the threads."""
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        until = time.monotonic() + 10
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
            assert not thread.is_alive()


@contextmanager
def relayed(port: int, *, max_request: int = 2**60, bytes_per_second: float = 1e12) -> Iterator[Relay]:
    """Run a relay for the length of a block."""
    relay = Relay(port, max_request=max_request, bytes_per_second=bytes_per_second)
    try:
        yield relay
    finally:
        relay.stop()
