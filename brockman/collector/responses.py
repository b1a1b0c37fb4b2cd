"""HTTP responses: always JSON, errors too."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from brockman.collector import strict_json
from brockman.collector.errors import StoreUnavailable
from brockman.collector.request_body import DRAIN_BYTES, declared_length

_ROUTING_ERRORS = {404: "not found; triggers are posted to /api/v1/trigger/", 405: "method not allowed"}


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(strict_json.dump(content), status, headers, media_type="application/json")


def error_response(request: Request, error: HTTPException) -> Response:
    """Return `{"error": text}`, and close the connection unless the rest of the request can be skipped."""
    headers = dict(error.headers or {})
    if not _can_skip_body(request):
        headers["Connection"] = "close"
    text = _ROUTING_ERRORS.get(error.status_code, error.detail)
    return json_response({"error": text}, error.status_code, headers)


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
    return error_response(request, error)


async def on_store_unavailable(request: Request, error: Exception) -> Response:
    """Respond 503: the client keeps its triggers."""
    assert isinstance(error, StoreUnavailable)
    headers = {"Retry-After": str(error.retry_after)}
    return error_response(request, HTTPException(503, str(error), headers))


async def on_internal_error(request: Request, error: Exception) -> Response:
    """Respond 500. The traceback goes to the log."""
    headers = {"X-Content-Type-Options": "nosniff"}  # no middleware sees this answer
    return error_response(request, HTTPException(500, "internal error; see the collector's log", headers))
