"""Gives each request a tracker, which knows who acts by the cookie of FocusLab's browser tracker."""

from __future__ import annotations

import importlib
import inspect
import logging
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers

from brockman.django.client import DjangoFocusLabClient
from brockman.django.settings import DjangoSettings, raise_or_tell, read_settings
from brockman.exceptions import ConfigurationError
from brockman.process.log import say

COOKIE = "fl_actor_id"
MAX_AGE = 3650 * 24 * 60 * 60  # seconds; as the browser tracker sets it
_client = DjangoFocusLabClient()


class RequestTracker:
    """Records triggers for a request: `request.focuslab`."""

    def __init__(self, request: HttpRequest) -> None:
        """Make the tracker of a request. Asks and reads nothing yet."""
        self._request: Any = request  # let go of when the response is there: it holds this tracker
        self._found: dict[str, Any] = {}
        self._is_shown = False

    @property
    def is_tracked(self) -> bool:
        """Whether `FL_MAY_TRACK` allows it; asked once for a request. One that raises does not allow it."""
        return bool(self._once("is_tracked", lambda: _may_track(self._request)))

    @property
    def actor_id(self) -> str | None:
        """Who acts, a UUID as the cookie has it; a new one without. None when the request is not tracked.

        A page that has asked for it may show it: so its response is marked as one that no cache hands on.
        """
        self._is_shown = True
        return self._actor

    @property
    def _actor(self) -> str | None:
        actor: str | None = self._once("actor", self._find_actor)
        return actor

    def _once(self, name: str, find: Callable[[], Any]) -> Any:
        """Return what was found first. No lock: threads of one request may come at once, and `find` may wait."""
        return self._found[name] if name in self._found else self._found.setdefault(name, find())

    def _find_actor(self) -> str | None:
        if not self.is_tracked:
            return None
        text = self._request.COOKIES.get(COOKIE, "")
        return text if _is_uuid(text) else str(uuid.uuid4())

    def record_trigger(
        self,
        action: Any,
        obj: Any,
        identities: Any = None,
        attributes: Any = None,
        variables: Any = None,
        *,
        actor_id: Any = None,
    ) -> bool:
        """Record a trigger of this request's actor; see `FocusLabClient.record_trigger`.

        Args:
            action, obj, identities, attributes, variables: As there.
            actor_id: Another actor; None means that of the cookie.

        Returns:
            True when the trigger is buffered. False when it was dropped and counted, as `untracked` perhaps.
        """
        if not self.is_tracked:
            return _client.count_untracked()
        actor = self._actor if actor_id is None else actor_id
        return _client.record_trigger(actor, action, obj, identities, attributes, variables)

    def record_trigger_on_commit(
        self,
        action: Any,
        obj: Any,
        identities: Any = None,
        attributes: Any = None,
        variables: Any = None,
        *,
        actor_id: Any = None,
        using: str | None = None,
    ) -> bool:
        """Record it when the transaction commits; see `DjangoFocusLabClient.record_trigger_on_commit`."""
        if not self.is_tracked:
            return _client.count_untracked()
        actor = self._actor if actor_id is None else actor_id
        return _client.record_trigger_on_commit(actor, action, obj, identities, attributes, variables, using=using)

    def finish(self, response: HttpResponseBase) -> None:
        """Set the cookie on the response to an actor who came without, unless the view has."""
        is_public = "actor" not in self._found and "public" in response.get("Cache-Control", "")
        actor = self._actor if _client.takes_triggers and not is_public else None
        if actor is not None and self._request.COOKIES.get(COOKIE) != actor:
            self._set_cookie(response, actor)
            self._is_shown = True
        if self._is_shown:
            # Or a cache would give one actor's cookie, or page, to everybody. `Vary` alone is not enough: two who
            # come without this cookie may bring the same other ones.
            patch_vary_headers(response, ("Cookie",))
            patch_cache_control(response, private=True)
        if "is_tracked" in self._found:  # nothing is asked of it any more: what streams may record on
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
        """Wrap what answers the request."""
        importlib.import_module("brockman.transport.http")  # now, and not in the first request
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Answer a request, or return a coroutine that does."""
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
        else:  # it may look into the session or the database, which Django refuses in an event loop
            await sync_to_async(tracker.finish)(response)
        return response


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()  # it takes other spellings too
    except ValueError:
        return False


def _may_track(request: HttpRequest) -> bool:
    ask = _read_settings().may_track
    try:
        answer = True if ask is None else ask(request)
        if inspect.isawaitable(answer):  # which is true, whatever it would come to
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError("FL_MAY_TRACK is asynchronous")
        return bool(answer)
    except Exception as error:
        _client.count_failure("FL_MAY_TRACK", error)
        _say_once(type(error).__name__)
        return False


@lru_cache(maxsize=100)
def _say_once(kind: str) -> None:
    """Say it at once: where nothing is recorded, no other line comes before the end of the process."""
    say(logging.ERROR, f"FL_MAY_TRACK raised {kind}; requests for which it does are not tracked")


@lru_cache(maxsize=1)
def _read_once() -> DjangoSettings:
    return read_settings(DjangoSettings)


def _read_settings() -> DjangoSettings:
    try:
        return _read_once()
    except ConfigurationError as error:  # not kept: it may pass
        raise_or_tell(error, "the middleware takes the defaults, and tracks nothing")
        return DjangoSettings(may_track=lambda request: False)


def _on_setting_changed(**_: Any) -> None:
    _read_once.cache_clear()


setting_changed.connect(_on_setting_changed, dispatch_uid="brockman.middleware")
