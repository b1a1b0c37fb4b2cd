"""HTTP responses: always JSON, errors too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from brockman.collector import strict_json
from brockman.collector.errors import StoreUnavailable
from brockman.collector.request_body import DRAIN_BYTES, declared_length

_NOT_FOUND = "not found; triggers are posted to /api/v1/trigger/"


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(strict_json.dump(content), status, headers, media_type="application/json")


def error_response(request: Request, error: HTTPException) -> Response:
    """Return `{"error": text}`, and close the connection unless the rest of the request can be skipped."""
    headers = dict(error.headers or {})
    if not _can_skip_body(request):
        headers["Connection"] = "close"
    return json_response({"error": error.detail}, error.status_code, headers)


def _can_skip_body(request: Request) -> bool:
    if "transfer-encoding" in request.headers:
        return False
    if "expect" in request.headers:  # after the error the client may not send the body
        return False
    try:
        return (declared_length(request) or 0) <= DRAIN_BYTES
    except HTTPException:
        return False


async def on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        methods = ", ".join(_methods(request, request.url.path))
        error = HTTPException(405, f"method not allowed; there are {methods}", {"Allow": methods})
    elif error.status_code == 404 and error.detail == HTTPStatus.NOT_FOUND.phrase:  # by the router
        path = request.url.path + "/"
        hint = f"not found; {path[:200]!a} ends with a slash" if _methods(request, path) else _NOT_FOUND
        error = HTTPException(404, hint)
    return error_response(request, error)


def _methods(request: Request, path: str) -> list[str]:
    """Return the methods of all routes of a path."""
    scope = {**request.scope, "path": path}
    found = [
        method
        for route in request.app.routes
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE
        for method in route.methods or ()
    ]
    return sorted({*found})


async def on_store_unavailable(request: Request, error: Exception) -> Response:
    """Respond 503: the client keeps its triggers."""
    assert isinstance(error, StoreUnavailable)
    headers = {"Retry-After": str(error.retry_after)}
    return error_response(request, HTTPException(503, str(error), headers))


async def on_internal_error(request: Request, error: Exception) -> Response:
    """Respond 500. The traceback goes to the log."""
    headers = {"X-Content-Type-Options": "nosniff"}  # no middleware sees this answer
    return error_response(request, HTTPException(500, "internal error; see the collector's log", headers))


HANDLERS: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    StoreUnavailable: on_store_unavailable,
    HTTPException: on_http_exception,
    Exception: on_internal_error,
}
