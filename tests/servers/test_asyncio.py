"""asyncio: recording, flushing and closing in an event loop, which goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from brockman.client import FocusLabClient
from tests.support.client import law_holds, record
from tests.support.endpoint import Endpoint
from tests.support.server import RecordingServer, Reply
from tests.support.waiting import eventually

LONG = 30.0  # seconds; nothing here takes as long unless it is broken


@pytest.fixture
def endpoint(server: RecordingServer) -> Iterator[Endpoint]:
    """An endpoint that holds back its answers until it is released, at the end of the test at the latest."""
    held = Endpoint(server)
    held.hold()
    yield held
    held.release()


async def comes_true(condition: Callable[[], bool]) -> int:
    """Wait for a condition in the event loop; return the number of iterations of the loop meanwhile."""
    deadline, rounds = time.monotonic() + LONG, 0
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
        rounds += 1
    return rounds


def assert_once_each(server: RecordingServer, count: int) -> None:
    """Fail unless `count` triggers were received, once each."""
    assert len(server.ids()) == count
    assert set(server.ids().values()) <= {1}


def test_a_flush_does_not_block_the_loop_and_reports_what_is_pending(server, endpoint, make_client):
    """While the endpoint is silent other tasks run and the timeout is kept; when it answers, all arrives once."""
    client = make_client()
    record(client, 7)

    async def main() -> None:
        flushing = asyncio.ensure_future(client.aflush(0.5))
        assert await comes_true(flushing.done) > 10
        result = flushing.result()
        assert not result
        assert (result.pending, result.delivered) == (7, 0)
        endpoint.release()
        result = await client.aflush(LONG)
        assert result
        assert (result.pending, result.delivered) == (0, 7)

    asyncio.run(main())
    assert_once_each(server, 7)


def test_a_cancelled_flush_ends_at_once_and_leaves_the_client_usable(server, endpoint, make_client):
    """It ends while the endpoint is still silent; earlier and later triggers are delivered once."""
    client = make_client()

    async def main() -> None:
        record(client, 3)
        flushing = [asyncio.ensure_future(client.aflush(None)) for _ in range(3)]
        await comes_true(lambda: endpoint.arrived > 0)
        for task in flushing:
            task.cancel()
        results = await asyncio.gather(*flushing, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError] * 3
        record(client, 4, start=3)
        endpoint.release()
        assert await client.aflush(LONG)

    asyncio.run(main())
    assert client.stats().delivered == 7
    assert_once_each(server, 7)


def test_the_end_of_an_async_with_block_delivers_and_closes(server, make_client):
    """Everything recorded in the block is received when it is left; later triggers are counted as `closed`."""

    async def main() -> FocusLabClient:
        async with make_client(flush_interval=LONG, shutdown_timeout=LONG) as client:
            record(client, 1000)
        return client

    client = asyncio.run(main())
    assert_once_each(server, 1000)
    assert not client.record_trigger("actor", "viewed", "page")
    assert client.stats().dropped["closed"] == 1


def test_a_cancelled_close_counts_what_it_drops(server, endpoint, make_client):
    """It closes at once and counts each trigger as `shutdown`; no thread is left once the endpoint answers."""
    client = make_client()
    record(client, 5)

    async def main() -> None:
        closing = asyncio.ensure_future(client.aclose(None))
        await comes_true(lambda: endpoint.arrived > 0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert client.stats().dropped["shutdown"] == 5
        assert law_holds(client, 5)
        assert not client.record_trigger("actor", "viewed", "page")
        assert (await client.aclose()).pending == 0  # closing again does nothing

    asyncio.run(main())
    endpoint.release()
    assert eventually(lambda: "brockman-worker" not in {thread.name for thread in threading.enumerate()})
    assert law_holds(client, 5 + 1)


def test_a_close_does_not_block_the_loop(server, endpoint, make_client):
    """Other tasks run while it waits; what the endpoint accepts is delivered, and nothing is dropped."""
    client = make_client()
    record(client, 5)

    async def main() -> None:
        closing = asyncio.ensure_future(client.aclose(LONG))
        await comes_true(lambda: endpoint.arrived > 0)
        assert not closing.done()
        endpoint.release()
        result = await closing
        assert (result.delivered, result.dropped, result.pending) == (5, 0, 0)

    asyncio.run(main())
    assert_once_each(server, 5)


def test_aclose_does_not_block_the_loop_that_a_callback_waits_for(server: RecordingServer, make_client) -> None:
    """An `on_error` that waits for the event loop gets its result while `aclose` waits."""
    server.respond = lambda request: Reply(400)
    answers: list[int] = []

    async def answer() -> int:
        return 42

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def on_error(error, bodies) -> None:
            for _ in range(20):
                answers.append(asyncio.run_coroutine_threadsafe(answer(), loop).result(20))

        client = make_client(on_error=on_error)
        record(client, 1)
        assert await client.aclose(20)
        assert answers == [42] * 20

    asyncio.run(main())


def test_a_loop_that_is_closed_during_a_flush_is_ignored(server, endpoint, make_client, caplog):
    """The worker delivers and logs nothing, although it cannot notify the loop."""
    client = make_client()
    record(client, 2)
    loop = asyncio.new_event_loop()
    flushing = loop.create_task(client.aflush(None))
    loop.run_until_complete(comes_true(lambda: endpoint.arrived > 0))
    loop.close()
    endpoint.release()
    assert client.flush(LONG)
    assert_once_each(server, 2)
    assert [entry for entry in caplog.records if entry.name == "brockman"] == []
    caplog.set_level(logging.CRITICAL, logger="asyncio")  # it logs that the task was never awaited
    del flushing
    gc.collect()


def test_a_full_buffer_never_blocks_the_loop(server, endpoint, make_client):
    """With overflow="block", a coroutine's trigger is dropped and counted at once; a worker thread's waits."""
    client = make_client(overflow="block", block_timeout=LONG, max_queue_size=3, max_batch_size=3)

    async def main() -> None:
        record(client, 3)
        await comes_true(lambda: endpoint.arrived > 0)
        record(client, 3, start=3)
        started = time.monotonic()
        assert not client.record_trigger("actor", "viewed", "page")
        assert time.monotonic() - started < LONG / 2
        assert client.stats().dropped["overflow"] == 1
        waiting = asyncio.ensure_future(asyncio.to_thread(record, client, 1, 6))
        endpoint.release()
        await waiting
        assert await client.aflush(LONG)

    asyncio.run(main())
    assert client.stats().delivered == 7
    assert_once_each(server, 7)


def test_a_decorated_coroutine_delivers_before_it_returns(server, make_client):
    """So it does when it raises, many at once, and as an `async with` block; results and errors pass through."""
    client = make_client(flush_interval=LONG)

    @client.flushing(timeout=LONG)
    async def handle(number: int) -> int:
        record(client, 1, start=number)
        return 10 // number

    async def main() -> None:
        assert await handle(5) == 2
        assert_once_each(server, 1)
        with pytest.raises(ZeroDivisionError):
            await handle(0)
        assert_once_each(server, 2)
        assert await asyncio.gather(*map(handle, range(1, 11))) == [10 // n for n in range(1, 11)]
        assert_once_each(server, 12)
        async with client.flushing(timeout=LONG):
            record(client, 1)
        assert_once_each(server, 13)

    asyncio.run(main())


def test_event_loops_in_several_threads_share_a_client(server, make_client):
    """Each flush returns in its own loop when what its tasks recorded is delivered; all of it once."""
    client = make_client(max_batch_size=50)
    errors: list[BaseException] = []

    async def main(start: int) -> None:
        async def work(number: int) -> None:
            record(client, 5, start=number)
            assert await client.aflush(LONG)

        await asyncio.gather(*(work(start + 5 * n) for n in range(40)))

    def run(start: int) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            try:
                asyncio.run(main(start))
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=run, args=(1000 * n,), name="loop") for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LONG)
    assert errors == []
    assert client.stats().delivered == 4 * 40 * 5
    assert_once_each(server, 4 * 40 * 5)
