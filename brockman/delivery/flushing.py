"""Flushing at the end of a block or function: for processes that are frozen or ended right after it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


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
        """Return the function with a flush at its end."""
        import inspect  # not at the top: importing the client stays cheap

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def flushed_coroutine(*arguments: Any, **keywords: Any) -> Any:
                async with self:
                    return await function(*arguments, **keywords)

            return flushed_coroutine  # type: ignore[return-value]

        @functools.wraps(function)
        def flushed(*arguments: Any, **keywords: Any) -> Any:
            with self:
                return function(*arguments, **keywords)

        return flushed  # type: ignore[return-value]
