"""trigger/: accepts triggers, and returns those that are stored."""

from __future__ import annotations

import time
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brockman.collector.auth import check_key
from brockman.collector.browsers import Origins
from brockman.collector.ingest import RefusedBody, parse_body, rejected_entries
from brockman.collector.load import Load
from brockman.collector.metrics import Metrics
from brockman.collector.query import parse_query
from brockman.collector.request_body import check_headers, inflated_size, read_body
from brockman.collector.responses import json_response
from brockman.collector.sender_headers import read_sender
from brockman.collector.settings import Settings
from brockman.collector.store.base import Store
from brockman.collector.store.refused import Refused
from brockman.collector.store.senders import Senders
from brockman.collector.timestamps import format_timestamp

_PATH = "/api/v1/trigger/"


def routes(store: Store, refused: Refused, settings: Settings, load: Load, metrics: Metrics) -> list[Route]:
    origins = Origins(settings.allowed_origins)
    intake = _Intake(store, refused, settings, load, metrics)

    async def list_triggers(request: Request) -> Response:
        check_key(request, settings)
        return await run_in_threadpool(_read, store, request)

    async def record(request: Request) -> Response:
        if request.method == "OPTIONS":  # no preflight: the middleware answers those
            raise HTTPException(405)
        is_page = origins.check(request)
        check_key(request, settings, is_write=True)
        return await intake.accept(request, is_page=is_page)

    return [
        Route(_PATH, list_triggers, methods=["GET"]),
        # Another origin may post, and read nothing.
        Route(_PATH, record, methods=["POST", "OPTIONS"], middleware=[origins.middleware()]),
    ]


def _read(store: Store, request: Request) -> Response:
    page = store.page(parse_query(request.query_params.multi_items()))
    # The bodies are JSON already. `next` is a string: an opaque cursor.
    after = "null" if page.next is None else f'"{page.next}"'
    total = "null" if page.total is None else page.total
    searched_to = "null" if page.searched_to is None else f'"{format_timestamp(page.searched_to)}"'
    ends = f'"total":{total},"next":{after},"newest":"{page.newest}","searched_to":{searched_to}'
    content = f'{{"triggers":[{",".join(page.bodies)}],{ends}}}'
    return Response(content, media_type="application/json")


class _Intake:
    """Accepts the triggers of requests. Parsing and disk access run in a worker thread."""

    def __init__(self, store: Store, refused: Refused, settings: Settings, load: Load, metrics: Metrics) -> None:
        self._store = store
        self._refused = refused
        self._senders = Senders(store)
        self._settings = settings
        self._load = load
        self._metrics = metrics

    async def accept(self, request: Request, *, is_page: bool) -> Response:
        max_bytes = self._settings.max_body_bytes
        is_gzip = check_headers(request, max_bytes, is_page=is_page)
        with self._load.body() as hold:
            body = await read_body(request, max_bytes, self._settings.body_timeout, hold)
            size = inflated_size(body, max_bytes) if is_gzip else len(body)
            hold(size - len(body) if is_gzip else 0)
            await self._load.work.enter(size)
            try:
                return await run_in_threadpool(self._store_body, body, is_gzip, request.headers)
            finally:
                self._load.work.leave(size)

    def _store_body(self, body: bytes, is_gzip: bool, headers: Headers) -> Response:
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
