"""Gives each request a tracker, and makes its visitor the actor of the triggers that are recorded for it."""

from __future__ import annotations

import asyncio
import importlib
import uuid
from collections.abc import AsyncIterator, Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from brockman import contexts
from brockman.django.client import DjangoFocusLabClient
from brockman.django.settings import (
    DjangoSettings,
    install_sigterm_handler,
    is_strict,
    raise_or_log,
    read_settings,
)
from brockman.exceptions import ConfigurationError
from brockman.process.steps import Steps
from brockman.web import headers, tracker
from brockman.web.request import WebRequest, find_cookie

if TYPE_CHECKING:
    from datetime import datetime

    from brockman.trigger.arguments import Actor, Text, Values

_client = DjangoFocusLabClient()


class _Request(WebRequest):
    __slots__ = ("native",)

    def __init__(self, request: HttpRequest) -> None:
        self.native: Any = request

    def header(self, name: str) -> str:
        value: str = self.native.META.get("HTTP_" + name.upper().replace("-", "_"), "")
        return value

    def cookie(self, name: str, accepts: Callable[[str], object] = bool) -> str:
        found = find_cookie(self.native.META.get("HTTP_COOKIE", ""), name, accepts)
        if found:  # not from COOKIES, for which Django parses them all
            return found
        value: str = vars(self.native).get("COOKIES", {}).get(name, "")  # set by hand, as tests do
        return value if accepts(value) else ""

    @property
    def path(self) -> str:
        path: str = self.native.path
        return path

    @property
    def is_secure(self) -> bool:
        return bool(self.native.is_secure())


class RequestTracker(tracker.RequestTracker):
    """Records triggers for a request: `request.focuslab`."""

    def __init__(self, request: HttpRequest) -> None:
        """Read nothing from the request yet."""
        scope = getattr(request, "scope", None)  # of ASGI
        outer = request.META.get("focuslab.tracker") if scope is None else scope.get("focuslab")
        settings, is_safe = _read_settings()
        super().__init__(_Request(request), _client, settings, is_safe=is_safe, outer=outer)

    def record_trigger_on_commit(
        self,
        action: Text,
        obj: Text,
        identities: Values | None = None,
        attributes: Values | None = None,
        variables: Values | None = None,
        *,
        actor_id: Actor | None = None,
        at: datetime | None = None,
        trigger_id: uuid.UUID | str | None = None,
        using: str | None = None,
    ) -> bool:
        """Record a trigger when the transaction commits; see `DjangoFocusLabClient.record_trigger_on_commit`."""
        actor = self._choose_actor(actor_id)
        if actor is None:
            return _client._current().refuse("untracked")
        with self._context():
            return _client.record_trigger_on_commit(
                actor, action, obj, identities, attributes, variables, at=at, trigger_id=trigger_id, using=using
            )


class FocusLabMiddleware:
    """Sets `request.focuslab`, the context of the request, and the actor's cookie on the response.

    For synchronous and asynchronous views.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        """Wrap the next middleware, or the view."""
        importlib.import_module("brockman.transport.http")  # now, not during the first request
        install_sigterm_handler()  # for projects without the app
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Return the response, or a coroutine that does."""
        found = request.focuslab = RequestTracker(request)
        context = contexts.Context(tracker=found, is_safe=found._is_safe).within(contexts.get())
        if self._is_async:
            return self._answer(request, context)
        with contexts.entered(context):
            response = self._get_response(request)
        _finish(request, response, found)
        _continue_in(context, response)
        return response

    async def _answer(self, request: HttpRequest, context: contexts.Context) -> HttpResponseBase:
        with contexts.entered(context):
            response: HttpResponseBase = await self._get_response(request)
        settings = _read_settings()[0]
        if settings.cookie_always and settings.may_track is not None:
            # It may read the session or the database, which Django forbids in an event loop.
            await sync_to_async(_finish)(request, response, request.focuslab)
        else:
            _finish(request, response, request.focuslab)
        _continue_in(context, response)
        return response


def _finish(request: HttpRequest, response: HttpResponseBase, found: RequestTracker) -> None:
    """Set the headers that the tracker needs."""
    settings = _read_settings()[0]
    is_public = settings.cookie_always and headers.is_public(response.headers.get("Cache-Control", ""))
    actor, is_private = found.finish(is_public=is_public)
    if actor is not None and settings.cookie_name not in response.cookies:
        response.cookies[settings.cookie_name] = actor
        response.cookies[settings.cookie_name].update(
            headers.cookie_attributes(settings, is_secure=request.is_secure())
        )
    if is_private:
        control = response.headers.get("Cache-Control", "")
        response.headers["Cache-Control"] = headers.without_caches(control)
        response.headers["Vary"] = headers.varied(response.headers.get("Vary", ""))
    found.release()


def _continue_in(context: contexts.Context, response: Any) -> None:
    """Have the parts of a streamed response made in the context of the request."""
    if not response.streaming or getattr(response, "file_to_stream", None) is not None:
        return
    response._resource_closers[:] = [partial(_close_in, context, close) for close in response._resource_closers]
    parts = response.streaming_content
    if response.is_async:
        response.streaming_content = _AsyncParts(context, parts)
    else:
        response.streaming_content = Steps(parts, lambda: contexts.entered(context))


def _close_in(context: contexts.Context, close: Callable[[], None]) -> None:
    with contexts.entered(context):
        close()


class _AsyncParts(AsyncIterator[bytes]):
    """The parts of an asynchronous stream, each made in the context of its request."""

    def __init__(self, context: contexts.Context, parts: Any) -> None:
        self._context = context
        self._parts = parts
        self._loop: asyncio.AbstractEventLoop | None = None  # in which they are begun, and not at their end

    async def __anext__(self) -> bytes:
        loop, self._loop = asyncio.get_running_loop(), None
        with contexts.entered(self._context):
            part: bytes = await anext(self._parts)
        self._loop = loop
        return part

    def close(self) -> None:
        """End parts that are left half-way; the garbage collector might do it in another request's context."""
        if self._loop is not None:
            with contexts.entered(self._context):
                self._loop.call_soon_threadsafe(self._loop.create_task, self._parts.aclose())


@lru_cache(maxsize=1)
def _read_once() -> tuple[DjangoSettings, bool]:
    return read_settings(DjangoSettings), not is_strict()


def _read_settings() -> tuple[DjangoSettings, bool]:
    """Return the settings, and whether a mistake in a trigger raises nothing."""
    try:
        return _read_once()
    except ConfigurationError as error:  # not cached: it may pass
        raise_or_log(error, "the middleware uses the defaults, and tracks nothing")
        return DjangoSettings(may_track=lambda request: False), True


setting_changed.connect(lambda **_: _read_once.cache_clear(), weak=False, dispatch_uid="brockman.middleware")
