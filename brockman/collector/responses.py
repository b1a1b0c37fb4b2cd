"""Answers: always JSON, also for what goes wrong."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from brockman.collector import strict_json
from brockman.collector.errors import Refusal, StoreUnavailable
from brockman.collector.request_body import DRAIN_BYTES, declared_length


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a value as a JSON response."""
    return Response(strict_json.dump(content), status, headers, media_type="application/json")


def refuse(request: Request, refusal: Refusal) -> Response:
    """Return the response to a request that is refused."""
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    if not _ends_by_itself(request):
        headers["Connection"] = "close"
    return answer({"error": refusal.text}, refusal.status, headers)


def _ends_by_itself(request: Request) -> bool:
    """Return whether what comes after the refused body can be told from it, and comes soon."""
    if "transfer-encoding" in request.headers:
        return False
    if "expect" in request.headers:  # having read the refusal, the sender may leave the body out
        return False
    try:
        return (declared_length(request) or 0) <= DRAIN_BYTES
    except Refusal:
        return False


async def on_refusal(request: Request, error: Exception) -> Response:
    """Answer what raised a `Refusal`."""
    assert isinstance(error, Refusal)
    return refuse(request, error)


async def on_store_unavailable(request: Request, error: Exception) -> Response:
    """Answer that the service is away for now: the sender keeps its triggers."""
    assert isinstance(error, StoreUnavailable)
    return refuse(request, Refusal(503, str(error), retry_after=error.retry_after))


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what the router raises: no such path, no such method."""
    assert isinstance(error, HTTPException)
    text = {404: "there is nothing here; triggers go to /api/v1/trigger/", 405: "this method is not for this path"}
    response = refuse(request, Refusal(error.status_code, text.get(error.status_code, error.detail)))
    response.headers.update(error.headers or {})
    return response


async def on_fault(request: Request, error: Exception) -> Response:
    """Answer a fault of the collector itself. The traceback goes to the log."""
    return refuse(request, Refusal(500, "the collector has a fault; its log tells more"))
