"""Who may speak to the collector: the API key, and the name it is called by."""

from __future__ import annotations

import hmac
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from brockman.collector.errors import InvalidSetting, Refusal
from brockman.collector.responses import refuse

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class KeyCheck:
    """Compares the `X-FL-API-KEY` header of requests with the collector's key."""

    def __init__(self, api_key: str | None) -> None:
        """Take the key.

        Args:
            api_key: None lets every request pass.

        Raises:
            InvalidSetting: When no client could send the key.
        """
        if api_key is not None and not _can_be_sent(api_key):
            raise InvalidSetting("api_key: give printable ASCII without space around it, or None to check no key")
        self._key = None if api_key is None else api_key.encode("ascii")

    def check(self, request: Request) -> None:
        """Let the request pass.

        Raises:
            Refusal: 401 without a key, 403 with a wrong one.
        """
        if self._key is None:
            return
        given = request.headers.get("x-fl-api-key")
        if given is None:
            raise Refusal(401, "no API key; send it as the header X-FL-API-KEY")
        # Headers were decoded as latin-1, so this is what came over the wire.
        if not hmac.compare_digest(given.encode("latin-1"), self._key):
            raise Refusal(403, "the API key is not this collector's")


class HostCheck:
    """ASGI middleware: refuses requests that name another host than the collector's.

    A page in a browser can have its own host name resolve to 127.0.0.1 (DNS rebinding) and would then read from a
    collector on the loopback interface; the `Host` header still tells the page's name. The answer is 403, which
    makes a client hold its triggers and say that the set-up is wrong.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str]) -> None:
        """Wrap an application.

        Args:
            app: Gets the requests that pass.
            allowed_hosts: Names without port; an IPv6 address in brackets.
        """
        self._app = app
        self._allowed = frozenset(name.lower() for name in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _host_name(Headers(scope=scope).get("host", "")) not in self._allowed:
            text = f"Host is none of the names this collector answers to: {', '.join(sorted(self._allowed))}"
            await refuse(Request(scope), Refusal(403, text))(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _can_be_sent(api_key: str) -> bool:
    return api_key != "" and api_key.isascii() and api_key.isprintable() and api_key == api_key.strip()


def _host_name(host: str) -> str:
    name, colon, port = host.lower().rpartition(":")
    return name if colon and (port.isdigit() or not port) else host.lower()
