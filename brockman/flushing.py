"""A `with` block and a decorator that flush at their end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeVar

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


class Flushes(Protocol):
    """What can be flushed: a client."""

    def flush(self, timeout: float | None) -> object:
        """Block until everything recorded is settled, or the timeout."""

    async def aflush(self, timeout: float | None) -> object:
        """Do so without blocking the event loop."""


class Flushing:
    """Flush a client when the block, or the function, is left, also by an exception. May be used many times."""

    def __init__(self, client: Flushes, timeout: float | None) -> None:
        """Make it.

        Args:
            client: What to flush.
            timeout: Seconds that the flush may take; None waits for as long as it takes.
        """
        self._client = client
        self._timeout = timeout

    def __enter__(self) -> Flushing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.flush(self._timeout)

    async def __aenter__(self) -> Flushing:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aflush(self._timeout)

    def __call__(self, function: AnyFunction) -> AnyFunction:
        """Return the function with a flush at its end."""
        import inspect  # here: a module that imports the client need not wait for it

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
