"""The collector as an ASGI application: what is answered at which path."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brockman.collector import responses
from brockman.collector.auth import HostCheck, KeyCheck
from brockman.collector.errors import InvalidSetting, Refusal, StoreUnavailable
from brockman.collector.ingest import read_triggers, verdicts
from brockman.collector.outage import RehearsedOutage
from brockman.collector.request_body import check_headers, inflate, read_body
from brockman.collector.responses import answer
from brockman.collector.schema import parse_query
from brockman.collector.store import Store

MAX_BODY_BYTES = 8 * 1024 * 1024
BODY_TIMEOUT = 30.0  # seconds


def create_app(
    store: Store,
    *,
    api_key: str | None,
    max_body_bytes: int = MAX_BODY_BYTES,
    max_inflated_bytes: int = MAX_BODY_BYTES,
    body_timeout: float = BODY_TIMEOUT,
    allowed_hosts: Collection[str] | None = None,
    outage_after: int | None = None,
    outage_for: float = 0.0,
) -> Starlette:
    """Make the application. It stores into `store` and leaves closing it to the caller.

    Args:
        store: Where triggers go.
        api_key: What `X-FL-API-KEY` must be. None checks no key.
        max_body_bytes: Of one request, as it is sent.
        max_inflated_bytes: Of one request, after decompression.
        body_timeout: Seconds within which a body must arrive.
        allowed_hosts: What `Host` may name, without port. None takes any.
        outage_after: Rehearse an outage once this many triggers have been stored. None does not.
        outage_for: Seconds that the outage lasts.

    Raises:
        InvalidSetting: When a setting is wrong.
    """
    api = _Api(store, KeyCheck(api_key), max_body_bytes, max_inflated_bytes, body_timeout)
    middleware = []
    if allowed_hosts is not None:
        middleware.append(Middleware(HostCheck, allowed_hosts=allowed_hosts))
    if outage_after is not None:
        if outage_after < 0 or not 0 < outage_for < float("inf"):
            raise InvalidSetting("outage_after: give a count from 0, and with it outage_for, seconds above 0")
        middleware.append(
            Middleware(RehearsedOutage, stored=lambda: store.stored, after=outage_after, seconds=outage_for)
        )
    app = Starlette(
        routes=[
            Route("/", api.introduce, methods=["GET"]),
            Route("/api/v1/trigger/", api.trigger, methods=["GET", "POST"]),
            Route("/api/v1/stats/", api.stats, methods=["GET"]),
        ],
        middleware=middleware,
        exception_handlers={
            Refusal: responses.on_refusal,
            StoreUnavailable: responses.on_store_unavailable,
            HTTPException: responses.on_http_exception,
            Exception: responses.on_fault,
        },
    )
    app.router.redirect_slashes = False  # clients follow no redirects: their key must not leave for another host
    return app


class _Api:
    """The handlers. What parses or waits for the disk runs in a worker thread."""

    def __init__(
        self, store: Store, key_check: KeyCheck, max_body_bytes: int, max_inflated_bytes: int, body_timeout: float
    ) -> None:
        self._store = store
        self._key_check = key_check
        self._max_body_bytes = max_body_bytes
        self._max_inflated_bytes = max_inflated_bytes
        self._body_timeout = body_timeout

    async def introduce(self, request: Request) -> Response:
        return answer({"service": "brockman collector", "triggers": "/api/v1/trigger/", "stats": "/api/v1/stats/"})

    async def trigger(self, request: Request) -> Response:
        self._key_check.check(request)
        if request.method != "POST":
            return await run_in_threadpool(self._read_back, request)
        is_gzip = check_headers(request, self._max_body_bytes)
        body = await read_body(request, self._max_body_bytes, self._body_timeout)
        return await run_in_threadpool(self._take, body, is_gzip)

    async def stats(self, request: Request) -> Response:
        self._key_check.check(request)
        return answer(asdict(await run_in_threadpool(self._store.tally)))

    def _take(self, body: bytes, is_gzip: bool) -> Response:
        """Store the triggers of one request; the answer is made after the commit."""
        if is_gzip:
            body = inflate(body, self._max_inflated_bytes)
        intake = read_triggers(body, received_at=time.time_ns() // 1000)
        if intake.errors and not intake.is_array:
            raise Refusal(400, intake.errors[0][1])
        self._store.add(intake.rows, rejected=len(intake.errors))
        if not intake.is_array:
            return answer({"id": intake.rows[0][0]}, 201)
        if not intake.errors:
            return answer({"accepted": len(intake.rows)}, 201)
        return answer({"accepted": len(intake.rows), "rejected": verdicts(intake.errors)}, 207)

    def _read_back(self, request: Request) -> Response:
        page = self._store.page(parse_query(request.query_params.multi_items()))
        # The bodies are JSON already. `next` is text: a cursor to hand back, not a number to reckon with.
        after = "null" if page.next is None else f'"{page.next}"'
        content = f'{{"triggers":[{",".join(page.bodies)}],"total":{page.total},"next":{after}}}'
        return Response(content, media_type="application/json")
