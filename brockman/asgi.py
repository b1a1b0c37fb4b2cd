"""The middleware for ASGI applications: Starlette, FastAPI, Quart and others.

from brockman.asgi import FocusLabMiddleware

app.add_middleware(FocusLabMiddleware)  # in Starlette and FastAPI
application = FocusLabMiddleware(application)  # elsewhere

`DeliverOnShutdown` is the part of it that delivers when the application shuts down: for servers that run no exit
hooks, such as uvicorn under SIGTERM.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from brockman import contexts
from brockman.client import FocusLabClient
from brockman.delivery import aio
from brockman.exceptions import ConfigurationError
from brockman.process import exit, log_thread, registry, sudden_exit
from brockman.process.clock import monotonic
from brockman.process.log import count_of, say
from brockman.web.client import in_pytest
from brockman.web.headers import finish_headers
from brockman.web.request import WebRequest
from brockman.web.site import Site, has_debug
from brockman.web.tracker import RequestTracker

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from brockman.options.web import WebOptions

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
_TRACKER = "focuslab"
_OWN = ("_app", "_timeout", "_site", "_make_site")  # attributes that are not the application's
_BEGINS = ("http.response.start", "websocket.accept", "websocket.http.response.start")  # messages with headers


class DeliverOnShutdown:
    """Wraps an ASGI application: at the end of its lifespan, all clients flush.

    The server waits for the end of the lifespan before it exits. An application without one, such as Django's,
    gets one. Clients stay open. Attributes are those of the application: `app.get`, `app.state`.
    """

    _app: Application
    _timeout: float | None

    def __init__(self, app: Application, timeout: float | None = None) -> None:
        """Wrap an application.

        Args:
            app: The application.
            timeout: Seconds for all clients together; None means the `shutdown_timeout` of each client.
        """
        vars(self).update(_app=app, _timeout=timeout)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the application."""
        if name in _OWN:  # of a copy that has none yet
            raise AttributeError(name)
        return getattr(self._app, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute of the application."""
        setattr(self._app, name, value)

    def __delattr__(self, name: str) -> None:
        """Delete an attribute of the application."""
        delattr(self._app, name)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle the lifespan; pass everything else to the application."""
        if scope["type"] == "lifespan":
            await _Lifespan(self._app, receive, send, self._timeout).run(scope)
        else:
            await self._app(scope, receive, send)


class FocusLabMiddleware(DeliverOnShutdown):
    """Wraps an ASGI application: triggers recorded in a request have its visitor as their actor.

    `brockman.current()`, also `scope["focuslab"]`, is the tracker of the request. A new visitor gets the cookie of
    FocusLab's browser tracker with the response, if something was recorded before it began. At the end of the
    lifespan all clients flush, as with `DeliverOnShutdown`.
    """

    _site: Site | None
    _make_site: Callable[[bool], Site]

    def __init__(
        self,
        app: Application,
        *,
        debug: bool | None = None,
        client: FocusLabClient | None = None,
        timeout: float | None = None,
        **settings: Unpack[WebOptions],
    ) -> None:
        """Wrap an application.

        Args:
            app: The application.
            debug: True: mistakes in triggers and settings raise. False: they are counted and logged, and no page
                fails. None: True under pytest, and where the `debug` of the application is True.
            client: Records the triggers of the tracker; None makes one from the environment.
            timeout: As in `DeliverOnShutdown`.
            **settings: Of `brockman.options.web.WebSettings`. One that is not given is read from the environment.

        Raises:
            ConfigurationError: For a wrong setting, with `debug=True` or under pytest. Where the application's
                `debug` decides, its startup fails.
        """
        super().__init__(app, timeout)
        if debug is None and in_pytest():
            debug = True

        def make_site(is_debug: bool) -> Site:
            is_strict = is_debug if debug is None else debug
            return Site(settings, is_strict=lambda: is_strict, client=client)

        vars(self).update(_make_site=make_site, _site=make_site(True) if debug else None)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle the lifespan and the context of a request; the application does the rest."""
        if scope["type"] == "lifespan":
            try:
                self._site_of(scope)
            except ConfigurationError as error:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(error)})
            else:
                await super().__call__(scope, receive, send)
        elif scope["type"] in ("http", "websocket"):
            await self._handle(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _handle(self, scope: Message, receive: Receive, send: Send) -> None:
        site = self._site_of(scope)
        request = AsgiRequest(scope)
        tracker = scope[_TRACKER] = site.tracker(request, scope.get(_TRACKER))

        async def send_finished(message: Message) -> None:
            if message["type"] in _BEGINS:
                message = _finished(message, tracker, site, request)
            await send(message)

        try:
            with contexts.entered(site.context(tracker)):
                await self._app(scope, receive, send_finished)
        finally:
            tracker.release()

    def _site_of(self, scope: Message) -> Site:
        """Return the settings, read when the first scope shows the application: `add_middleware` does not."""
        site = self._site
        if site is None:
            site = vars(self)["_site"] = self._make_site(has_debug(scope.get("app", self._app)))
        return site


class AsgiRequest(WebRequest):
    """A request by its `scope`."""

    __slots__ = ("scope",)

    def __init__(self, scope: Message) -> None:
        """Read nothing yet."""
        self.scope = scope

    def header(self, name: str) -> str:
        """Return the value of a header, whose name is in lower case; "" when there is none."""
        wanted = name.encode("latin-1")
        values = [value.decode("latin-1") for key, value in self.scope["headers"] if key == wanted]
        return ("; " if name == "cookie" else ", ").join(values)  # HTTP/2 may send one cookie in each header

    @property
    def path(self) -> str:
        """The path of the URL, decoded."""
        return str(self.scope["path"])

    @property
    def is_secure(self) -> bool:
        """True for https and wss."""
        return self.scope.get("scheme") in ("https", "wss")

    def ended(self) -> WebRequest:
        """Return one by a copy of the scope without the tracker."""
        return AsgiRequest({key: value for key, value in self.scope.items() if key != _TRACKER})


def _finished(message: Message, tracker: RequestTracker, site: Site, request: AsgiRequest) -> Message:
    """Return the message that begins a response, with the headers that a tracker needs."""
    if not site.settings.cookie_always and not any(tracker.finish()):
        return message  # most of them: nothing is decoded
    headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in message.get("headers") or ()]
    finish_headers(tracker, site.settings, headers, is_secure=request.is_secure)
    return {
        **message,
        "headers": [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in headers],
    }


class _Lifespan:
    """One lifespan: https://asgi.readthedocs.io/en/latest/specs/lifespan.html"""

    def __init__(self, app: Application, receive: Receive, send: Send, timeout: float | None) -> None:
        self._app = app
        self._receive = receive
        self._send = send
        self._timeout = timeout
        self._received: set[str] = set()  # of "startup" and "shutdown", what the server has announced
        self._answered: set[str] = set()  # and what the application has answered
        self._has_failed = False

    async def run(self, scope: Message) -> None:
        sudden_exit.watch().has_lifespan = True
        try:
            await self._app(scope, self._listen, self._answer)
        except BaseException as error:
            if "startup" in self._answered and "shutdown" not in self._received:
                sudden_exit.watch().has_lifespan = False  # the server goes on, and tells no shutdown
            if "shutdown" in self._received - self._answered:
                await _deliver(self._timeout)
            if self._received or not isinstance(error, Exception):
                raise
        for phase in ("startup", "shutdown"):  # the application has no lifespan, or returned early
            if phase in self._answered:
                continue
            if self._has_failed:
                return
            if phase not in self._received:
                await self._listen()
            await self._answer({"type": f"lifespan.{phase}.complete"})

    async def _listen(self) -> Message:
        message = await self._receive()
        self._received.add(message["type"].rpartition(".")[2])
        return message

    async def _answer(self, message: Message) -> None:
        _, phase, outcome = message["type"].split(".")
        self._answered.add(phase)
        self._has_failed = outcome == "failed"
        if phase == "shutdown":
            await _deliver(self._timeout)
        await self._send(message)


async def _deliver(timeout: float | None) -> None:
    started = monotonic()
    pending = 0
    pipelines = registry.active_pipelines()
    for pipeline in pipelines:
        pipeline.request_flush()
    for pipeline in pipelines:
        limit = pipeline.shutdown_timeout if timeout is None else timeout
        result = await aio.flush(pipeline, max(0.0, started + limit - monotonic()))
        pending += result.pending
    await asyncio.to_thread(exit.run_after_exit_hooks)
    if pending:
        say(
            logging.WARNING,
            f"{count_of(pending, 'trigger')} not delivered at the shutdown of the ASGI application",
        )
    await asyncio.to_thread(log_thread.wait_until_written, 1.0)  # a server may end without an exit hook
