"""Gives each request a tracker, which reads the actor from the cookie of FocusLab's browser tracker."""

from __future__ import annotations

import importlib
import inspect
import logging
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers

from brockman.django.client import DjangoFocusLabClient
from brockman.django.settings import DjangoSettings, install_sigterm_handler, raise_or_log, read_settings
from brockman.exceptions import ConfigurationError
from brockman.process.log import Log
from brockman.trigger.coerce import is_nobody

if TYPE_CHECKING:
    from datetime import datetime

    from brockman.trigger.arguments import Actor, Text, Values

COOKIE = "fl_actor_id"
MAX_AGE = 3650 * 24 * 60 * 60  # seconds; as the browser tracker sets it
_client = DjangoFocusLabClient()
_log = Log()


class RequestTracker:
    """Records triggers for a request: `request.focuslab`."""

    def __init__(self, request: HttpRequest) -> None:
        """Read nothing from the request yet."""
        self._request: Any = request  # dropped with the response: it refers to this tracker
        self._found: dict[str, Any] = {}
        self._is_shown = False

    @property
    def is_tracked(self) -> bool:
        """True unless `FL_MAY_TRACK` returns False or raises. It is called once for a request."""
        return bool(self._once("is_tracked", lambda: _may_track(self._request)))

    @property
    def actor_id(self) -> str | None:
        """The actor, a UUID from the cookie, or a new one. None when the request is not tracked.

        Reading this marks the response `private`: the page may show it, and no cache must hand it on.
        """
        self._is_shown = True
        return self._actor()

    def _actor(self) -> str | None:
        actor: str | None = self._once("actor", self._find_actor)
        return actor

    def _once(self, name: str, find: Callable[[], Any]) -> Any:
        """Return what was found first. No lock: threads of one request may call at once, and `find` may block."""
        return self._found[name] if name in self._found else self._found.setdefault(name, find())

    def _find_actor(self) -> str | None:
        if not self.is_tracked:
            return None
        text = self._request.COOKIES.get(COOKIE, "")
        return text if _is_uuid(text) else str(uuid.uuid4())

    def record_trigger(
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
    ) -> bool:
        """Record a trigger of this request's actor; see `FocusLabClient.record_trigger`.

        Args:
            action, obj, identities, attributes, variables, at, trigger_id: As there.
            actor_id: Another actor; None means the one of the cookie, and so does a user who is not logged in.

        Returns:
            True when the trigger is buffered. False when it was dropped, and counted: as `untracked` when
            `FL_MAY_TRACK` forbids it.
        """
        actor = self._choose_actor(actor_id)
        return actor is not None and _client.record_trigger(
            actor, action, obj, identities, attributes, variables, at=at, trigger_id=trigger_id
        )

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
        return actor is not None and _client.record_trigger_on_commit(
            actor, action, obj, identities, attributes, variables, at=at, trigger_id=trigger_id, using=using
        )

    def _choose_actor(self, actor_id: Actor | None) -> Actor | None:
        """Return the actor of a trigger; None, and count it, when the request is not tracked."""
        if not self.is_tracked:
            _client._current().refuse("untracked")
            return None
        return self._actor() if is_nobody(actor_id) else actor_id

    def finish(self, response: HttpResponseBase) -> None:
        """Set the cookie on the response to an actor who came without one, unless the view has set it."""
        is_public = "actor" not in self._found and "public" in response.get("Cache-Control", "")
        actor = self._actor() if _client._refusal is None and not is_public else None
        if actor is not None and self._request.COOKIES.get(COOKIE) != actor:
            self._set_cookie(response, actor)
            self._is_shown = True
        if self._is_shown:
            # Otherwise a cache would give one actor's cookie, or page, to everybody. `Vary` alone is not enough:
            # two clients without this cookie may send equal other ones.
            patch_vary_headers(response, ("Cookie",))
            patch_cache_control(response, private=True)
        if "is_tracked" in self._found:  # a streamed response may still record, but needs the request no more
            self._request = None

    def _set_cookie(self, response: HttpResponseBase, actor: str) -> None:
        if COOKIE in response.cookies:
            return
        chosen = _read_settings()
        response.set_cookie(
            COOKIE,
            actor,
            max_age=MAX_AGE,
            domain=chosen.cookie_domain,
            secure=self._request.is_secure() if chosen.cookie_secure is None else chosen.cookie_secure,
            samesite=chosen.cookie_samesite,
        )


class FocusLabMiddleware:
    """Sets `request.focuslab`, and the actor's cookie on the response. For synchronous and asynchronous views."""

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
        tracker = request.focuslab = RequestTracker(request)
        if self._is_async:
            return self._answer(request, tracker)
        response = self._get_response(request)
        tracker.finish(response)
        return response

    async def _answer(self, request: HttpRequest, tracker: RequestTracker) -> HttpResponseBase:
        response = await self._get_response(request)
        if _read_settings().may_track is None:
            tracker.finish(response)
        else:  # it may read the session or the database, which Django forbids in an event loop
            await sync_to_async(tracker.finish)(response)
        return response


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()  # `UUID` accepts other spellings too
    except ValueError:
        return False


def _may_track(request: HttpRequest) -> bool:
    ask = _read_settings().may_track
    try:
        answer = True if ask is None else ask(request)
        if inspect.isawaitable(answer):  # as a bool it would be True
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError("FL_MAY_TRACK is asynchronous")
        return bool(answer)
    except Exception as error:
        _client._current().callbacks.failed("FL_MAY_TRACK", error)
        problem = f"FL_MAY_TRACK raised {type(error).__name__}"
        _log.once(logging.ERROR, f"{problem}; requests for which it does are not tracked")
        _log.write()  # now: where nothing is recorded, the client writes no line before the end of the process
        return False


@lru_cache(maxsize=1)
def _read_once() -> DjangoSettings:
    return read_settings(DjangoSettings)


def _read_settings() -> DjangoSettings:
    try:
        return _read_once()
    except ConfigurationError as error:  # not cached: it may pass
        raise_or_log(error, "the middleware uses the defaults, and tracks nothing")
        return DjangoSettings(may_track=lambda request: False)


setting_changed.connect(lambda **_: _read_once.cache_clear(), weak=False, dispatch_uid="brockman.middleware")
