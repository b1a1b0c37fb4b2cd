"""The memory buffer: its bounds, the overflow policies, and its counts."""

from __future__ import annotations

import gc
import sys
import threading
import time

import pytest

from brockman.buffer.counters import Callbacks, Counters
from brockman.buffer.memory import MemoryBuffer
from brockman.client import FocusLabClient
from brockman.exceptions import BufferFull
from brockman.process.sync import Wakeup
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY, law_holds, record
from tests.support.transport import HeldTransport
from tests.support.waiting import eventually


@pytest.fixture
def transport():
    """A transport that holds everything until the end of the test, or until it is released."""
    made = HeldTransport()
    yield made
    made.release()


@pytest.fixture
def held(transport):
    """A function that makes clients of this transport."""
    clients = []

    def make(**options):
        clients.append(FocusLabClient(api_key=KEY, transport=transport, **{"flush_interval": 60, **options}))
        return clients[-1]

    yield make
    transport.release()
    for client in clients:
        client.close(10)


def sent(client, transport: HeldTransport) -> list[int]:
    """Release the transport, deliver everything, and return the numbers of the triggers."""
    transport.release()
    assert client.flush(20)
    return transport.numbers()


def fill(client, count: int) -> None:
    """Record one trigger, which is held in flight, and then `count` more, which wait."""
    record(client, 1, start=-1)
    threading.Thread(target=client.flush, args=(0,)).start()
    assert eventually(lambda: client.stats().in_flight == 1)
    record(client, count)


def make_buffer(max_count: int, max_bytes: int, **more) -> MemoryBuffer:
    """Return a buffer of its own, whose callers may wait, and which wakes nobody."""
    options = {"overflow": "drop_newest", "block_timeout": 0, "wake": lambda: None, "may_wait": lambda: True}
    counters = Counters(Callbacks(None, None))
    return MemoryBuffer(counters, max_count=max_count, max_bytes=max_bytes, **{**options, **more})


def waiters() -> int:
    """Return the number of wakeups that exist in this process."""
    return sum(type(one) is Wakeup for one in gc.get_objects())


def test_drop_newest_keeps_what_waits(held, transport):
    """A full buffer drops the newest: False, counted, passed to on_drop."""
    dropped = []
    client = held(max_queue_size=5, on_drop=lambda reason, body: dropped.append((reason, body)))
    fill(client, 5)
    assert client.record_trigger("x", "viewed", "page", variables={"n": 5}) is False
    assert client.stats().dropped == {"overflow": 1}
    assert dropped[0][0] == "overflow"
    assert b'"n":5' in dropped[0][1]
    assert sent(client, transport) == [-1, 0, 1, 2, 3, 4]
    assert law_holds(client, 1 + 5 + 1)


def test_drop_oldest_makes_room(held, transport):
    """A full buffer drops the oldest that waits; what is in flight stays."""
    dropped = []
    client = held(max_queue_size=5, overflow="drop_oldest", on_drop=lambda reason, body: dropped.append(body))
    fill(client, 8)
    assert client.stats().dropped == {"overflow": 3}
    assert [f'"n":{n}'.encode() in dropped[n] for n in range(3)] == [True] * 3
    assert sent(client, transport) == [-1, 3, 4, 5, 6, 7]
    assert law_holds(client, 1 + 8)


def test_raise_raises_buffer_full(held):
    """A full buffer raises BufferFull, and counts the trigger as dropped."""
    client = held(max_queue_size=5, overflow="raise")
    fill(client, 5)
    with pytest.raises(BufferFull):
        record(client, 1)
    assert client.stats().dropped == {"overflow": 1}
    assert law_holds(client, 1 + 5 + 1)


def test_block_waits_for_room():
    """A full buffer makes the caller wait until there is room; nothing is dropped."""
    asked = threading.Event()

    def may_wait() -> bool:  # called by a caller that is about to wait
        asked.set()
        return True

    buffer = make_buffer(5, 10**6, overflow="block", block_timeout=20, may_wait=may_wait)
    waiter = threading.Thread(target=lambda: [buffer.put(b"%d" % n) for n in range(25)])
    waiter.start()
    assert asked.wait(20)
    assert len(buffer) == 5
    found: list[bytes] = []
    while len(found) < 25:
        found += (batch := list(buffer.take(5, 10**6)))
        buffer.settle(len(batch), delivered=True)
    waiter.join(20)
    assert found == [b"%d" % n for n in range(25)]


def test_block_loses_nothing_of_a_client(held, transport):
    """A client that records more than fits delivers everything."""
    client = held(max_queue_size=5, overflow="block", block_timeout=20)
    fill(client, 5)
    waiter = threading.Thread(target=record, args=(client, 20, 5))
    waiter.start()
    transport.release()
    waiter.join(20)
    assert sent(client, transport) == [-1, *range(25)]
    assert client.stats().dropped == {}


def test_block_drops_after_block_timeout(held):
    """If there is no room in time, the trigger is dropped and counted."""
    client = held(max_queue_size=5, overflow="block", block_timeout=0.05)
    fill(client, 5)
    started = time.monotonic()
    assert client.record_trigger("x", "viewed", "page") is False
    assert time.monotonic() - started >= 0.05
    assert client.stats().dropped == {"overflow": 1}


def test_the_bound_in_bytes_holds(held):
    """The waiting triggers never take more than max_queue_bytes, whatever their number."""
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
    """While threads put and one takes, no size is lost: or the bound in bytes would drift."""
    buffer = make_buffer(10**7, 10**10)
    for _ in range(5000):  # never empty: an empty buffer corrects its size
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
    waiting = buffer.waiting_bytes
    assert waiting == sum(map(len, buffer.take(10**7, 10**10)))


def test_close_while_others_wait_for_room_ends_each_wait():
    """close drops what waits while the worker takes: each thread that waits for room returns."""
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


def test_an_empty_buffer_accepts_whatever_fits():
    """Also if the last trigger was taken during a put, many times over."""
    buffer = make_buffer(10, 200)
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
    assert buffer.put(b"x" * 200)


def test_callers_that_waited_in_vain_are_released(held):
    """The buffer keeps nothing of them."""
    client = held(max_queue_size=1, overflow="block", block_timeout=0.001)
    fill(client, 1)
    before = waiters()
    for _ in range(50):
        assert client.record_trigger("x", "viewed", "page") is False
    assert waiters() <= before + 1  # not one for each


def test_take_leaves_what_does_not_fit():
    """Triggers that do not fit a batch go on waiting, so that the bound in count holds."""
    buffer = make_buffer(10, 10**6)
    for n in range(10):
        buffer.put(b"%d" % n * 100)
    assert [body[:1] for body in buffer.take(500, 250)] == [b"0", b"1"]
    assert (len(buffer), buffer.in_flight) == (8, 2)
