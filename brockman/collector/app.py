"""The ASGI application: routes and handlers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict
from functools import partial

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brockman.collector import openapi, responses
from brockman.collector.api import erasure, people, refused, senders, watching
from brockman.collector.auth import HostCheck, check_key
from brockman.collector.browsers import Origins, send_script
from brockman.collector.errors import StoreUnavailable
from brockman.collector.health import Health
from brockman.collector.ingest import RefusedBody, parse_body, rejected_entries
from brockman.collector.joiner import Joiner
from brockman.collector.live import Streams
from brockman.collector.load import Bounds, Load
from brockman.collector.metrics import Metrics
from brockman.collector.page import send_page_file
from brockman.collector.query import parse_query
from brockman.collector.rehearsal import Rehearsal
from brockman.collector.request_body import check_headers, inflated_size, read_body, shutting_down
from brockman.collector.responses import json_response
from brockman.collector.sender_headers import read_sender
from brockman.collector.settings import Settings
from brockman.collector.store.base import Store
from brockman.collector.store.refused import Refused
from brockman.collector.store.senders import Senders
from brockman.collector.timestamps import format_timestamp

_OVERVIEW_MICROS = 3600 * 1_000_000  # the last hour


def create_app(
    store: Store,
    settings: Settings,
    allowed_hosts: Collection[str] | None,
    streams: Streams,
    joiner: Joiner,
    load: Load,
    metrics: Metrics,
) -> Starlette:
    """Return the application. It does not close the store; `allowed_hosts` None accepts every `Host`."""
    origins = Origins(settings.allowed_origins)
    kept = Refused(store, settings.max_refused, settings.max_refused_bytes)
    store.parts = (*store.parts, kept)
    api = _Api(store, settings, origins, streams, kept, load, metrics)
    app = Starlette(
        routes=[
            Route("/", api.root, methods=["GET"]),
            Route("/api/v1/trigger/", api.list, methods=["GET"]),
            # Another origin may post, and read nothing.
            Route("/api/v1/trigger/", api.record, methods=["POST", "OPTIONS"], middleware=[origins.middleware()]),
            Route("/focuslab.js", send_script, methods=["GET"]),
            Route("/api/v1/stats/", api.stats, methods=["GET"]),
            Route("/api/v1/overview/", api.overview, methods=["GET"]),
            Route("/api/v1/stream/", api.stream, methods=["GET"]),
            *people.routes(joiner, settings),
            *refused.routes(kept, settings, Senders(store).find),
            *senders.routes(store, settings),
            Route("/page.js", send_page_file, methods=["GET"]),
            Route("/page.css", send_page_file, methods=["GET"]),
            *erasure.routes(store, settings, joiner.people.find_actors),
            *watching.routes(Health(store), metrics, settings),
        ],
        middleware=[*_middleware(store, settings, allowed_hosts, load)],
        exception_handlers={
            StoreUnavailable: responses.on_store_unavailable,
            HTTPException: responses.on_http_exception,
            Exception: responses.on_internal_error,
        },
    )
    app.router.routes.append(openapi.route(app.router.routes))
    app.router.redirect_slashes = False  # clients do not follow redirects, to send their key to no other host
    return app


def _middleware(
    store: Store, settings: Settings, allowed_hosts: Collection[str] | None, load: Load
) -> Iterator[Middleware]:
    """Yield what each request passes, the outermost first."""
    if allowed_hosts is not None:
        yield Middleware(HostCheck, allowed_hosts=allowed_hosts, open_path=watching.HEALTH_PATH)
    yield Middleware(Bounds, load=load)
    if settings.is_rehearsal:
        stored = lambda: store.stored  # noqa: E731
        yield Middleware(Rehearsal, settings=settings, stored=stored, rand=random.random)


class _Api:
    """The handlers. Parsing and disk access run in a worker thread."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        origins: Origins,
        streams: Streams,
        kept: Refused,
        load: Load,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._load = load
        self._streams = streams
        self._refused = kept
        self._senders = Senders(store)
        self._settings = settings
        self._origins = origins

    async def root(self, request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return await send_page_file(request)
        paths = {"triggers": "/api/v1/trigger/", "stats": "/api/v1/stats/"}
        return json_response({"service": "brockman collector", **paths})

    async def list(self, request: Request) -> Response:
        check_key(request, self._settings)
        return await run_in_threadpool(self._list, request)

    async def record(self, request: Request) -> Response:
        if request.method == "OPTIONS":  # no preflight: the middleware answers those
            raise HTTPException(405)
        is_page = self._origins.check(request)
        check_key(request, self._settings, is_write=True)
        max_bytes = self._settings.max_body_bytes
        is_gzip = check_headers(request, max_bytes, is_page=is_page)
        with self._load.body() as hold:
            body = await read_body(request, max_bytes, self._settings.body_timeout, hold)
            size = inflated_size(body, max_bytes) if is_gzip else len(body)
            hold(size - len(body) if is_gzip else 0)
            try:
                await self._load.work.enter(size)
                try:
                    return await run_in_threadpool(self._ingest, body, is_gzip, request.headers)
                finally:
                    self._load.work.leave(size)
            except asyncio.CancelledError:  # it may be stored all the same: sent again, it is a repetition
                raise shutting_down() from None

    async def stats(self, request: Request) -> Response:
        check_key(request, self._settings)
        return json_response(asdict(await run_in_threadpool(self._store.counts)))

    async def overview(self, request: Request) -> Response:
        check_key(request, self._settings)
        since = (time.time_ns() // 1000) - _OVERVIEW_MICROS
        overview = await run_in_threadpool(self._store.overview, since)
        counts = await run_in_threadpool(self._store.counts)
        return json_response({"counts": asdict(counts), **asdict(overview)})

    async def stream(self, request: Request) -> Response:
        check_key(request, self._settings)
        return await self._streams.open(request)

    def _ingest(self, body: bytes, is_gzip: bool, headers: Headers) -> Response:
        """Store the triggers of one request; respond after the commit."""
        received_at, max_bytes = time.time_ns() // 1000, self._settings.max_body_bytes
        sender = read_sender(headers, received_at)
        sender_id = None if sender is None else sender.id
        try:
            parsed = parse_body(body, received_at, is_gzip=is_gzip, max_bytes=max_bytes)
        except RefusedBody as error:
            self._metrics.count_triggers(stored=0, repeated=0, refused=len(error.refused))
            self._refused.keep(error.refused, sender_id)
            if sender is not None and len(error.refused) == 1:
                self._senders.note_refused(sender)
            raise
        ids = [row[0] for row in parsed.rows]
        update = partial(self._refused.update, refusals=parsed.refused, ids=ids, sender_id=sender_id)
        added = self._store.add(parsed.rows, rejected=len(parsed.errors), sender=sender, also=[update])
        repeated = len(added.repeated)
        self._metrics.count_triggers(
            stored=len(parsed.rows) - repeated, repeated=repeated, refused=len(parsed.errors)
        )
        if not parsed.is_array:
            return json_response({"id": parsed.rows[0][0], "repeated": bool(repeated)}, 201)
        accepted = {"accepted": len(parsed.rows), "repeated": repeated}
        if not parsed.errors:
            return json_response(accepted, 201)
        return json_response({**accepted, "rejected": rejected_entries(parsed.errors)}, 207)

    def _list(self, request: Request) -> Response:
        page = self._store.page(parse_query(request.query_params.multi_items()))
        # The bodies are JSON already. `next` is a string: an opaque cursor.
        after = "null" if page.next is None else f'"{page.next}"'
        total = "null" if page.total is None else page.total
        searched_to = "null" if page.searched_to is None else f'"{format_timestamp(page.searched_to)}"'
        ends = f'"total":{total},"next":{after},"newest":"{page.newest}","searched_to":{searched_to}'
        content = f'{{"triggers":[{",".join(page.bodies)}],{ends}}}'
        return Response(content, media_type="application/json")
