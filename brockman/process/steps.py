"""Generators around generators."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing
from typing import Any

Block = Callable[[], AbstractContextManager[None]]  # called for each step


class Steps(Generator[Any, Any, Any]):
    """A generator or iterator, each of whose steps runs in a block, and what is between them does not."""

    def __init__(self, source: Any, block: Block) -> None:
        """Run nothing yet."""
        self._source = source
        self._block = block

    def send(self, value: Any) -> Any:
        with self._block():
            return next(self._source) if value is None else self._source.send(value)

    def throw(self, *error: Any) -> Any:
        with self._block():
            return self._source.throw(*error)

    def close(self) -> None:
        with self._block():
            close = getattr(self._source, "close", None)
            if close is not None:
                close()


class AsyncSteps(AsyncGenerator[Any, Any]):
    """An asynchronous generator or iterator, each of whose steps runs in a block."""

    def __init__(self, source: Any, block: Block) -> None:
        """Run nothing yet."""
        self._source = source
        self._block = block

    async def asend(self, value: Any) -> Any:
        with self._block():
            return await (anext(self._source) if value is None else self._source.asend(value))

    async def athrow(self, *error: Any) -> Any:
        with self._block():
            return await self._source.athrow(*error)

    async def aclose(self) -> None:
        with self._block():
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()


def delegating(
    function: Callable[..., AsyncGenerator[Any, Any]], around: Callable[[], AbstractAsyncContextManager[Any]]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return an asynchronous generator function that runs another one within a block, and closes it at the end.

    It passes on what is sent and thrown, as `yield from` does for generators.
    """

    async def inside(*arguments: Any, **keywords: Any) -> AsyncGenerator[Any, Any]:
        async with around(), aclosing(function(*arguments, **keywords)) as source:
            step = source.asend(None)
            while True:
                try:
                    item = await step
                except StopAsyncIteration:
                    return
                try:
                    step = source.asend((yield item))
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step = source.athrow(error)

    return inside
