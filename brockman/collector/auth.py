"""Access control: the API key, and the names in the `Host` header."""

from __future__ import annotations

import hmac
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from brockman.collector.responses import error_response
from brockman.collector.settings import Settings

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def check_key(request: Request, settings: Settings, *, is_write: bool = False) -> None:
    """Compare the key of a request with the collector's keys; without any, every request is accepted.

    It is in the header `X-FL-API-KEY`, or in `Authorization` as a bearer token. For a write, a write key may be in
    the parameter `key` of the URL: a page that is left sends no headers.
    """
    if not settings.keys:
        return
    write_keys = settings.write_keys if is_write else ()
    keys = [*settings.keys, *write_keys]
    given = request.headers.get("x-fl-api-key", _bearer_token(request))
    if given is None and write_keys:
        given, keys = request.query_params.get("key"), [*write_keys]
    if given is None:
        raise HTTPException(401, "API key missing; send it in the header X-FL-API-KEY")
    # Starlette decodes headers as latin-1, so this restores the bytes that were sent.
    sent = given.encode("latin-1", "replace")
    matches = [hmac.compare_digest(sent, key.encode("ascii")) for key in keys]  # all: the time does not tell which
    if not any(matches):
        raise HTTPException(403, "wrong API key")


def has_key(request: Request, settings: Settings) -> bool:
    """Return whether the request may read."""
    try:
        check_key(request, settings)
    except HTTPException:
        return False
    return True


def _bearer_token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


class HostCheck:
    """ASGI middleware that rejects requests for other host names with 403.

    A web page can let its host name resolve to 127.0.0.1 (DNS rebinding) and then read from a collector on the
    loopback interface; the `Host` header still has that name. A client holds its triggers after a 403.
    Allowed names are without port; an IPv6 address is in brackets. `open_path` accepts every name.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str], open_path: str) -> None:
        self._app = app
        self._open_path = open_path
        self._allowed = frozenset(name.lower() for name in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == self._open_path:
            await self._app(scope, receive, send)
        elif not self._allowed.issuperset(map(_host_name, Headers(scope=scope).getlist("host") or [""])):
            error = HTTPException(403, f"unknown name in Host; use one of {', '.join(sorted(self._allowed))}")
            await error_response(Request(scope), error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _host_name(host: str) -> str:
    name, colon, port = host.lower().rpartition(":")
    return name if colon and (port.isdigit() or not port) else host.lower()
