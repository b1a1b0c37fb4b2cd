"""Responds to requests that the end of the server interrupts."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brockman.collector.responses import error_response


class Shutdown:
    """ASGI middleware that responds 503 to a request that was cancelled: only the server's shutdown does that.

    What it was to store may be stored all the same: sent again, it is a repetition.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def note_and_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, note_and_send)
        except asyncio.CancelledError:
            if has_begun or scope["type"] != "http":
                raise
            error = HTTPException(503, "the collector is shutting down", {"Retry-After": "1"})
            await error_response(Request(scope), error)(scope, receive, send)
