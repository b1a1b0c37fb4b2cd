"""The server that all sides send to: it answers at once, or after a delay, and counts triggers on request.

One answer suits every peer. Bodies are read and kept; they are parsed only for `count`, when nothing is measured.
"""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs
from urllib.request import urlopen

import orjson

_ANSWER = b'{"status":1,"code":200,"error":null}'  # mixpanel reads `status`, amplitude `code`
_LISTS = ("batch", "events", "data")  # where the triggers are: segment, rudder, posthog; amplitude; snowplow


def count_triggers(head: bytes, body: bytes) -> int:
    """Return the number of triggers in a request, in the format of any side."""
    if b"content-encoding: gzip" in head.lower():
        body = gzip.decompress(body)
    if b"/envelope/" in head.partition(b"\r\n")[0]:  # sentry: a line of JSON before each item
        return body.count(b'{"type":"event"')
    if b"application/x-www-form-urlencoded" in head.lower():
        body = parse_qs(body)[b"data"][0]
    found = orjson.loads(body)
    if isinstance(found, dict):
        found = next((found[name] for name in _LISTS if isinstance(found.get(name), list)), [found])
    return len(found)


class Sink:
    """Counts since the last reset. A thread for each connection."""

    def __init__(self) -> None:
        self._kept: list[tuple[bytes, bytes]] = []
        self._triggers = 0
        self._requests = 0
        self._bytes = 0
        self._last = 0.0
        self._delay = 0.0
        self._released = threading.Event()

    def serve(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=256) as server:
            print(server.getsockname()[1], flush=True)
            while True:
                connection, _ = server.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as incoming:
                while self._exchange(connection, incoming):
                    pass
        except OSError:  # the other side is gone: what came is counted all the same
            pass

    def _exchange(self, connection: socket.socket, incoming: object) -> bool:
        read, read_line = incoming.read, incoming.readline  # type: ignore[attr-defined]
        lines = list(iter(read_line, b"\r\n"))[:100] if (first := read_line()) else []
        if not first:
            return False
        head = first + b"".join(lines)
        lengths = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")]
        body = read(lengths[0]) if lengths else b""
        if lengths and len(body) < lengths[0]:  # the process that sent it was ended in the middle
            return False
        answer = self._command(first) if first.startswith(b"GET /_") else self._keep(head, body)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(answer), answer)
        )
        return True

    def _keep(self, head: bytes, body: bytes) -> bytes:
        if self._delay:
            self._released.wait(self._delay)
        self._kept.append((head, body))
        self._requests += 1
        self._bytes += len(body)
        self._last = time.monotonic()
        return _ANSWER

    def _command(self, first: bytes) -> bytes:
        _, name, value = first.split(b" ")[1].split(b"_")
        if name == b"reset":
            self._released.set()
            self._released = threading.Event()
            self._delay = float(value)
            self._kept.clear()
            self._triggers = self._requests = self._bytes = 0
        while self._kept:
            self._triggers += count_triggers(*self._kept.pop())
        return json.dumps(
            {"triggers": self._triggers, "requests": self._requests, "bytes": self._bytes, "last": self._last}
        ).encode()


@dataclass(frozen=True)
class Received:
    """The counts of the sink, and the time of its last answer, by `time.monotonic`, which all processes share."""

    triggers: int
    requests: int
    bytes: int
    last: float


class Remote:
    """A client of the sink, for other processes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"

    def reset(self, delay: float = 0.0) -> None:
        """Set all counts to 0, answer the requests that are held, and delay later answers by `delay` seconds."""
        self._ask(f"_reset_{delay}")

    def count(self) -> Received:
        return Received(**self._ask("_count_"))

    def wait_for(self, triggers: int, patience: float) -> Received:
        """Return the counts once `triggers` were received, or none for `patience` seconds."""
        received, until = self.count(), time.monotonic() + patience
        while received.triggers < triggers and time.monotonic() < until:
            time.sleep(0.02)
            before, received = received, self.count()
            if received.triggers > before.triggers:
                until = time.monotonic() + patience
        return received

    def _ask(self, command: str) -> dict[str, float]:
        with urlopen(self.url + command) as answer:
            found: dict[str, float] = json.load(answer)
            return found


@contextmanager
def running() -> Iterator[Remote]:
    """Run a sink in a process of its own."""
    with subprocess.Popen([sys.executable, "-m", __spec__.name], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Remote(int(process.stdout.readline()))
        finally:
            process.terminate()


if __name__ == "__main__":
    Sink().serve()
