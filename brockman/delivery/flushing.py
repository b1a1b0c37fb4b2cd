"""Flushing at the end of a block or function: for processes that are frozen or ended right after it."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack
from typing import Any, TypeVar

from brockman.process.bodies import Body, wrap
from brockman.process.steps import delegating

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
_Function = Callable[..., Any]


class Flushing:
    """A context manager and decorator that flushes a client at its end, also after an exception. Reusable."""

    def __init__(
        self,
        flush: Callable[[float | None], object],
        aflush: Callable[[float | None], Awaitable[object]],
        timeout: float | None,
    ) -> None:
        """Flush nothing yet; see `FocusLabClient.flushing`."""
        self._flush = flush
        self._aflush = aflush
        self._timeout = timeout

    def __enter__(self) -> Flushing:
        return self

    def __exit__(self, *exception: object) -> None:
        self._flush(self._timeout)

    async def __aenter__(self) -> Flushing:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._aflush(self._timeout)

    def __call__(self, function: AnyFunction) -> AnyFunction:
        """Return the function with a flush at the end of its body; it stays a coroutine function or generator."""
        wrapped: AnyFunction = wrap(function, self, _WRAPPERS)
        return wrapped


def _wrap_function(flushing: Flushing, function: _Function) -> _Function:
    def flushed(*arguments: Any, **keywords: Any) -> Any:
        with ExitStack() as stack:
            stack.push(flushing)
            result = function(*arguments, **keywords)
            rest = _flush_after(flushing, result)
            if rest is None:
                return result
            stack.pop_all()  # what it returned runs later, and flushes then
            return rest

    return flushed


def _flush_after(flushing: Flushing, result: Any) -> Any:
    """Return what a function returned with a flush at its end; None when it has no body that is yet to run."""
    import inspect

    if inspect.isawaitable(result):
        import asyncio

        coroutine = _wrap_coroutine(flushing, lambda: result)()
        if asyncio.isfuture(result):
            return _follow(result, coroutine)
        if inspect.iscoroutine(result):  # closed with the coroutine that never began to await it
            weakref.finalize(coroutine, result.close).atexit = False
        return coroutine
    if isinstance(result, Generator):
        return _wrap_generator(flushing, lambda: result)()
    if isinstance(result, AsyncGenerator):
        return _wrap_async_generator(flushing, lambda: result)()
    return None


def _follow(future: Any, coroutine: Any) -> Any:
    """Return a task for a coroutine that awaits a future; cancelled before its first step, it cancels that too."""
    import asyncio
    import inspect

    class Task(asyncio.Task[Any]):
        def cancel(self, *arguments: Any, **keywords: Any) -> bool:
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                future.cancel(*arguments, **keywords)
                future.add_done_callback(lambda one: one.cancelled() or one.exception())  # nobody else asks
            return super().cancel(*arguments, **keywords)

    return Task(coroutine, loop=future.get_loop())


def _wrap_coroutine(flushing: Flushing, function: _Function) -> _Function:
    async def flushed(*arguments: Any, **keywords: Any) -> Any:
        async with flushing:
            return await function(*arguments, **keywords)

    return flushed


def _wrap_generator(flushing: Flushing, function: _Function) -> _Function:
    def flushed(*arguments: Any, **keywords: Any) -> Generator[Any, Any, Any]:
        with flushing:
            return (yield from function(*arguments, **keywords))

    return flushed


def _wrap_async_generator(flushing: Flushing, function: _Function) -> _Function:
    return delegating(function, lambda: flushing)


_WRAPPERS = {
    Body.FUNCTION: _wrap_function,
    Body.COROUTINE: _wrap_coroutine,
    Body.GENERATOR: _wrap_generator,
    Body.ASYNC_GENERATOR: _wrap_async_generator,
}
