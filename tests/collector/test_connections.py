"""Clients that send too slowly, nothing, no end, or too many: others are served, and the log stays short."""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from brockman.collector.connections import OneLineAMinute
from tests.cli.conftest import listening
from tests.collector.running import Running, head, read_response, trigger
from tests.support.client import KEY
from tests.support.waiting import eventually

Start = Callable[..., Running]
UNFINISHED = b"POST /api/v1/trigger/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: "
CODE = """
import resource, sys
from brockman.collector.server import serve
from brockman.collector.settings import Settings
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
serve(Settings(**{options!r}), on_ready=lambda url: print(url, flush=True))
"""


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Start]:
    """Start collectors in processes of their own that may have 256 files open."""
    with ExitStack() as stack:

        def launch(**options: Any) -> Running:
            database = tmp_path / "triggers.sqlite3"
            options = {"port": 0, "database": str(database), "api_key": KEY, **options}
            return stack.enter_context(listening(["-c", CODE.format(options=options)], database))

        yield launch


def stop(collector: Running) -> list[str]:
    """Stop a collector, and return the lines of its log."""
    assert collector.process is not None
    collector.process.terminate()
    return collector.process.communicate(timeout=20)[1].splitlines()


@contextmanager
def connected(collector: Running, number: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Open connections, and send the same over each."""
    with ExitStack() as stack:
        opened = [stack.enter_context(collector.connect()) for _ in range(number)]
        for one in opened:
            one.settimeout(20)
            with suppress(OSError):  # closed already, as there are too many
                one.sendall(sent)
        yield opened


def is_closed(connection: socket.socket, dribble: bytes = b"") -> bool:
    """Send a byte more, read what there is, and return whether the collector has closed the connection."""
    connection.settimeout(0.01)
    try:
        if dribble:
            connection.sendall(dribble)
        return connection.recv(4096) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def is_served(collector: Running) -> bool:
    with suppress(requests.ConnectionError):
        return collector.post(trigger()).status_code == 201
    return False


def count_sockets(pid: int) -> int:
    """Return how many sockets a process has open; its store opens and closes files meanwhile."""
    count = 0
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            count += os.readlink(entry.path).startswith("socket:")
    return count


def test_clients_are_served_beside_300_connections_that_never_end_their_headers(launch: Start) -> None:
    """The collector has 256 files. It closes the others after a time, and writes a few lines of log."""
    collector = launch(client_timeout=2.0)
    with connected(collector, 300, UNFINISHED) as opened:
        for _ in range(5):
            collector.session.close()  # the next one is a new connection
            assert is_served(collector)
        assert eventually(lambda: all(is_closed(one, b"a") for one in opened), 20)
        assert is_served(collector)
    lines = stop(collector)
    assert 1 <= len(lines) <= 3
    assert "brockman: more than 192 connections; closing those without a request" in lines


@pytest.mark.parametrize(
    ("sent", "dribble"),
    [
        (b"", b""),
        (b"", b"\n"),
        (UNFINISHED, b"a"),
        (head("Content-Length: 1000"), b"a"),
        (b"GET / HTTP/1.1\r\n", b""),
    ],
    ids=["nothing", "blank lines", "a header", "a body", "no more headers"],
)
def test_a_client_that_goes_on_slowly_is_closed(sent: bytes, dribble: bytes, launch: Start) -> None:
    """A byte now and then keeps no connection open, nor does a body that was refused."""
    collector = launch(client_timeout=0.5, body_timeout=0.5)
    with connected(collector, 1, sent) as opened:
        assert eventually(lambda: is_closed(opened[0], dribble), 10)
    assert is_served(collector)


def test_a_client_that_never_ends_its_headers_is_told_so(launch: Start) -> None:
    """408 after a time, and 431 for headers that are too long."""
    collector = launch(client_timeout=0.5)
    status, _, body = collector.exchange(UNFINISHED)
    assert (status, json.loads(body)) == (408, {"error": "the headers did not end in time"})
    status, _, body = collector.exchange(UNFINISHED + b"a" * 70_000)
    assert (status, json.loads(body)) == (431, {"error": "headers are longer than 65536 bytes"})


def test_a_client_that_does_not_read_its_response_is_closed(launch: Start) -> None:
    collector = launch(client_timeout=0.5)
    many = [trigger(variables={"text": "x" * 1000}) for _ in range(5000)]
    assert collector.post(many).status_code == 201
    request = head().replace(b"POST /api/v1/trigger/", b"GET /api/v1/trigger/?limit=10000")
    with connected(collector, 1, request) as (connection,):
        assert connection.recv(1) == b"H"  # it has begun to send
        assert is_served(collector)
        assert collector.process is not None
        before = count_sockets(collector.process.pid)
        assert eventually(lambda: count_sockets(collector.process.pid) < before, 10)
        lines = stop(collector)
    assert lines == ["brockman: closed a connection whose client did not read the response"]


def test_idle_connections_make_room_for_new_ones(launch: Start) -> None:
    """A client that keeps its connection for later opens another one."""
    collector = launch(max_connections=3)
    request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with connected(collector, 3, request) as opened:
        for one in opened:
            assert read_response(one)[0] == 200
        assert is_served(collector)
        assert eventually(lambda: is_closed(opened[0]), 10)
        assert not any(is_closed(one) for one in opened[1:])


def test_a_connection_beyond_those_that_are_busy_gets_503(launch: Start) -> None:
    """Requests in progress go on; the client of the new one tries again."""
    collector = launch(max_connections=3)
    body = json.dumps(trigger()).encode()
    with connected(collector, 3, head(f"Content-Length: {len(body)}", "Expect: 100-continue")) as opened:
        for one in opened:
            assert one.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert not is_served(collector)
        with collector.connect() as fourth:
            assert read_response(fourth)[0] == 503
        for one in opened:
            one.sendall(body)
            assert read_response(one)[0] == 201


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process can be set on Linux alone")
def test_a_collector_without_descriptors_waits_and_goes_on(launch: Start) -> None:
    """Connections that cannot be accepted cost a line of log, no CPU, and are served when there is room again."""
    collector = launch()
    assert collector.process is not None
    pid = collector.process.pid
    assert is_served(collector)
    used = max(int(name.name) for name in Path(f"/proc/{pid}/fd").iterdir())
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 3, limits[1]))
    with connected(collector, 20, head("Content-Length: 0")) as opened:
        before = cpu_ticks(pid)
        assert is_served(collector)  # over its open connection
        assert not eventually(lambda: cpu_ticks(pid) - before > 100, 3)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert [read_response(one)[0] for one in opened] == [400] * 20
    lines = [line for line in stop(collector) if "cannot accept connections" in line]
    assert lines == ["brockman: cannot accept connections: Too many open files; raise the limit (ulimit -n)"]


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_requests_that_are_no_http_are_a_line_a_minute(launch: Start) -> None:
    collector = launch()
    for _ in range(50):
        assert collector.exchange(b"\x16\x03\x01 no HTTP\r\n\r\n")[0] == 400
    assert is_served(collector)
    upgrade = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    assert collector.exchange(upgrade)[0] == 200  # without an advice in the log
    assert stop(collector) == ["Invalid HTTP request received."]


def test_the_next_line_counts_those_that_were_skipped() -> None:
    now = 0.0
    passes = OneLineAMinute(lambda: now)
    lines = []
    for second in (0, 1, 59, 61, 62):
        now = float(second)
        record = logging.LogRecord("brockman", logging.WARNING, "", 0, "%d is closed", (second,), None)
        if passes.filter(record):
            lines.append(record.getMessage())
    assert lines == ["0 is closed", "61 is closed (and 2 times more since the last such line)"]
