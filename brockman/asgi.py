"""Deliver when an ASGI application shuts down: for servers that run no exit hooks, such as uvicorn under SIGTERM.

from brockman.asgi import DeliverOnShutdown

application = DeliverOnShutdown(application)

Or, in Starlette and FastAPI: `app.add_middleware(DeliverOnShutdown)`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from brockman.delivery import aio
from brockman.process import exit, log_thread, registry, sudden_exit
from brockman.process.clock import monotonic
from brockman.process.log import count_of, say

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


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
        if name in DeliverOnShutdown.__annotations__:  # of a copy that has none yet
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
