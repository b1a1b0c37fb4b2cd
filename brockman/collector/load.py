"""A bound for all requests together; beyond it they are answered with 429, and sent again later.

The bodies that are held, the work on them, the reads of the store, and the responses that clients have not read
are bounded, so that memory and the time that a request waits are too. Used in the event loop only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brockman.collector.responses import error_response

_MAX_HEADERS = 100
_READS_AT_ONCE = 4  # each may hold a page of 16 MiB
_WAITING_READS = 64
_MAX_UNREAD_BYTES = 64 * 1024 * 1024  # of responses
_WORK_AT_ONCE = 8 * 1024 * 1024  # bytes of bodies that are parsed and stored; parsing takes many times as many
_RETRY_AFTER = {"Retry-After": "1"}


class Queue:
    """Lets in what fits into a number, in the order of arrival; what is larger than it, alone."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def enter(self, size: int) -> None:
        """Return when there is room. `leave` is to be called afterwards, and not if this is cancelled."""
        if not self._waiting and self._has_room(size):
            self._used += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._let_in()
            else:
                self.leave(size)
            raise

    def leave(self, size: int) -> None:
        self._used -= size
        self._let_in()

    def _has_room(self, size: int) -> bool:
        return self._used == 0 or self._used + size <= self._capacity

    def _let_in(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._has_room(self._waiting[0][0])):
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._used += size
                turn.set_result(None)


class Load:
    """The load of one collector."""

    def __init__(self, max_body_bytes: int, unread: Callable[[], int]) -> None:
        """`max_body_bytes` is for all bodies together, `unread` returns the bytes of responses not read yet."""
        self.body_bytes = 0
        self._max_body_bytes = max_body_bytes
        self._unread = unread
        self.work = Queue(_WORK_AT_ONCE)  # for the size of a body, decompressed, while it is parsed and stored
        self._reads = Queue(_READS_AT_ONCE)

    @contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """Yield what counts bytes of a body as they arrive; reject the request with 429 when there are too many.

        A body that has begun may take as much again, so that what was sent is seldom sent for nothing.
        """
        if self.body_bytes >= self._max_body_bytes:
            raise _busy("bodies of other requests")
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if self.body_bytes + size > 2 * self._max_body_bytes:
                raise _busy("bodies of other requests")
            held += size
            self.body_bytes += size

        try:
            yield hold
        finally:
            self.body_bytes -= held

    async def begin_read(self) -> None:
        """Wait until the store can be read; `end_read` is to be called afterwards, unless this raises."""
        if self._reads.waiting >= _WAITING_READS:
            raise _busy("other reads")
        await self._reads.enter(1)
        if self._unread() > _MAX_UNREAD_BYTES:
            self._reads.leave(1)
            raise _busy("responses that were not read")

    def end_read(self) -> None:
        self._reads.leave(1)


class Bounds:
    """ASGI middleware that bounds the headers of a request, and the requests that read the store.

    Streams are counted elsewhere.
    """

    def __init__(self, app: ASGIApp, load: Load) -> None:
        self._app = app
        self._load = load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and len(scope["headers"]) > _MAX_HEADERS:
            error = HTTPException(431, f"{len(scope['headers'])} headers; send at most {_MAX_HEADERS}")
            await error_response(Request(scope), error)(scope, receive, send)
            return
        if (
            scope["type"] != "http"
            or scope["method"] not in ("GET", "HEAD")
            or not scope["path"].startswith("/api/v1/")
            or scope["path"] == "/api/v1/stream/"
        ):
            await self._app(scope, receive, send)
            return
        try:
            await self._load.begin_read()
        except HTTPException as error:
            await error_response(Request(scope), error)(scope, receive, send)
            return
        is_reading = True

        async def send_and_end(message: Message) -> None:
            nonlocal is_reading
            await send(message)
            if is_reading:  # what is read while it is sent is read as the client takes it
                is_reading = False
                self._load.end_read()

        try:
            await self._app(scope, receive, send_and_end)
        finally:
            if is_reading:
                self._load.end_read()


def _busy(what: str) -> HTTPException:
    return HTTPException(429, f"too much to do: {what}; send this again later", _RETRY_AFTER)
