"""The tracker of a request, which reads the actor from the cookie of FocusLab's browser tracker."""

from __future__ import annotations

import inspect
import logging
import re
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from brockman import contexts
from brockman.process.interruption import is_interruption
from brockman.process.log import Log
from brockman.trigger.coerce import is_nobody
from brockman.web.bots import is_bot
from brockman.web.request import find_cookie

if TYPE_CHECKING:
    from datetime import datetime

    from brockman.client import FocusLabClient
    from brockman.options.web import WebSettings
    from brockman.trigger.arguments import Actor, Text, Values
    from brockman.web.request import WebRequest

_is_uuid = re.compile("[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}").fullmatch
_AGENT_SIZE = 512  # characters: one of 32 KiB would make its triggers too large
_TOO_LATE = (
    "a new visitor's first trigger was recorded after the headers of the response: no cookie could be set;"
    " read `actor_id` of the request's tracker before"
)
_log = Log()


class Finish(NamedTuple):
    """Changes of a response's headers.

    Attributes:
        actor: The actor whose cookie is to be set, unless the view has set that cookie; None for no cookie.
        is_private: True when no cache may hand the response on: `Vary: Cookie`, `Cache-Control: private`.
    """

    actor: str | None = None
    is_private: bool = False


_NOTHING = Finish()


class RequestTracker:
    """Records triggers for a request. Any thread may use it, also after the response."""

    def __init__(
        self,
        request: WebRequest,
        client: FocusLabClient,
        settings: WebSettings,
        *,
        is_safe: bool = False,
        outer: object = None,
    ) -> None:
        """Read nothing from the request yet.

        Args:
            is_safe: A mistake in a trigger raises nothing.
            outer: The tracker of a middleware around this one, if any: a new visitor has its actor.
        """
        self._request: WebRequest | None = request  # None when it has ended: a request refers to its tracker
        self._outer: RequestTracker | None = None
        if isinstance(outer, RequestTracker) and not outer._is_finished:  # that of another request is
            self._outer = outer
        self._client = client
        self._settings = settings
        self._is_safe = is_safe
        # By name: what was found first. No lock: threads of one request may look at once, and looking may block.
        self._found: dict[str, Any] = {}
        self._cookies = ""  # the header, when the request has ended
        self._is_shown = False
        self._is_finished: bool = False  # the headers of the response are sent

    @property
    def is_tracked(self) -> bool:
        """False when `may_track` returns False or raises, and for what is skipped. It is called once."""
        return bool(self._once("is_tracked", self._find_tracked))

    @property
    def actor_id(self) -> str | None:
        """The actor, a UUID from the cookie, or a new one. None when the request is not tracked.

        Reading this marks the response `private`: the page may show it, and no cache must hand it on.
        """
        self._is_shown = True
        return self._actor()

    def _actor(self) -> str | None:
        found = self._found
        actor: str | None = found["actor"] if "actor" in found else found.setdefault("actor", self._find_actor())
        return actor

    def _variables(self) -> dict[str, str] | None:
        """Return what the triggers of this request have in common; None for nothing."""
        agent = self._once("user_agent", self._find_agent) if self._settings.user_agent else ""
        return {"user_agent": agent} if agent else None

    def _once(self, name: str, find: Callable[[], Any]) -> Any:
        return self._found[name] if name in self._found else self._found.setdefault(name, find())

    def _find_tracked(self) -> bool:
        request, settings = self._request, self._settings
        if not settings.is_selective:
            return True
        if request is None:
            return False
        if settings.skip_paths and settings.skips_path(request.path):
            return False
        if settings.skip_bots and is_bot(request.header("user-agent")):
            return False
        return settings.may_track is None or self._ask(settings.may_track, request.native)

    def _find_cookie(self) -> str:
        request, name = self._request, self._settings.cookie_name
        return find_cookie(self._cookies, name, _is_uuid) if request is None else request.cookie(name, _is_uuid)

    def _find_agent(self) -> str:
        request = self._request
        if request is None or (self._settings.is_selective and not self.is_tracked):
            return ""
        return request.header("user-agent")[:_AGENT_SIZE]

    def _find_actor(self) -> str | None:
        if self._settings.is_selective and not self.is_tracked:
            return None
        text: str = self._found.setdefault("cookie", self._find_cookie())
        if text:
            return text
        outer = self._outer
        if outer is not None and outer._settings.cookie_name == self._settings.cookie_name:
            actor = outer._actor()
            if actor is not None:
                return actor
        if self._is_finished:
            _log.once(logging.WARNING, _TOO_LATE)
            _log.write()
        return str(uuid.uuid4())

    def _ask(self, may_track: Callable[[Any], object], request: Any) -> bool:
        try:
            answer = may_track(request)
            if inspect.isawaitable(answer):  # as a bool it would be True
                if inspect.iscoroutine(answer):
                    answer.close()
                raise TypeError("FL_MAY_TRACK is asynchronous")
            return bool(answer)
        except Exception as error:
            if is_interruption(error):
                raise
            self._client._current().callbacks.failed("FL_MAY_TRACK", error)
            problem = f"FL_MAY_TRACK raised {type(error).__name__}"
            _log.once(logging.ERROR, f"{problem}; requests for which it does are not tracked")
            _log.write()  # now: where nothing is recorded, the client writes no line before the end of the process
            return False

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
            True when the trigger is buffered. False when it was dropped, and counted: as `untracked` when the
            request is not tracked.
        """
        actor = self._actor() if actor_id is None else self._choose_actor(actor_id)
        if actor is None:
            return self._client._current().refuse("untracked")
        record = self._client.record_trigger
        found = contexts.get()
        if found is not None and found.tracker is self:
            return record(actor, action, obj, identities, attributes, variables, at=at, trigger_id=trigger_id)
        with self._context():
            return record(actor, action, obj, identities, attributes, variables, at=at, trigger_id=trigger_id)

    def _context(self) -> AbstractContextManager[None]:
        """Return a block in the context of this request: a thread may have none, or that of another one."""
        found = contexts.get()
        if found is None or found.tracker is not self:
            found = contexts.Context(tracker=self, is_safe=self._is_safe).within(found)
        return contexts.entered(found)

    def _choose_actor(self, actor_id: Actor | None) -> Actor | None:
        """Return the actor of a trigger; None when the request is not tracked."""
        actor = self._actor()
        return actor if actor is None or is_nobody(actor_id) else actor_id

    def finish(self, *, is_public: bool = False) -> Finish:
        """Return what the headers of the response need. Call it when they are about to be sent.

        Args:
            is_public: True when the view says `Cache-Control: public`: such a response sets a cookie only if the
                actor was used.
        """
        found, self._is_finished = self._found, True
        if "actor" in found:
            actor = found["actor"]
        else:
            actor = self._actor() if self._settings.cookie_always and not is_public else None
        is_new = (
            actor is not None
            and actor != found["cookie"]  # which was looked for before the actor
            and self._client._refusal is None  # a client that records nothing needs no cookie
        )
        return Finish(actor if is_new else None, is_private=True) if is_new or self._is_shown else _NOTHING

    def release(self) -> None:
        """Keep of the request what a later trigger needs. Call it when the request has ended."""
        request, settings, found = self._request, self._settings, self._found
        self._is_finished = True
        if request is None:
            return
        if settings.may_track is not None and "is_tracked" not in found:  # only the request can tell
            self._request = request.ended()
            return
        if not settings.is_selective or self.is_tracked:
            if "actor" not in found:
                self._cookies = request.header("cookie")
            if settings.user_agent:
                self._variables()
        self._request = None
