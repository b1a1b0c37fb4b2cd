"""The memory buffer: bounds, the four overflow policies, and what moves where."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from brockman.buffer.counters import Callbacks, Counters
from brockman.buffer.memory import MemoryBuffer
from brockman.client import FocusLabClient
from brockman.exceptions import BufferFull
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.conftest import KEY, eventually, law_holds, record


@pytest.fixture
def held():
    """Make clients whose transport holds everything until `release` is set."""
    release = threading.Event()
    clients = []

    def make(**options):
        def answer(body: bytes) -> Answer:
            release.wait(30)
            return Answer(201)

        clients.append(
            FocusLabClient(api_key=KEY, transport=MemoryTransport(answer), **{"flush_interval": 60, **options})
        )
        clients[-1].release = release
        return clients[-1]

    yield make
    release.set()
    for client in clients:
        client.close(10)


def sent(client) -> list[int]:
    client.release.set()
    assert client.flush(20)
    return [trigger["variables"]["n"] for trigger in client._pipeline.transport.triggers]


def fill(client, count: int) -> None:
    """Put one trigger in flight, where it is held, and then as many as are asked for in the queue."""
    record(client, 1, start=-1)
    threading.Thread(target=client.flush, args=(0,)).start()
    assert eventually(lambda: client.stats().in_flight == 1)
    record(client, count)


def test_drop_newest_keeps_what_waits(held):
    """A full buffer refuses the newest: False, counted, told to on_drop."""
    told = []
    client = held(max_queue_size=5, on_drop=lambda reason, body: told.append((reason, body)))
    fill(client, 5)
    assert client.record_trigger("x", "viewed", "page", variables={"n": 5}) is False
    assert client.stats().dropped == {"overflow": 1}
    assert told[0][0] == "overflow"
    assert b'"n":5' in told[0][1]
    assert sent(client) == [-1, 0, 1, 2, 3, 4]
    assert law_holds(client, 1 + 5 + 1)


def test_drop_oldest_makes_room(held):
    """A full buffer lets go of the oldest that waits; what is being sent stays."""
    told = []
    client = held(max_queue_size=5, overflow="drop_oldest", on_drop=lambda reason, body: told.append(body))
    fill(client, 8)
    assert client.stats().dropped == {"overflow": 3}
    assert [f'"n":{n}'.encode() in told[n] for n in range(3)] == [True] * 3
    assert sent(client) == [-1, 3, 4, 5, 6, 7]
    assert law_holds(client, 1 + 8)


def test_raise_tells_the_caller(held):
    """A full buffer raises BufferFull, and counts the trigger as dropped."""
    client = held(max_queue_size=5, overflow="raise")
    fill(client, 5)
    with pytest.raises(BufferFull):
        record(client, 1)
    assert client.stats().dropped == {"overflow": 1}
    assert law_holds(client, 1 + 5 + 1)


def test_block_waits_for_room(held):
    """A full buffer makes the caller wait until there is room; nothing is dropped."""
    client = held(max_queue_size=5, overflow="block", block_timeout=20)
    fill(client, 5)
    waiter = threading.Thread(target=record, args=(client, 20, 5))
    waiter.start()
    assert eventually(lambda: client._pipeline.buffer._blocked)
    assert client.stats().queued == 5
    client.release.set()
    waiter.join(20)
    assert sent(client) == [-1, *range(25)]
    assert client.stats().dropped == {}


def test_block_gives_up_after_block_timeout(held):
    """When there is no room in time the trigger is dropped and counted."""
    client = held(max_queue_size=5, overflow="block", block_timeout=0.05)
    fill(client, 5)
    started = time.monotonic()
    assert client.record_trigger("x", "viewed", "page") is False
    assert time.monotonic() - started >= 0.05
    assert client.stats().dropped == {"overflow": 1}


def test_the_bound_in_bytes_holds(held):
    """What waits never takes more than max_queue_bytes, whatever the count."""
    client = held(max_queue_bytes=5000)
    fill(client, 0)
    record(client, 100, pad="x" * 500)
    stats = client.stats()
    assert 4000 < stats.queued_bytes <= 5000
    assert stats.dropped["overflow"] == 100 - stats.queued
    assert law_holds(client, 1 + 100)


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_a_trigger_larger_than_the_whole_buffer_pushes_nothing_out(held, overflow):
    """It is dropped at once: no room could be made for it."""
    client = held(max_queue_bytes=2000, overflow=overflow, block_timeout=20)
    fill(client, 3)
    started = time.monotonic()
    assert client.record_trigger("x", "viewed", "page", variables={"pad": "x" * 3000}) is False
    assert time.monotonic() - started < 10
    assert (client.stats().queued, client.stats().dropped) == (3, {"overflow": 1})


@pytest.mark.parametrize("overflow", ["drop_newest", "drop_oldest", "block"])
def test_many_threads_at_a_small_buffer_lose_nothing_uncounted(overflow):
    """Sixteen threads, a buffer of 50: recorded is delivered plus dropped, to the trigger; the bound holds."""
    transport = MemoryTransport()
    client = FocusLabClient(
        api_key=KEY,
        transport=transport,
        max_queue_size=50,
        max_batch_size=20,
        flush_interval=0.001,
        overflow=overflow,
        block_timeout=0.02,
    )
    deepest = 0
    returned = []

    def work(number: int) -> None:
        returned.extend(
            client.record_trigger("x", "viewed", "page", variables={"n": number * 2000 + i}) for i in range(2000)
        )

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        deepest = max(deepest, client.stats().queued)
    for thread in threads:
        thread.join()
    assert client.close(20)
    stats = client.stats()
    assert stats.recorded == 32_000
    assert stats.delivered + stats.dropped.get("overflow", 0) == 32_000
    assert len(transport.triggers) == stats.delivered
    if overflow != "drop_oldest":
        assert returned.count(True) == stats.delivered
    assert deepest <= 50 + 16
    assert len({trigger["id"] for trigger in transport.triggers}) == stats.delivered


def test_the_bytes_that_wait_are_counted_exactly_under_threads():
    """While threads put and the flusher takes, no size is lost: or the bound in bytes would drift away."""
    callbacks = Callbacks(None, None)
    buffer = MemoryBuffer(
        Counters(callbacks),
        max_count=10**7,
        max_bytes=10**10,
        overflow="drop_newest",
        block_timeout=0,
        wake=lambda: None,
        may_wait=lambda: True,
    )
    for _ in range(5000):  # never empty: an empty buffer sets itself right
        buffer.put(b"x" * 100)
    threads = [
        threading.Thread(target=lambda: [buffer.put(b"y" * (50 + n % 100)) for n in range(30_000)])
        for _ in range(4)
    ]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if len(buffer) > 1000:
                buffer.settle(len(buffer.take(500, 10**9)), delivered=True)
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(buffer) > 0
    assert buffer.waiting_bytes == sum(map(len, buffer._waiting))


def test_close_while_others_wait_for_room_raises_nothing():
    """close gives up what waits while the flusher takes: each thread that waits for room is let go once."""
    for _ in range(200):
        client = FocusLabClient(
            api_key=KEY,
            transport=MemoryTransport(),
            overflow="block",
            block_timeout=20,
            max_queue_size=2,
            max_batch_size=1,
            flush_interval=0.001,
        )
        threads = [threading.Thread(target=record, args=(client, 10)) for _ in range(6)]
        for thread in threads:
            thread.start()
        client.close(0)
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert law_holds(client, 60)


def test_a_small_bound_in_bytes_never_shuts_for_good():
    """An empty buffer takes whatever fits it, also when the flusher took the last trigger in mid-put."""
    buffer = MemoryBuffer(
        Counters(Callbacks(None, None)),
        max_count=10,
        max_bytes=200,
        overflow="drop_newest",
        block_timeout=0,
        wake=lambda: None,
        may_wait=lambda: True,
    )
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    stop = threading.Event()

    def put() -> None:
        while not stop.is_set():
            buffer.put(b"x" * 90)

    threads = [threading.Thread(target=put) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            buffer.settle(len(buffer.take(10, 10**6)), delivered=True)
        stop.set()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    while len(buffer):
        buffer.settle(len(buffer.take(10, 10**6)), delivered=True)
    buffer._bytes = 10_000  # what a thread switch at the one bad moment leaves behind
    assert buffer.put(b"x" * 200)


def test_blocked_callers_leave_nothing_behind(held):
    """However many waited in vain, the buffer holds nothing of them."""
    client = held(max_queue_size=1, overflow="block", block_timeout=0.001)
    fill(client, 1)
    for _ in range(50):
        assert client.record_trigger("x", "viewed", "page") is False
    assert len(client._pipeline.buffer._blocked) == 0


def test_a_take_never_holds_more_than_its_batch():
    """What does not fit a batch stays where it waits, so that the bound in count holds."""
    buffer = MemoryBuffer(
        Counters(Callbacks(None, None)),
        max_count=10,
        max_bytes=10**6,
        overflow="drop_newest",
        block_timeout=0,
        wake=lambda: None,
        may_wait=lambda: True,
    )
    for n in range(10):
        buffer.put(b"%d" % n * 100)
    assert [body[:1] for body in buffer.take(500, 250)] == [b"0", b"1"]
    assert (len(buffer), buffer.in_flight) == (8, 2)
