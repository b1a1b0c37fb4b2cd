"""Headers that keep other web sites from using an answer in a way of their own."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN = {("POST", "/api/v1/trigger/"), ("OPTIONS", "/api/v1/trigger/")}  # for web pages of allowed origins


class Isolation:
    """ASGI middleware that adds two headers where they are missing.

    A browser then takes no answer for a type that it has not, and gives none to a page of another site, which may
    include any URL as an image or a script. What the site records is for the origins that are allowed to.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_isolated(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                if (scope["method"], scope["path"]) not in _OPEN:
                    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
            await send(message)

        await self._app(scope, receive, send_isolated if scope["type"] == "http" else send)
