"""More than the collector can take: memory and waiting stay bounded, and everything arrives in the end."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socket import socket

import pytest
import requests

from brockman.client import FocusLabClient
from brockman.collector.load import Queue
from tests.cli.conftest import listening
from tests.collector.running import JSON, Running, head, read_response, trigger
from tests.support.client import KEY, record
from tests.support.waiting import eventually, quick

Start = Callable[..., Running]
Spawn = Callable[..., Running]
MIB = 1024 * 1024
UNFINISHED = b"POST /api/v1/trigger/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: "
SLOW_BODY = head("Content-Length: 1000000") + b"["
LITTLE = {"max_pending_bytes": 100_000, "max_body_bytes": 80_000}
HALF = head("Content-Length: 80000") + b" " * 60_000
ASKING = head("Content-Length: 80000", "Expect: 100-continue")
LARGE_ANSWER = head().replace(b"POST /api/v1/trigger/", b"GET /api/v1/trigger/?limit=10000")
STREAM = head().replace(b"POST /api/v1/trigger/", b"GET /api/v1/stream/")


CODE = """
from brockman.collector.server import serve
from brockman.collector.settings import Settings
serve(Settings(**{options!r}), on_ready=lambda url: print(url, flush=True))
"""


def peak_mib(collector: Running) -> int:
    """Return the most memory that the process has had."""
    assert collector.process is not None
    lines = Path(f"/proc/{collector.process.pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) // 1024


def pending_bytes(collector: Running) -> int:
    """Return how many bytes of bodies have arrived that are not stored."""
    response = collector.get("../../metrics")
    found = re.search(r"^brockman_pending_bytes (\d+)", response.text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def large_body(count: int = 9000) -> bytes:
    """Return many triggers, together as large as a body may be."""
    return json.dumps([trigger(variables={"text": "x" * 650}) for _ in range(count)]).encode()


@contextmanager
def connected(collector: Running, number: int, sent: bytes) -> Iterator[list[socket]]:
    """Open connections, and send the same over each."""
    with ExitStack() as stack:
        opened = [stack.enter_context(collector.connect()) for _ in range(number)]
        for one in opened:
            with suppress(OSError):  # closed already, as there are too many
                one.sendall(sent)
        yield opened


def test_many_large_bodies_at_once_take_bounded_memory_and_all_arrive(tmp_path: Path) -> None:
    """One takes 100 MiB while it is parsed, and all would be parsed at once. Some get 429 first."""
    options = {"port": 0, "database": str(tmp_path / "t.sqlite3"), "api_key": KEY, "max_pending_bytes": 8 * MIB}
    with listening(["-c", CODE.format(options=options)], tmp_path / "t.sqlite3") as collector:
        _send_at_once(collector, [large_body() for _ in range(8)])
        assert collector.stats()["triggers"] == 8 * 9000
        assert peak_mib(collector) < 300


def _send_at_once(collector: Running, bodies: list[bytes]) -> None:
    """Send all of them, some compressed; each again while the answer is 429."""
    statuses: Counter[int] = Counter()
    all_ready = threading.Barrier(len(bodies))

    def send(number: int) -> None:
        is_gzip = number > 5
        body = gzip.compress(bodies[number], 0) if is_gzip else bodies[number]
        headers = {**JSON, "X-FL-API-KEY": KEY, **({"Content-Encoding": "gzip"} if is_gzip else {})}
        all_ready.wait(30)
        with requests.Session() as session:
            while True:
                response = session.post(
                    collector.endpoint + "trigger/",
                    data=body,
                    headers=headers,
                    timeout=60,
                )
                statuses[response.status_code] += 1
                if response.status_code != 429:
                    return
                assert "send this again later" in response.json()["error"]
                threading.Event().wait(float(response.headers["Retry-After"]))

    threads = [threading.Thread(target=send, args=[number]) for number in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert statuses[201] == len(bodies)
    assert statuses[429] > 0
    assert set(statuses) == {201, 429}


def test_a_client_keeps_its_triggers_until_the_collector_can_take_them(start: Start) -> None:
    """The slow bodies of others take all there is; the client waits, and loses nothing."""
    collector = start(**LITTLE)
    with FocusLabClient(KEY, endpoint=collector.endpoint, flush_interval=0.01) as client:
        with connected(collector, 2, HALF) as slow:
            assert eventually(lambda: collector.post(trigger(action="tried")).status_code == 429)
            assert record(client, 100) == 100
            assert eventually(lambda: client.stats().retries > 0)
            for one in slow:
                one.sendall(b"x" * 20_000)
                assert read_response(one)[0] == 400
        assert client.flush(30)
        assert client.stats().delivered == 100
    assert len(collector.stored(action="viewed")) == 100


def test_what_is_too_much_is_rejected_before_the_body_is_sent(start: Start) -> None:
    collector = start(**LITTLE)
    with connected(collector, 3, ASKING) as (first, second, third):
        for one in (first, second, third):  # each is let in before the first has sent much
            assert one.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for one in (first, second, third):
            one.sendall(b" " * 60_000)
        assert eventually(lambda: pending_bytes(collector) == 180_000)
        assert collector.post(trigger()).status_code == 429
        status, headers, _ = collector.exchange(head("Content-Length: 5000", "Expect: 100-continue"))
        assert (status, headers["retry-after"], headers["connection"]) == (429, "1", "close")
        assert collector.get("trigger/").status_code == 200
        first.sendall(b" " * 19_000)
        second.sendall(b" " * 19_000)  # one of them is beyond twice the limit
        ready, _, _ = select.select([first, second], [], [], 10)
        assert [read_response(one)[0] for one in ready] == [429]
        third.sendall(b"x" * 20_000)
        assert read_response(third)[0] == 400
    assert collector.post(trigger()).status_code == 201


@pytest.mark.parametrize("sent", [UNFINISHED, SLOW_BODY, STREAM], ids=["headers", "bodies", "streams"])
def test_clients_are_served_beside_300_connections(spawn: Spawn, sent: bytes) -> None:
    """They never end their headers, never end their bodies, or read streams that have nothing new."""
    collector = spawn()
    with connected(collector, 300, sent):
        assert quick(lambda: _timed(lambda: collector.post(trigger()).status_code), 1.0)[1] == 201
        collector.session.close()  # the next one is a new connection
        assert quick(lambda: _timed(lambda: collector.post(trigger()).status_code), 1.0)[1] == 201
        assert quick(lambda: _timed(lambda: collector.get(limit="1").status_code), 1.0)[1] == 200


def test_300_clients_that_do_not_read_their_16_mib_take_bounded_memory(spawn: Spawn) -> None:
    """The first ones get an answer, the others 429; triggers are stored meanwhile."""
    collector = spawn()
    for _ in range(3):
        assert collector.post(large_body()).status_code == 201
    with connected(collector, 300, LARGE_ANSWER) as opened:
        assert quick(lambda: _timed(lambda: collector.post(trigger()).status_code), 1.0)[1] == 201
        assert eventually(lambda: collector.get(limit="1").status_code == 429)
        statuses = Counter(one.recv(12) for one in opened)
        assert set(statuses) == {b"HTTP/1.1 200", b"HTTP/1.1 429"}
        assert statuses[b"HTTP/1.1 200"] < 50
    assert eventually(lambda: collector.get(limit="1").status_code == 200)
    assert peak_mib(collector) < 400


def _timed(call: Callable[[], int]) -> tuple[float, int]:
    begin = time.monotonic()
    result = call()
    return time.monotonic() - begin, result


def test_a_queue_lets_in_what_fits_in_the_order_of_arrival() -> None:
    """One that is larger than all of it enters alone; who stops waiting takes no room."""
    entered: list[str] = []

    async def enter(queue: Queue, name: str, size: int) -> None:
        await queue.enter(size)
        entered.append(name)

    async def run() -> None:
        queue = Queue(10)
        await enter(queue, "a", 6)
        waiting = [
            asyncio.create_task(enter(queue, name, size))
            for name, size in (("b", 5), ("c", 50), ("d", 4), ("e", 1))
        ]
        await asyncio.sleep(0)
        assert (entered, queue.waiting) == (["a"], 4)
        waiting[0].cancel()
        await asyncio.sleep(0)
        assert entered == ["a"]  # "c" does not fit, and those behind it wait for their turn
        queue.leave(6)
        await asyncio.sleep(0)
        assert entered == ["a", "c"]
        queue.leave(50)
        await asyncio.gather(*waiting[1:])
        assert entered == ["a", "c", "d", "e"]
        await enter(queue, "f", 5)

    asyncio.run(run())
