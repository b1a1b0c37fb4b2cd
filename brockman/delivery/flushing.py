"""Flushing at the end of a block or function: for processes that are frozen or ended right after it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from brockman.client import FocusLabClient

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


class Flushing:
    """A context manager and decorator that flushes a client at its end, also after an exception. Reusable."""

    def __init__(self, client: FocusLabClient, timeout: float | None) -> None:
        """Flush nothing yet; see `FocusLabClient.flushing`."""
        self._client = client
        self._timeout = timeout

    def __enter__(self) -> Flushing:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.flush(self._timeout)

    async def __aenter__(self) -> Flushing:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.aflush(self._timeout)

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
