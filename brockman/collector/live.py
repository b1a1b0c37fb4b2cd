"""The stream of new triggers, as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Each event has the triggers that were stored since the one before, and the cursor behind them as its id: a reader
that comes back with it in `Last-Event-ID` misses nothing. When more arrive than a person can read, an event has
the newest, and says that others were left out; so is a trigger that is too big.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from brockman.collector.auth import check_key
from brockman.collector.errors import StoreUnavailable
from brockman.collector.query import parse_query
from brockman.collector.settings import Settings
from brockman.collector.store.base import Store
from brockman.collector.store.values import Page, Query

T = TypeVar("T")
MAX_STREAMS = 100
_READ_AT_ONCE = 2
_AT_ONCE = 200  # triggers in an event
_MAX_TRIGGER_CHARS = 256 * 1024  # of one that an event has
_MAX_EVENT_CHARS = 256 * 1024  # and one more trigger: each stream may have an event that its reader does not take
_PAUSE = 0.2  # seconds between two events of a stream
_HEARTBEAT = 15.0  # seconds without an event after which a comment is sent, so that no proxy ends the connection
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def routes(streams: Streams, settings: Settings) -> list[Route]:
    async def stream(request: Request) -> Response:
        check_key(request, settings)
        return await streams.open(request)

    return [Route("/api/v1/stream/", stream, methods=["GET"])]


class _Stream(StreamingResponse):
    """The response that is one stream."""

    def __init__(self, streams: Streams, query: Query) -> None:
        self._streams = streams
        self._query = query
        super().__init__((), media_type="text/event-stream", headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.wakeup() as wakeup:  # at once: nothing else runs after the streams were counted
            self.body_iterator = self._streams.events(self._query, wakeup)
            await super().__call__(scope, receive, send)


class Streams:
    """The open streams of one collector. Used in the event loop only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wakeups: set[asyncio.Event] = set()
        self._closed = False
        self._limiter: CapacityLimiter | None = None  # made in the event loop

    async def open(self, request: Request) -> Response:
        """Return a response that goes on until the client leaves or the collector stops."""
        parameters = [(name, text) for name, text in request.query_params.multi_items() if name != "after"]
        query = replace(parse_query(parameters), count=False, newest_first=False)
        query = replace(query, limit=_AT_ONCE, max_bytes=_MAX_EVENT_CHARS)
        cursor = request.headers.get("last-event-id") or request.query_params.get("after")
        if cursor is not None:
            query = replace(query, after=parse_query([("after", cursor)]).after)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream", headers=_HEADERS)
        newest = (await self._in_thread(self._store.page, Query(limit=1, count=False))).newest
        if self._closed or len(self._wakeups) >= MAX_STREAMS:
            raise HTTPException(503, f"{len(self._wakeups)} streams are open", {"Retry-After": "5"})
        return _Stream(self, replace(query, after=newest if query.after is None else query.after))

    def __len__(self) -> int:
        return len(self._wakeups)

    def close(self) -> None:
        """End all streams: the collector stops."""
        self._closed = True
        for wakeup in self._wakeups:
            wakeup.set()

    @contextmanager
    def wakeup(self) -> Iterator[asyncio.Event]:
        """Yield an event that is set when triggers were stored, and when the collector stops."""
        loop, wakeup = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(wakeup.set)

        end = self._store.watch(wake)
        self._wakeups.add(wakeup)
        try:
            yield wakeup
        finally:
            self._wakeups.discard(wakeup)
            end()

    async def events(self, query: Query, wakeup: asyncio.Event) -> AsyncIterator[str]:
        """Yield the text of the events; end when the store cannot be read, for the reader to come back."""
        yield f"retry: 1000\nid: {query.after}\nevent: ready\ndata: {{}}\n\n"
        while not self._closed:
            wakeup.clear()
            try:
                page, has_gap = await self._in_thread(self._read, query)
            except StoreUnavailable:
                return
            query = replace(query, after=page.newest)
            if page.arrivals:
                event = _event(page, has_gap)
                del page  # while the reader takes its time
                yield event
                await asyncio.sleep(_PAUSE)
            try:
                await asyncio.wait_for(wakeup.wait(), _HEARTBEAT)
            except asyncio.TimeoutError:
                yield ": nothing new\n\n"

    async def _in_thread(self, call: Callable[[Query], T], query: Query) -> T:
        """Call a function in a thread; few at a time, so that other requests have the rest."""
        self._limiter = self._limiter or CapacityLimiter(_READ_AT_ONCE)
        return await run_sync(call, query, limiter=self._limiter)

    def _read(self, query: Query) -> tuple[Page, bool]:
        """Return what is new, the oldest first, and whether some of it is left out."""
        page = self._store.page(query)
        if has_gap := page.next is not None:
            newest = self._store.page(replace(query, newest_first=True, after=None))
            page = replace(newest, bodies=newest.bodies[::-1])
        bodies = [body for body in page.bodies if len(body) <= _MAX_TRIGGER_CHARS]
        return replace(page, bodies=bodies), has_gap or len(bodies) < len(page.bodies)


def _event(page: Page, has_gap: bool) -> str:
    data = f'{{"triggers":[{",".join(page.bodies)}],"gap":{"true" if has_gap else "false"}}}'
    return f"id: {page.newest}\nevent: triggers\ndata: {data}\n\n"
