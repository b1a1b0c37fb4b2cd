"""How a function runs its body: at the call, or later."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any


class Body(Enum):
    """The kinds of functions whose body does not run at the call, and the one whose body does."""

    FUNCTION = "function"
    COROUTINE = "coroutine"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"


def wrap(function: Any, owner: Any, wrappers: Mapping[Body, Callable[[Any, Any], Any]]) -> Any:
    """Return a function in the wrapper of its kind, which gets `owner` too; a static or class method stays one."""
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(wrap(function.__func__, owner, wrappers))
    return functools.wraps(function)(wrappers[body_of(function)](owner, function))


def body_of(function: Callable[..., Any]) -> Body:
    """Return the kind of a function; `FUNCTION` also where it does not show."""
    import inspect  # not at the top: importing the client stays cheap

    for callable_ in (function, getattr(type(function), "__call__", None)):  # noqa: B004 - of its class, as Python does
        if inspect.iscoroutinefunction(callable_):
            return Body.COROUTINE
        if inspect.isasyncgenfunction(callable_):
            return Body.ASYNC_GENERATOR
        flags = getattr(getattr(callable_, "__code__", None), "co_flags", 0)
        if inspect.isgeneratorfunction(callable_) and not flags & inspect.CO_ITERABLE_COROUTINE:
            return Body.GENERATOR
    return Body.FUNCTION
