"""A recording HTTP server on raw sockets, which can also break HTTP."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """A request that was received."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    raw_headers: list[tuple[str, str]]
    body: bytes
    at: float  # time.monotonic()
    connection: int  # its number, from 1

    @property
    def content(self) -> Any:
        """The body's JSON."""
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return json.loads(body)

    @property
    def triggers(self) -> list[dict[str, Any]]:
        """The triggers in it."""
        content = self.content
        return content if isinstance(content, list) else [content]

    @property
    def is_array(self) -> bool:
        """True if the body is an array."""
        return isinstance(self.content, list)


@dataclass
class Reply:
    """A response. If `act` is given, it is called with the connection instead, which is closed afterwards."""

    status: int = 201
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False  # close the connection afterwards, without `Connection: close`
    act: Callable[[RecordingServer, socket.socket], None] | None = None


def reset(server: RecordingServer, connection: socket.socket) -> None:
    """Reset the connection instead of answering."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def cut(server: RecordingServer, connection: socket.socket) -> None:
    """Hang up in the first line of a response."""
    connection.sendall(b"HTTP/1.")


def silence(server: RecordingServer, connection: socket.socket) -> None:
    """Send nothing until the server stops."""
    server.stopped.wait()


def drip(server: RecordingServer, connection: socket.socket) -> None:
    """Send a response that never ends, a byte every 50 ms."""
    connection.sendall(b"HTTP/1.1 201 Created\r\n")
    while not server.stopped.wait(0.05):
        connection.sendall(b"x")


class RecordingServer:
    """Records every request, and answers with what `respond` returns: 201 without a body by default."""

    def __init__(self, respond: Callable[[Request], Reply] | None = None, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.respond = respond or (lambda request: Reply())
        self.stopped = threading.Event()
        self.connections = 0
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}/api/v1/"
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True, name="recording-server")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            self._start(self._serve, connection, self.connections)

    def _serve(self, connection: socket.socket, number: int) -> None:
        reader = connection.makefile("rb")
        try:
            while (request := self._read(reader, number)) is not None:
                reply = self.respond(request)
                with self._changed:
                    self.requests.append(request)
                    self._changed.notify_all()
                if reply.act is not None:
                    reply.act(self, connection)
                    return
                head = {"Content-Length": str(len(reply.body)), **reply.headers}
                lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in head.items())]
                connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body)
                if reply.hang_up:
                    return
        except OSError:
            pass
        finally:
            reader.close()
            connection.close()
            self._open.discard(connection)

    def _read(self, reader: Any, number: int) -> Request | None:
        first = reader.readline().decode("latin-1").split()
        if len(first) != 3:
            return None
        raw_headers = []
        while (line := reader.readline().decode("latin-1").strip()) != "":
            name, _, value = line.partition(":")
            raw_headers.append((name, value.strip()))
        headers = {name.lower(): value for name, value in raw_headers}
        length = int(headers.get("content-length", "0"))
        body = reader.read(length)
        if len(body) < length:
            return None
        return Request(first[0], first[1], headers, raw_headers, body, time.monotonic(), number)

    @property
    def triggers(self) -> list[dict[str, Any]]:
        """The triggers of all requests, in order, whatever was answered."""
        return [trigger for request in self.requests for trigger in request.triggers]

    def ids(self) -> Counter[str]:
        """Return how often each id was received."""
        return Counter(trigger["id"] for trigger in self.triggers)

    @property
    def open_connections(self) -> int:
        """The number of connections that neither side has closed."""
        return len(self._open)

    def wait_until(self, condition: Callable[[RecordingServer], bool], timeout: float = 60.0) -> None:
        """Wait until a condition on the received requests holds; fail after `timeout` seconds."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), timeout), f"{len(self.requests)} requests came"

    def hang_up(self) -> None:
        """Close every open connection."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self) -> None:
        """Stop listening, hang up, and wait for the threads."""
        self.stopped.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
