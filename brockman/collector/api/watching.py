"""Routes for those that watch a collector: its health, and its metrics."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brockman.collector.auth import check_key, has_key
from brockman.collector.health import Health
from brockman.collector.metrics import MEDIA_TYPE, Metrics
from brockman.collector.responses import json_response
from brockman.collector.settings import Settings

HEALTH_PATH = "/healthz"
_NO_STORE = {"Cache-Control": "no-store"}


def routes(health: Health, metrics: Metrics, settings: Settings) -> list[Route]:
    async def send_health(request: Request) -> Response:
        """Respond 503 while triggers cannot be stored; with the parameter `live`, respond 200 always."""
        error = None
        if "live" not in request.query_params:
            error = await health.check()
        if error is not None:
            if not has_key(request, settings):  # it may name hosts and users
                error = "triggers cannot be stored; the collector's log says why"
            raise HTTPException(503, error, _NO_STORE)
        return json_response({"status": "ok"}, headers=_NO_STORE)

    async def send_metrics(request: Request) -> Response:
        check_key(request, settings)
        text = await run_in_threadpool(metrics.expose)
        return Response(text, media_type=MEDIA_TYPE, headers=_NO_STORE)

    return [
        Route(HEALTH_PATH, send_health, methods=["GET"]),
        Route("/metrics", send_metrics, methods=["GET"]),
    ]
