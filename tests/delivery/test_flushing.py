"""`flushing` as a decorator: it flushes when the body of what it decorates has ended, whatever kind that is."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import types
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from brockman.client import FocusLabClient
from brockman.transport.memory import MemoryTransport

NEVER = 3600.0  # seconds: only a flush delivers


@pytest.fixture
def client(make_client: Callable[..., FocusLabClient]) -> FocusLabClient:
    return make_client(transport=MemoryTransport(), flush_interval=NEVER)


def record(client: FocusLabClient) -> None:
    """Record at the end of a body, when nothing else has been delivered."""
    assert client.stats().delivered == 0
    assert client.record_trigger("7", "viewed", "page")


def make_coroutine_functions(
    client: FocusLabClient, flushed: Callable[[Any], Any]
) -> dict[str, Callable[[], Any]]:
    async def work(value: str) -> str:
        await asyncio.sleep(0)
        record(client)
        return value

    class Service:
        async def __call__(self) -> str:
            return await work("done")

        @flushed
        async def method(self) -> str:
            return await work("done")

        @flushed
        @staticmethod
        async def static() -> str:
            return await work("done")

        @flushed
        @classmethod
        async def of_class(cls) -> str:
            return await work("done")

    @types.coroutine
    def old_style() -> Generator[Any, Any, Any]:
        return (yield from work("done"))

    return {
        "coroutine function": flushed(functools.wraps(work)(functools.partial(work, "done"))),
        "partial": flushed(functools.partial(work, "done")),
        "object": flushed(Service()),
        "method": Service().method,
        "static method": Service.static,
        "class method": Service.of_class,
        "returns a coroutine": flushed(lambda: work("done")),
        "returns a task": flushed(lambda: asyncio.get_running_loop().create_task(work("done"))),
        "generator-based": flushed(old_style),
    }


KINDS = list(make_coroutine_functions(None, lambda function: function))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_coroutine_is_flushed_after_its_body(client: FocusLabClient, kind: str) -> None:
    """However the coroutine comes about, what its body recorded is delivered before its value is returned."""

    async def run() -> None:
        function = make_coroutine_functions(client, client.flushing(30))[kind]
        assert await function() == "done"
        assert client.stats().delivered == 1

    asyncio.run(run())


def test_a_task_stays_a_task(client: FocusLabClient) -> None:
    """A function that starts a task still returns one, which runs although nobody waits for it."""

    async def run() -> None:
        async def work() -> None:
            record(client)

        task = client.flushing(30)(lambda: asyncio.ensure_future(work()))()
        assert await asyncio.wait([task], timeout=30)
        assert client.stats().delivered == 1

    asyncio.run(run())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cancelled_before_it_began_leaves_nothing(client: FocusLabClient, kind: str) -> None:
    """No task that runs on, and no coroutine that was never awaited; nor does what is closed unused."""

    async def run() -> None:
        function = make_coroutine_functions(client, client.flushing(30))[kind]
        task = asyncio.ensure_future(function())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if inspect.iscoroutine(unused := function()):
            unused.close()
        else:
            unused.cancel()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        assert client.stats().recorded == 0

    asyncio.run(run())
    gc.collect()  # a coroutine that was never awaited fails the test


def counted(client: FocusLabClient) -> Generator[int, int, str]:
    """Return the sum of what is sent, having survived a ValueError."""
    try:
        total = yield 0
        try:
            while total < 10:
                total += yield total
        except ValueError:
            yield -1
    finally:
        record(client)
    return f"total {total}"


@pytest.mark.parametrize("is_shown", [True, False], ids=["generator function", "returns a generator"])
def test_a_generator_is_flushed_when_it_ends(client: FocusLabClient, is_shown: bool) -> None:
    """Values, exceptions and the result pass through as without the decorator."""
    flushed = client.flushing(30)(counted if is_shown else lambda client: counted(client))
    generator = flushed(client)
    assert [next(generator), generator.send(4), generator.throw(ValueError())] == [0, 4, -1]
    assert client.stats().recorded == 0
    with pytest.raises(StopIteration, match="total 4"):
        next(generator)
    assert client.stats().delivered == 1


def test_a_closed_generator_is_flushed(client: FocusLabClient) -> None:
    """The triggers that the generator records when it is closed are delivered."""
    generator = client.flushing(30)(counted)(client)
    next(generator)
    generator.close()
    assert client.stats().delivered == 1


async def counted_async(client: FocusLabClient) -> AsyncGenerator[int, Any]:
    """Yield as `counted` does."""
    inner = counted(client)
    try:
        item = next(inner)
        while True:
            await asyncio.sleep(0)
            try:
                item = inner.send((yield item))
            except ValueError as error:
                item = inner.throw(error)
            except StopIteration:
                return
    finally:
        inner.close()


@pytest.mark.parametrize("is_shown", [True, False], ids=["generator function", "returns a generator"])
def test_an_async_generator_is_flushed_when_it_ends(client: FocusLabClient, is_shown: bool) -> None:
    """Values and exceptions pass through as without the decorator."""

    async def run() -> None:
        flushed = client.flushing(30)(counted_async if is_shown else lambda client: counted_async(client))
        generator = flushed(client)
        assert await generator.asend(None) == 0
        assert await generator.asend(4) == 4
        assert await generator.athrow(ValueError()) == -1
        assert client.stats().recorded == 0
        assert [item async for item in generator] == []
        assert client.stats().delivered == 1

    asyncio.run(run())


def test_a_closed_async_generator_is_flushed(client: FocusLabClient) -> None:
    """The generator is closed before the flush."""

    async def run() -> None:
        generator = client.flushing(30)(counted_async)(client)
        await generator.asend(None)
        await generator.aclose()
        assert client.stats().delivered == 1

    asyncio.run(run())


def test_a_decorated_function_keeps_its_kind(client: FocusLabClient) -> None:
    """Frameworks look at the function to know how to call it."""
    flushed = client.flushing()

    async def coroutine() -> None: ...

    class Service:
        async def __call__(self) -> None: ...

    assert inspect.isgeneratorfunction(flushed(counted))
    assert inspect.isasyncgenfunction(flushed(counted_async))
    for function in (coroutine, functools.partial(coroutine), Service(), Service().__call__):
        assert inspect.iscoroutinefunction(flushed(function))
    assert not inspect.iscoroutinefunction(flushed(record))


def test_a_function_that_raises_is_flushed(client: FocusLabClient) -> None:
    """Its exception passes, after a flush."""

    @client.flushing(30)
    def fails() -> None:
        record(client)
        raise KeyError("what it looked for")

    with pytest.raises(KeyError, match="what it looked for"):
        fails()
    assert client.stats().delivered == 1
